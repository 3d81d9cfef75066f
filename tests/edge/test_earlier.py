"""B11 at the edge: after a deploy, a promote or a rollback, open pages still find the files of their own build."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.edge.client import Client
from tests.edge.conftest import Platform, eventually

from vclone_core.models import AliasKind, EarlierFile, FileEntry, Route, Site
from vclone_core.rules.manifests import decode_manifest
from vclone_edge.app import build_app
from vclone_edge.explain import explain
from vclone_edge.parts import EdgeParts

HOST = "shop.localhost"
ONE, TWO = "/assets/app.11111a11.js", "/assets/app.22222b22.js"
SPA = (Route(handle="filesystem"), Route(src="/.*", dest="/index.html"))
FIRST = {"/index.html": b"first", ONE: b"js of the first"}
SECOND = {"/index.html": b"second", TWO: b"js of the second"}


async def publish_both(platform: Platform, edge: EdgeParts, *, age_s: int = 0, routes: tuple[Route, ...] = ()) -> Site:
    """Publish two builds one after the other, the second with what a build carries forward of the first."""
    first = await platform.publish(HOST, FIRST, routes=routes)
    await Client(build_app(edge)).get(f"http://{HOST}/")
    replaced_s = int(time.time()) - age_s
    earlier = {ONE: EarlierFile(entries(platform, first)[ONE], replaced_s)}
    site = await platform.publish(
        HOST, SECOND, routes=routes, earlier=earlier, previous_deployment_id=first.deployment_id
    )
    await eventually(lambda: edge.control.version == site.version)
    return first


def entries(platform: Platform, site: Site) -> dict[str, FileEntry]:
    path: Path = platform.folder / "objects" / site.manifest_key
    return dict(decode_manifest(path.read_bytes()).files)


@pytest.mark.parametrize("routes", [(), SPA], ids=["404", "single page"])
@pytest.mark.product("B11.1", "B11.3")
async def test_files_of_the_build_before_are_served_like_its_own(
    platform: Platform, edge: EdgeParts, client: Client, routes: tuple[Route, ...]
) -> None:
    await publish_both(platform, edge, routes=routes)
    reply = await client.get(f"http://{HOST}{ONE}")
    assert (reply.status, reply.body) == (200, b"js of the first")
    assert reply["cache-control"] == "public, max-age=31536000, immutable"
    assert reply["set-cookie"] is None
    assert (await client.get(f"http://{HOST}{ONE}"))["x-vclone-cache"] == "HIT"
    assert (await client.get(f"http://{HOST}{ONE}", headers={"if-none-match": reply["etag"] or ""})).status == 304
    assert (await client.get(f"http://{HOST}{TWO}")).body == b"js of the second"
    assert (await client.get(f"http://{HOST}/")).body == b"second"
    never = await client.get(f"http://{HOST}/assets/app.33333c33.js")
    assert never.body != b"js of the first"
    assert edge.manifests.loads == 2


@pytest.mark.product("B1.3")
async def test_deployment_host_serves_exactly_its_build(platform: Platform, edge: EdgeParts, client: Client) -> None:
    first = await publish_both(platform, edge)
    own = platform.peer.sites[HOST]
    for host, site in (("one.localhost", first), ("two.localhost", own)):
        copied = {name: getattr(site, name) for name in Site.__slots__} | {"kind": AliasKind.DEPLOYMENT}
        platform.peer.move(host, Site(**copied))
    assert (await client.get("http://one.localhost" + ONE)).status == 200
    assert (await client.get("http://one.localhost" + TWO)).status == 404
    assert (await client.get("http://two.localhost" + ONE)).status == 404
    assert (await client.get("http://two.localhost" + TWO)).status == 200


@pytest.mark.product("B11.2")
async def test_age_is_bounded(platform: Platform, client: Client, edge: EdgeParts) -> None:
    await publish_both(platform, edge, age_s=8 * 86_400)
    assert (await client.get(f"http://{HOST}{ONE}")).status == 404


async def test_it_can_be_turned_off(platform: Platform) -> None:
    edge = await platform.start_edge(earlier_assets_days=0)
    await publish_both(platform, edge)
    assert (await Client(build_app(edge)).get(f"http://{HOST}{ONE}")).status == 404


@pytest.mark.product("B11.1")
async def test_pages_of_the_newer_build_go_on_after_a_rollback(
    platform: Platform, client: Client, edge: EdgeParts
) -> None:
    """The manifest that comes back was written before the files it lacks: the deployment before it has them."""
    first = await publish_both(platform, edge)
    newer = platform.peer.sites[HOST]
    back = {name: getattr(first, name) for name in Site.__slots__}
    version = platform.peer.move(HOST, Site(**{**back, "previous_deployment_id": newer.deployment_id}))
    await eventually(lambda: edge.control.version == version)
    assert (await client.get(f"http://{HOST}/")).body == b"first"
    reply = await client.get(f"http://{HOST}{TWO}")
    assert (reply.status, reply.body) == (200, b"js of the second")
    assert (await client.get(f"http://{HOST}{ONE}")).body == b"js of the first"
    assert (await client.get(f"http://{HOST}/assets/app.33333c33.js")).status == 404
    found = await explain(edge, f"http://{HOST}{TWO}")
    assert (found.status, found.file, found.is_earlier) == (200, TWO, True)

    # Also by an edge that was started since.
    fresh = Client(build_app(await platform.start_edge()))
    assert (await fresh.get(f"http://{HOST}{TWO}")).body == b"js of the second"


@pytest.mark.product("B11.1")
async def test_pages_of_the_newest_build_go_on_after_two_steps_back(
    platform: Platform, client: Client, edge: EdgeParts
) -> None:
    """Neither the build that is shown nor the one before knows the newest: it was built after both."""
    first = await publish_both(platform, edge)
    second = platform.peer.sites[HOST]
    three = "/assets/app.33333c33.js"
    earlier = {TWO: EarlierFile(entries(platform, second)[TWO], int(time.time()))}
    third = await platform.publish(
        HOST,
        {"/index.html": b"third", three: b"js of the third"},
        earlier=earlier,
        previous_deployment_id=second.deployment_id,
    )
    version = 0
    for shown, before in ((second, third), (first, second)):
        moved = replace(shown, previous_deployment_id=before.deployment_id, newest_deployment_id=third.deployment_id)
        version = platform.peer.move(HOST, moved)
    await eventually(lambda: edge.control.version == version)
    assert (await client.get(f"http://{HOST}/")).body == b"first"
    for path, body in ((three, b"js of the third"), (TWO, b"js of the second"), (ONE, b"js of the first")):
        reply = await client.get(f"http://{HOST}{path}")
        assert (reply.status, reply.body) == (200, body)
    assert (await explain(edge, f"http://{HOST}{three}")).is_earlier
    assert (await client.get(f"http://{HOST}/assets/app.44444d44.js")).status == 404


async def test_deployment_before_that_was_removed_has_no_files(
    platform: Platform, client: Client, edge: EdgeParts
) -> None:
    await platform.publish(HOST, FIRST, previous_deployment_id="dep_removed")
    assert (await client.get(f"http://{HOST}{TWO}")).status == 404
    assert (await client.get(f"http://{HOST}/nothing.js")).status == 404
    # What does not look like a fingerprinted file asks no store.
    loads = edge.manifests.loads
    assert (await client.get(f"http://{HOST}/wp-login.php")).status == 404
    assert edge.manifests.loads == loads


async def test_explanation_tells_an_earlier_file(platform: Platform, edge: EdgeParts, client: Client) -> None:
    await publish_both(platform, edge, routes=SPA)
    for path, is_earlier in ((ONE, True), (TWO, False), ("/", False), ("/assets/app.33333c33.js", False)):
        found = await explain(edge, f"http://{HOST}{path}")
        reply = await client.get(f"http://{HOST}{path}")
        assert (found.status, found.is_earlier) == (reply.status, is_earlier)
        assert (b"etag", (reply["etag"] or "").encode()) in found.headers


@pytest.mark.product("B11.1")
async def test_page_loads_over_many_deploys_and_rollbacks_find_every_file(
    platform: Platform, client: Client, edge: EdgeParts
) -> None:
    """R5: a page is loaded, then its file is asked for after the next switch, 60 times."""
    carried: dict[str, EarlierFile] = {}
    before: Site | None = None
    sites: list[tuple[Site, str]] = []
    for n in range(60):
        name = f"/assets/app.{n:07x}a.js"
        if n % 5 == 4:  # Back to the one before, and forward again.
            assert before is not None
            target, shown = sites[-2]
            copied = {key: getattr(target, key) for key in Site.__slots__}
            version = platform.peer.move(HOST, Site(**{**copied, "previous_deployment_id": before.deployment_id}))
            before = platform.peer.sites[HOST]
            name = shown
        else:
            files = {"/index.html": name.encode(), name: f"js {n}".encode()}
            previous = None if before is None else before.deployment_id
            before = await platform.publish(HOST, files, earlier=dict(carried), previous_deployment_id=previous)
            carried[name] = EarlierFile(entries(platform, before)[name], int(time.time()))
            version = before.version
            sites.append((before, name))
        page = (await client.get(f"http://{HOST}/")).body.decode()
        await eventually(lambda version=version: edge.control.version == version)
        assert (await client.get(f"http://{HOST}/")).body.decode() == name
        if page.startswith("/assets/"):
            assert (await client.get(f"http://{HOST}{page}")).status == 200
