"""The app, driven as a server drives it, over a real object store."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.edge.client import Client, Reply
from tests.edge.conftest import Platform, eventually

from vclone_core.models import AliasKind, Route
from vclone_core.rules.objectkeys import blob_key
from vclone_core.rules.sites import CLOSED
from vclone_edge.app import build_app, make_app
from vclone_edge.blobs import ADMIT_BYTES
from vclone_edge.explain import explain
from vclone_edge.parts import EdgeParts

FILES = {
    "/index.html": b"<h1>hi</h1>",
    "/404.html": b"lost",
    "/app.1f2e.js": b"let a",
    "/big.bin": b"b" * (3 * 1024 * 1024),
}
HOST = "shop.localhost"


@pytest.fixture
async def site(platform: Platform, edge: EdgeParts) -> None:
    await platform.publish(HOST, FILES, variants={"/index.html": {"br": b"squeezed"}})


pytestmark = pytest.mark.usefixtures("site")


@pytest.mark.product("B13.1", "B13.2", "B13.4")
async def test_page_is_served(client: Client) -> None:
    first, second = await client.get(f"http://{HOST}:8080/"), await client.get(f"http://{HOST}/index.html")
    for reply, cache in ((first, "MISS"), (second, "HIT")):
        assert (reply.status, reply.body) == (200, b"<h1>hi</h1>")
        assert reply["x-vclone-cache"] == cache
        assert reply["content-length"] == "11"
        assert re.fullmatch(r"req_[0-9a-z]{20}", reply["x-vclone-id"] or "")
    assert first["x-vclone-id"] != second["x-vclone-id"]
    assert (first["age"], second["age"]) == (None, "0")


@pytest.mark.product("B6.3")
async def test_head_has_the_header_fields_of_get_and_no_body(client: Client) -> None:
    get, head = await client.get(f"http://{HOST}/"), await client.get(f"http://{HOST}/", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    per_request = {"x-vclone-id", "x-vclone-cache", "age"}
    assert [pair for pair in head.headers if pair[0] not in per_request] == [
        pair for pair in get.headers if pair[0] not in per_request
    ]
    lost = await client.get(f"http://{HOST}/none", method="HEAD")
    assert (lost.status, lost.body, lost["content-length"]) == (404, b"", "4")


@pytest.mark.product("B7.1", "B7.2")
async def test_variant_is_chosen(client: Client) -> None:
    reply = await client.get(f"http://{HOST}/", headers={"Accept-Encoding": "gzip, br"})
    assert (reply.body, reply["content-encoding"], reply["vary"]) == (b"squeezed", "br", "accept-encoding")


@pytest.mark.product("B6.1")
async def test_unchanged_file_is_304_after_a_redeploy(client: Client, platform: Platform, edge: EdgeParts) -> None:
    etag = (await client.get(f"http://{HOST}/"))["etag"] or ""
    version = (await platform.publish(HOST, {**FILES, "/new.html": b"new"})).version
    await eventually(lambda: edge.control.version == version)
    reply = await client.get(f"http://{HOST}/", headers={"If-None-Match": etag})
    assert (reply.status, reply.body, reply["content-length"]) == (304, b"", None)
    assert (await client.get(f"http://{HOST}/new.html")).status == 200


async def test_answers_without_bytes_never_touch_the_store(client: Client, edge: EdgeParts) -> None:
    await client.get(f"http://{HOST}/", method="HEAD")
    etag = (await client.get(f"http://{HOST}/", method="HEAD"))["etag"] or ""
    for headers in ({"If-None-Match": etag}, {"If-Match": '"x"'}, {"Range": "bytes=99-"}):
        assert (await client.get(f"http://{HOST}/", headers=headers)).status in {304, 412, 416}
    assert (await client.get(f"http://{HOST}/", method="POST")).status == 405
    assert edge.blobs.fills == 0


async def test_ranges_of_small_and_large_files(client: Client) -> None:
    small = await client.get(f"http://{HOST}/", headers={"Range": "bytes=1-2"})
    assert (small.status, small.body, small["content-range"]) == (206, b"h1", "bytes 1-2/11")
    large = await client.get(f"http://{HOST}/big.bin", headers={"Range": "bytes=-70000"})
    assert (large.status, large.body, large["content-length"]) == (206, b"b" * 70000, "70000")


async def test_large_file_is_streamed_or_handed_to_the_server(client: Client, edge: EdgeParts, tmp_path: Path) -> None:
    reply = await client.get(f"http://{HOST}/big.bin")
    assert hashlib.sha256(reply.body).digest() == hashlib.sha256(FILES["/big.bin"]).digest()
    assert reply["x-vclone-cache"] == "MISS"
    reply = await client.get(f"http://{HOST}/big.bin", extensions={"http.response.pathsend": {}})
    assert reply.path is not None
    assert Path(reply.path).read_bytes() == FILES["/big.bin"]
    assert reply["content-length"] == str(len(FILES["/big.bin"]))
    assert edge.blobs.used_bytes < ADMIT_BYTES


@pytest.mark.product("B1.4")
async def test_unknown_hosts_get_one_constant_page(client: Client) -> None:
    bodies = set()
    for host in ("nope.localhost", "x.example", "10.0.0.1", "a" * 63 + ".example", "[::1]"):
        reply = await client.get(f"http://{host}/<script>?q=<b>")
        assert (reply.status, reply["cache-control"]) == (404, "public, max-age=0, must-revalidate")
        bodies.add(reply.body)
    assert len(bodies) == 1


@pytest.mark.parametrize(
    ("fields", "version"),
    [
        ([], "1.1"),
        ([(b"host", b"")], "1.1"),
        ([(b"host", b"shop.localhost"), (b"host", b"shop.localhost")], "1.1"),
        ([(b"host", b"shop.localhost"), (b"host", b"other.localhost")], "2"),
        ([(b"host", b"a b")], "1.1"),
        ([(b"host", b"a@b:99999/x?y#z")], "1.1"),
        ([(b"host", b"shop.localhost"), (b"content-length", b"1"), (b"transfer-encoding", b"chunked")], "1.1"),
        ([(b"host", b"shop.localhost"), (b"transfer-encoding", b"chunked")], "1.0"),
        ([(b"host", b"shop.localhost")], "1.9"),
    ],
)
@pytest.mark.product("B1.5")
async def test_malformed_requests_are_refused(client: Client, fields: list[tuple[bytes, bytes]], version: str) -> None:
    reply = await client.get("http:///", fields=fields, http_version=version)
    assert reply.status == 400
    assert reply["connection"] == (None if version == "2" else "close")


async def test_authority_twice_over_http2_is_one_host(client: Client) -> None:
    fields = [(b"host", HOST.encode()), (b"host", HOST.encode())]
    assert (await client.get("http:///", fields=fields, http_version="2")).status == 200
    assert (await client.get("http:///", fields=fields, http_version="1.1")).status == 400


@pytest.mark.product("B1.5")
async def test_absolute_form_must_name_the_host(client: Client) -> None:
    good = await client.get(f"http://{HOST}/", raw_path=f"http://{HOST}/".encode())
    bad = await client.get(f"http://{HOST}/", raw_path=b"http://other.localhost/")
    assert (good.status, bad.status) == (200, 400)


@pytest.mark.parametrize(
    "raw",
    [b"/../x", b"/%2e%2e/x", b"/..%2f..%2fetc", b"/%00", b"/a%5cb", b"/%ff", b"*", b"\xc3\xbc", b"/" + b"a" * 9000],
)
async def test_hostile_paths_are_refused(client: Client, raw: bytes) -> None:
    reply = await client.get(f"http://{HOST}/", raw_path=raw)
    assert reply.status in {400, 414}


@pytest.mark.product("B13.1")
async def test_header_fields_of_the_platform_are_not_the_visitors_to_set(client: Client) -> None:
    headers = {"X-Vclone-Id": "mine", "X-Forwarded-Host": "other.localhost"}
    reply = await client.get(f"http://{HOST}/", headers=headers)
    assert reply.status == 200
    assert reply["x-vclone-id"] != "mine"


@pytest.mark.product("B13.3")
async def test_no_rule_says_who_serves(client: Client, platform: Platform) -> None:
    said = {"server": "other", "x-vclone-cache": "HIT", "x-vclone-id": "mine", "age": "9", "x-mine": "1"}
    routes = (
        Route(src="/.*", headers=said, is_continue=True),
        Route(src="/old", status=308, headers={"location": "/"}),
    )
    await platform.publish("said.localhost", FILES, routes=routes)
    for path in ("/", "/none", "/old", "/big.bin"):
        reply = await client.get(f"http://said.localhost{path}")
        assert reply["server"] == "vclone"
        assert (reply["x-vclone-id"] or "").startswith("req_")
        assert reply["age"] is None
    assert (await client.get("http://nope.localhost/"))["server"] == "vclone"


async def test_preview_is_not_indexed(client: Client, platform: Platform) -> None:
    await platform.publish("x-shop.localhost", FILES, kind=AliasKind.DEPLOYMENT)
    assert (await client.get("http://x-shop.localhost/"))["x-robots-tag"] == "noindex"
    assert (await client.get(f"http://{HOST}/"))["x-robots-tag"] is None


@pytest.mark.product("B1.2")
async def test_host_that_redirects_keeps_path_and_query(client: Client, platform: Platform) -> None:
    await platform.publish("www.shop.example", FILES, kind=AliasKind.CUSTOM, redirect_to="shop.example")
    reply = await client.get("http://www.shop.example/a%20b?c=d")
    assert (reply.status, reply["location"]) == (308, "http://shop.example:8080/a%20b?c=d")


async def test_protected_site_is_closed(client: Client, platform: Platform) -> None:
    await platform.publish("secret.localhost", FILES, protection=CLOSED)
    reply = await client.get("http://secret.localhost/")
    assert reply.status == 401
    assert FILES["/index.html"] not in reply.body


async def test_request_bodies_are_drained_and_large_ones_close(client: Client) -> None:
    small = await client.request("POST", f"http://{HOST}/", headers={"Content-Length": "3"}, body=[b"abc"])
    large = await client.request(
        "POST", f"http://{HOST}/", headers={"Content-Length": "300000"}, body=[b"x" * 30_000] * 10
    )
    assert (small.status, small["connection"]) == (405, None)
    assert (large.status, large["connection"]) == (405, "close")


async def test_readiness_is_for_loopback_names_only(client: Client) -> None:
    path = "/.well-known/vclone/ready"
    for host in ("127.0.0.1:8080", "localhost", "[::1]:8080"):
        assert (await client.get(f"http://{host}{path}")).body == b"ready\n"
    assert (await client.get(f"http://{HOST}{path}")).status == 404


async def test_metrics_are_for_this_machine_only(client: Client, platform: Platform, edge: EdgeParts) -> None:
    await client.get(f"http://{HOST}/")
    assert (await client.get("http://127.0.0.1/.well-known/vclone/metrics")).status == 404
    near = Client(build_app(edge), address="127.0.0.1")
    assert (await near.get(f"http://{HOST}/.well-known/vclone/metrics")).status == 404
    reply = await near.get("http://localhost/.well-known/vclone/metrics")
    assert (reply.status, reply["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = reply.body.decode().splitlines()
    assert f'vclone_edge_requests_total{{edge="{edge.edge_id}"}} 4' in lines
    assert f'vclone_edge_responses_total{{edge="{edge.edge_id}",status="4xx"}} 2' in lines
    samples = [line for line in lines if not line.startswith("#")]
    assert len({line.rpartition(" ")[0] for line in samples}) == len(samples)
    assert all(
        re.fullmatch(r'vclone_edge_[a-z_]+\{edge="[^"]+"(,status="\dxx")?\} [0-9.e+]+', line) for line in samples
    )


async def test_missing_or_damaged_object_is_never_a_page(client: Client, platform: Platform) -> None:
    site = await platform.publish(
        "hurt.localhost", {"/a.html": b"a" * 100, "/b.html": b"b" * 100, "/c.bin": b"c" * (2 << 20)}
    )
    objects = platform.folder / "objects"

    def path(content: bytes) -> Path:
        return objects / blob_key(site.project_id, hashlib.sha256(content).hexdigest())

    path(b"a" * 100).unlink()
    path(b"b" * 100).write_bytes(b"B" * 100)
    path(b"c" * (2 << 20)).write_bytes(b"c" * 100)
    for name in ("a.html", "b.html", "c.bin"):
        reply = await client.get(f"http://hurt.localhost/{name}")
        assert (reply.status, reply["retry-after"], reply["cache-control"]) == (503, "5", "no-store")
        assert (reply["x-vclone-id"] or "?").encode() in reply.body


async def test_lifespan_starts_and_stops_the_parts(platform: Platform) -> None:
    parts = platform.build()
    app = build_app(parts)
    received: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    sent: list[str] = []

    async def send(message: dict[str, str]) -> None:
        sent.append(message["type"])

    life = asyncio.create_task(app({"type": "lifespan"}, received.get, send))
    received.put_nowait({"type": "lifespan.startup"})
    await eventually(lambda: parts.is_ready)
    assert (await Client(app).get(f"http://{HOST}/")).status == 200
    received.put_nowait({"type": "lifespan.shutdown"})
    await life
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_store_that_cannot_start_fails_the_start_with_a_reason(platform: Platform) -> None:
    (platform.folder / "objects").rename(platform.folder / "moved")
    (platform.folder / "objects").write_text("in the way")
    app = make_app(platform.build().settings)
    sent: list[dict[str, str]] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, str]) -> None:
        sent.append(message)

    await app({"type": "lifespan"}, receive, send)
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert "object store" in sent[0]["message"]


@pytest.mark.product("B13.1")
async def test_access_log_has_one_line_per_request(platform: Platform, capfd: pytest.CaptureFixture[str]) -> None:
    parts = await platform.start_edge(log_format="json")
    reply = await Client(build_app(parts)).get(f"http://{HOST}/?secret=1")
    parts.access_log.flush()
    lines = [line for line in capfd.readouterr().err.splitlines() if '"event": "request"' in line]
    assert len(lines) == 1
    assert (reply["x-vclone-id"] or "?") in lines[0]
    assert "secret" not in lines[0]
    assert '"client": "192.0.2.7"' in lines[0]


ROUTES = (
    Route(src="/old", status=308, headers={"location": "/new"}),
    Route(src="/gone", status=410),
    Route(src="/(.*)", headers={"x-a": "$1"}, is_continue=True),
    Route(handle="filesystem"),
    Route(src="/far/(.*)", dest="https://x.example/$1"),
    Route(src="/app/.*", dest="/index.html", check=True, has=({"type": "header", "key": "accept"},)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    host=st.sampled_from([HOST, "ruled.localhost", "nope.localhost", "-bad-"]),
    path=st.sampled_from(
        ["/", "/old", "/gone", "/far/x", "/app/x", "/none", "/a b", "/../x", "/big.bin", "/app.1f2e.js"]
    ),
    query=st.sampled_from(["", "?a=1"]),
    method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS"]),
    headers=st.dictionaries(
        st.sampled_from(["accept", "accept-encoding", "range", "if-none-match"]),
        st.sampled_from(["*", "br", "bytes=0-1", "text/html", "identity;q=0"]),
    ),
)
@pytest.mark.product("B14.1")
async def test_explanation_is_what_the_app_does(
    platform: Platform,
    edge: EdgeParts,
    client: Client,
    host: str,
    path: str,
    query: str,
    method: str,
    headers: dict[str, str],
) -> None:
    if "ruled.localhost" not in platform.peer.sites:
        await platform.publish("ruled.localhost", FILES, routes=ROUTES)
    explained = await explain(edge, f"http://{host}{path}{query}", method=method, headers=headers)
    quoted = path.replace(" ", "%20")
    reply = await client.request(method, f"http://{host}{quoted}{query}", headers=headers)
    assert _said(reply) == {(name.decode(), value.decode()) for name, value in explained.headers} or (
        explained.error_code is not None and reply.status >= 500
    )
    assert reply.status == explained.status
    if explained.object_key is not None and reply.status == 200:
        content = (platform.folder / "objects" / explained.object_key).read_bytes()
        assert reply.body == (b"" if method == "HEAD" else content)


def _said(reply: Reply) -> set[tuple[str, str]]:
    own = {"x-vclone-id", "x-vclone-cache", "age", "connection"}
    return {pair for pair in reply.headers if pair[0] not in own}
