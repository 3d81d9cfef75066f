"""Manifests on their way into the edge's memory: large ones hold nobody up, bad ones change nothing."""

from __future__ import annotations

import asyncio

import pytest
from tests.edge.client import Client
from tests.edge.conftest import Platform, eventually

from vclone_core.models import AliasKind, Route, Site
from vclone_edge.parts import EdgeParts

HOST = "shop.localhost"
A, B = {"/index.html": b"build A"}, {"/index.html": b"build B"}


async def body_of(client: Client) -> bytes:
    return (await client.get(f"http://{HOST}/")).body


async def test_other_sites_are_answered_while_a_huge_manifest_is_made_ready(
    platform: Platform, client: Client, edge: EdgeParts
) -> None:
    """30,000 redirects take seconds to compile on a busy machine: nobody but their own visitors waits for them."""
    await platform.publish(HOST, A)
    assert await body_of(client) == b"build A"
    routes = tuple(Route(src=f"^/old/{n}$", status=308, headers={"Location": f"/new/{n}"}) for n in range(30_000))
    await platform.publish("huge.localhost", A, routes=routes, project="prj_2")
    first = asyncio.create_task(client.get("http://huge.localhost/old/29999"))
    answered = 0
    while not first.done():
        assert await body_of(client) == b"build A"
        answered += 1
        await asyncio.sleep(0)
    assert (await first)["location"] == "/new/29999"
    assert answered > 30


async def test_oversized_manifest_leaves_the_last_good_one(
    platform: Platform, client: Client, edge: EdgeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R3: what grew beyond all bounds is refused before it is read."""
    monkeypatch.setattr("vclone_edge.manifests.LIMIT_BYTES", 4096)
    await platform.publish(HOST, A)
    assert await body_of(client) == b"build A"
    refusals = edge.manifests.refusals
    routes = tuple(Route(src=f"/old/{n}", dest="/index.html") for n in range(1000))
    version = (await platform.publish(HOST, B, routes=routes)).version
    await eventually(lambda: edge.control.version == version)
    reply = await client.get(f"http://{HOST}/")
    assert (reply.status, reply.body, reply["x-vclone-cache"]) == (200, b"build A", "STALE")
    assert edge.manifests.refusals == refusals + 1


async def test_manifest_that_cannot_be_served_leaves_the_last_good_one(
    platform: Platform, client: Client, edge: EdgeParts
) -> None:
    good = await platform.publish(HOST, A)
    assert await body_of(client) == b"build A"
    await platform.put("prj_1/dep_bad/manifest.json", b'{"version": 1}')
    version = platform.peer.move(
        HOST, Site(HOST, "prj_1", "dep_bad", "prj_1/dep_bad/manifest.json", AliasKind.PRODUCTION, 0)
    )
    await eventually(lambda: edge.control.version == version)
    reply = await client.get(f"http://{HOST}/")
    assert (reply.status, reply.body, reply["x-vclone-cache"]) == (200, b"build A", "STALE")
    version = platform.peer.move(HOST, Site(HOST, "prj_1", "dep_x", "prj_1/dep_x/manifest.json", good.kind, 0))
    await eventually(lambda: edge.control.version == version)
    assert await body_of(client) == b"build A"
    site = await platform.publish(HOST, B)
    await eventually(lambda: edge.control.version == site.version)
    assert await body_of(client) == b"build B"
