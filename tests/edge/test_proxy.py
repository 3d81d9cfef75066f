"""B5 at the edge: rewrites to other servers, over real connections."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.edge.client import Client, Reply
from tests.edge.conftest import Platform, eventually
from tests.edge.other_server import OtherServer, raw_server
from tests.edge.test_https import visitor

from vclone_core.models import AliasKind, Route
from vclone_edge.app import build_app
from vclone_edge.explain import explain
from vclone_edge.parts import EdgeParts
from vclone_edge.stream import StreamAborted

HOST = "shop.localhost"
PAGE = {"/index.html": b"own"}


@pytest.fixture
async def other() -> AsyncIterator[OtherServer]:
    other = OtherServer()
    await other.start()
    yield other
    await other.stop()


async def start(platform: Platform, port: int, *, routes: tuple[Route, ...] = (), **settings: Any) -> EdgeParts:
    edge = await platform.start_edge(outbound_allow="127.0.0.0/8", **settings)
    await platform.publish(HOST, PAGE, routes=(*routes, *lead_to(port)))
    return edge


def lead_to(port: int) -> tuple[Route, ...]:
    return (Route(handle="filesystem"), Route(src="/far(/.*)?", dest=f"http://127.0.0.1:{port}$1"))


def read_fields(reply: Reply) -> dict[str, str]:
    fields = json.loads(reply.body)["fields"]
    assert len({name for name, _ in fields}) == len(fields)
    return dict(fields)


@pytest.mark.product("B5.3", "B13.3")
async def test_request_and_answer_are_passed_on(platform: Platform, other: OtherServer) -> None:
    edge = await start(platform, other.port)
    client = Client(build_app(edge))
    assert (await client.get(f"http://{HOST}/")).body == b"own"
    reply = await client.request(
        "POST",
        f"http://{HOST}/far/echo/a%20b?x=1",
        headers={
            "Authorization": "Bearer t",
            "X-Forwarded-For": "6.6.6.6",
            "X-Forwarded-Host": "evil.example",
            "X-Vclone-Id": "forged",
            "Connection": "x-hop",
            "X-Hop": "1",
            "Content-Length": "5",
        },
        body=[b"he", b"llo"],
    )
    assert reply.status == 200
    said = json.loads(reply.body)
    assert (said["method"], said["target"], said["body"]) == ("POST", "/echo/a%20b?x=1", "hello")
    assert read_fields(reply) == {
        "host": f"127.0.0.1:{other.port}",
        "authorization": "Bearer t",
        "content-length": "5",
        "x-forwarded-for": "192.0.2.7",
        "x-forwarded-host": f"{HOST}:8080",
        "x-forwarded-proto": "http",
        "via": "1.1 vclone",
    }
    assert (reply["server"], reply["x-vclone-cache"], reply["content-length"]) == (
        "vclone",
        "MISS",
        str(len(reply.body)),
    )
    assert (reply["x-vclone-id"] or "").startswith("req_")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
async def test_methods_go_through(platform: Platform, other: OtherServer, method: str) -> None:
    client = Client(build_app(await start(platform, other.port)))
    reply = await client.request(method, f"http://{HOST}/far/echo")
    assert reply.status == 200
    if method == "HEAD":
        assert reply.body == b"" and int(reply["content-length"] or 0) > 0
    else:
        assert json.loads(reply.body)["method"] == method
        assert ("transfer-encoding", "chunked") not in read_fields(reply).items()
    assert (await client.request("TRACE", f"http://{HOST}/far/echo"))["allow"] == (
        "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"
    )


async def test_conditions_ranges_and_redirects_are_the_other_servers(platform: Platform, other: OtherServer) -> None:
    client = Client(build_app(await start(platform, other.port)))
    whole = await client.get(f"http://{HOST}/far/file")
    assert (whole.status, whole.body, whole["etag"], whole["set-cookie"]) == (200, b"0123456789", '"e"', "a=1")
    part = await client.get(f"http://{HOST}/far/file", headers={"Range": "bytes=2-3"})
    assert (part.status, part.body, part["content-range"]) == (206, b"23", "bytes 2-3/10")
    same = await client.get(f"http://{HOST}/far/file", headers={"If-None-Match": '"e"'})
    assert (same.status, same.body) == (304, b"")
    for status in (204, 302, 404, 500, 503):
        reply = await client.get(f"http://{HOST}/far/status/{status}")
        assert reply.status == status
        assert reply["location"] == ("http://127.0.0.1:1/" if status == 302 else None)


async def test_the_platforms_own_word_on_https_counts(platform: Platform, other: OtherServer) -> None:
    shop = await visitor(platform, edge_hsts_s=300, outbound_allow="127.0.0.0/8")
    await platform.publish("far.apps.example", PAGE, routes=lead_to(other.port))
    reply = await shop.ask("http://far.apps.example/far/file", connected_for="far.apps.example")
    assert (reply.status, reply["strict-transport-security"]) == (200, "max-age=300")
    told = await shop.ask("http://far.apps.example/far/echo", connected_for="far.apps.example")
    assert read_fields(told)["x-forwarded-proto"] == "https"


async def test_rules_status_and_headers_count(platform: Platform, other: OtherServer) -> None:
    edge = await platform.start_edge(outbound_allow="127.0.0.0/8")
    routes = (
        Route(src="/.*", headers={"x-rule": "1", "etag": "never"}, is_continue=True),
        Route(src="/gone", dest=f"{other.url}/file", status=404),
        Route(src="/lost", dest=f"{other.url}/status/500", status=404),
    )
    await platform.publish(HOST, PAGE, routes=routes, kind=AliasKind.BRANCH)
    client = Client(build_app(edge))
    reply = await client.get(f"http://{HOST}/gone")
    assert (reply.status, reply.body, reply["x-rule"], reply["etag"]) == (404, b"0123456789", "1", '"e"')
    assert reply["x-robots-tag"] == "noindex"
    assert (await client.get(f"http://{HOST}/lost")).status == 500


async def test_bodies_without_a_length(platform: Platform, other: OtherServer) -> None:
    client = Client(build_app(await start(platform, other.port)))
    chunked = await client.request(
        "POST", f"http://{HOST}/far/echo", headers={"Transfer-Encoding": "chunked"}, body=[b"a", b"b"]
    )
    assert json.loads(chunked.body)["body"] == "ab"
    assert read_fields(chunked)["transfer-encoding"] == "chunked"
    http2 = await client.request("POST", f"http://{HOST}/far/echo", http_version="2", body=[b"a", b"b"])
    assert json.loads(http2.body)["body"] == "ab"
    empty = await client.request("POST", f"http://{HOST}/far/echo", http_version="2")
    assert read_fields(empty)["content-length"] == "0"


async def test_too_large_bodies_are_refused(platform: Platform, other: OtherServer) -> None:
    client = Client(build_app(await start(platform, other.port, edge_proxy_body_bytes=10)))
    told = await client.request("POST", f"http://{HOST}/far/sink", headers={"Content-Length": "11"}, body=[b"a" * 11])
    assert (told.status, other.requests) == (413, 0)
    untold = await client.request(
        "POST", f"http://{HOST}/far/sink", headers={"Transfer-Encoding": "chunked"}, body=[b"a" * 6] * 2
    )
    assert untold.status == 413


@pytest.mark.product("B5.3")
async def test_slow_reader_slows_the_other_server(platform: Platform, other: OtherServer) -> None:
    client = Client(build_app(await start(platform, other.port)))
    hold = asyncio.Event()
    tracemalloc.start()
    request = asyncio.create_task(client.get(f"http://{HOST}/far/stream", hold=hold, leave_after=4 * 1024**2))
    await eventually(lambda: other.sent_bytes > 0)
    sent = -1
    while sent != other.sent_bytes:  # Until the sockets' buffers are full.
        sent = other.sent_bytes
        await asyncio.sleep(0.3)
    assert tracemalloc.get_traced_memory()[1] < 16 * 1024**2
    tracemalloc.stop()
    hold.set()
    await request
    await asyncio.wait_for(other.ended.wait(), 10)


@pytest.mark.product("B5.3")
async def test_slow_server_slows_the_upload(platform: Platform, other: OtherServer) -> None:
    app = build_app(await start(platform, other.port))
    pieces, sent = 600, 0
    taken = asyncio.Event()
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        nonlocal sent
        sent += 1
        if sent > pieces:
            await asyncio.Event().wait()
        taken.set()
        return {"type": "http.request", "body": b"x" * 65536, "more_body": sent < pieces}

    async def send(message: Any) -> None:
        messages.append(message)

    running = asyncio.create_task(app(build_scope("/far/sink", pieces * 65536), receive, send))
    await eventually(lambda: other.requests == 1)
    while taken.is_set():  # Until the sockets' buffers are full.
        taken.clear()
        await asyncio.sleep(0.3)
    assert sent < pieces
    other.runs.set()
    await running
    assert messages[0]["status"] == 200
    assert other.taken_bytes == pieces * 65536


def build_scope(path: str, length: int) -> dict[str, Any]:
    return {
        "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": [(b"host", HOST.encode()), (b"content-length", b"%d" % length)],
        "scheme": "http", "client": ("192.0.2.7", 1), "extensions": {},
    }  # fmt: skip


@pytest.mark.product("B10.3")
async def test_leaving_ends_the_request_there(platform: Platform, other: OtherServer) -> None:
    edge = await start(platform, other.port)
    await Client(build_app(edge)).get(f"http://{HOST}/far/stream", leave_after=100_000)
    await asyncio.wait_for(other.ended.wait(), 10)
    assert edge.counters.clients_gone == 1
    assert (edge.proxy.by_server.used, edge.proxy.by_project.used) == (0, 0)


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 100\r\n\r\nshort",
        b"transfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"transfer-encoding: chunked\r\n\r\nzz\r\nshort",
    ],
)
@pytest.mark.product("B10.4")
async def test_answer_that_breaks_off_never_looks_whole(platform: Platform, head: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        await writer.drain()

    async with raw_server(answer) as port:
        edge = await start(platform, port)
        try:
            # What is wrong with the first bytes may be seen before anything was sent on.
            assert (await Client(build_app(edge)).get(f"http://{HOST}/far/x")).status == 502
        except StreamAborted:
            assert edge.counters.aborted == 1
        assert edge.proxy.failures == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"", b"nonsense\r\n\r\n", b"HTTP/1.1 999999 X\r\n\r\n", b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
    ],
)  # fmt: skip
async def test_answers_that_are_none_are_502(platform: Platform, sent: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        await writer.drain()

    async with raw_server(answer) as port:
        client = Client(build_app(await start(platform, port)))
        reply = await client.get(f"http://{HOST}/far/x")
        assert (reply.status, reply["cache-control"]) == (502, "no-store")
        assert b"127.0.0.1" not in reply.body


async def test_silent_and_missing_servers(platform: Platform, other: OtherServer) -> None:
    client = Client(build_app(await start(platform, other.port, edge_proxy_wait_s=0.3)))
    assert (await client.get(f"http://{HOST}/far/slow")).status == 504
    await other.stop()
    assert (await client.get(f"http://{HOST}/far/echo")).status == 502
    await other.start()  # Its end is the fixture's.


async def test_answer_that_stalls_is_cut(platform: Platform) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort")
        await reader.read()

    async with raw_server(answer) as port:
        client = Client(build_app(await start(platform, port, edge_proxy_wait_s=0.3)))
        with pytest.raises(StreamAborted):
            await client.get(f"http://{HOST}/far/x")


async def test_slow_upload_is_not_the_other_servers_fault(platform: Platform, other: OtherServer) -> None:
    """The time limit is for the other server: a client may take longer for its whole body."""
    edge = await start(platform, other.port, edge_proxy_wait_s=0.5)
    client = Client(build_app(edge))
    pieces = asyncio.Queue[bytes]()

    async def receive() -> dict[str, Any]:
        piece = await pieces.get()
        return {"type": "http.request", "body": piece, "more_body": piece != b""}

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    running = asyncio.create_task(client.app(build_scope("/far/echo", 8), receive, send))
    for _ in range(8):
        await asyncio.sleep(0.15)
        pieces.put_nowait(b"x")
    pieces.put_nowait(b"")
    await running
    assert sent[0]["status"] == 200


async def test_early_answer_needs_no_body(platform: Platform, other: OtherServer) -> None:
    client = Client(build_app(await start(platform, other.port)))
    reply = await client.request(
        "POST", f"http://{HOST}/far/early", headers={"Content-Length": str(64 * 65536)}, body=[b"x" * 65536] * 64
    )
    assert (reply.status, reply.body) == (413, b"no more")


async def test_one_server_never_takes_every_place(platform: Platform, other: OtherServer) -> None:
    async with raw_server(_hang) as port:
        edge = await platform.start_edge(outbound_allow="127.0.0.0/8", edge_proxied=8)
        await platform.publish(HOST, PAGE, routes=lead_to(other.port))
        await platform.publish("two.localhost", PAGE, routes=lead_to(port), project="prj_2")
        client = Client(build_app(edge))
        hanging = [asyncio.create_task(client.get(f"http://{HOST}/far/slow")) for _ in range(6)]
        await eventually(lambda: other.running == 2 and edge.proxy.by_server.waiting == 4)
        assert (await client.get(f"http://{HOST}/")).status == 200
        more = [asyncio.create_task(client.get("http://two.localhost/far/x")) for _ in range(2)]
        await eventually(lambda: edge.proxy.by_server.used == 4)
        other.runs.set()
        assert [reply.status for reply in await asyncio.gather(*hanging)] == [200] * 6
        assert other.most_running == 2
        for task in more:
            task.cancel()
        await asyncio.gather(*more, return_exceptions=True)
        assert (edge.proxy.by_server.used, edge.proxy.by_project.used) == (0, 0)


async def _hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    await asyncio.sleep(3600)


async def test_no_place_in_time_is_503(platform: Platform, other: OtherServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vclone_edge.proxy.QUEUE_S", 0.2)
    edge = await start(platform, other.port, edge_proxied=1)
    client = Client(build_app(edge))
    first = asyncio.create_task(client.get(f"http://{HOST}/far/slow"))
    await eventually(lambda: other.running == 1)
    reply = await client.get(f"http://{HOST}/far/slow")
    assert (reply.status, reply["retry-after"]) == (503, "5")
    other.runs.set()
    assert (await first).status == 200


async def test_circle_of_rewrites_ends(platform: Platform, other: OtherServer) -> None:
    client = Client(build_app(await start(platform, other.port)))
    reply = await client.get(f"http://{HOST}/far/echo", headers={"Via": ", ".join(["1.1 vclone"] * 5)})
    assert (reply.status, other.requests) == (502, 0)


async def test_explanation_names_the_other_server(platform: Platform, other: OtherServer) -> None:
    edge = await start(platform, other.port)
    found = await explain(edge, f"http://{HOST}/far/echo?x=1", method="POST")
    assert (found.server_url, found.status, found.error_code) == (f"{other.url}/echo?x=1", None, None)
    assert other.requests == 0
    closed = await platform.start_edge()
    found = await explain(closed, f"http://{HOST}/far/echo")
    assert (found.status, found.error_code) == (502, "upstream_failed.refused")


@pytest.mark.parametrize(
    "dest",
    [
        "http://127.0.0.1:{port}/", "http://[::1]:{port}/", "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/", "http://0x7f.1:{port}/", "http://localhost:{port}/", "http://0.0.0.0:{port}/",
        "http://good.example@127.0.0.1:{port}/", "http://127.0.0.1.:{port}/", "http://$host:{port}/",
        "http://%31%32%37.0.0.1:{port}/",
    ],
)  # fmt: skip
@pytest.mark.product("B5.3")
async def test_rewrites_never_reach_what_only_the_edge_reaches(platform: Platform, dest: str) -> None:
    """B5: a canary on loopback gets no connection, whatever a rule or a visitor writes."""
    connections = 0

    async def canary(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1

    async with raw_server(canary) as port:
        edge = await platform.start_edge()
        condition = {"type": "query", "key": "host", "value": "(?<host>.*)"}
        routes = (
            Route(src="/a", dest=dest.format(port=port), has=(condition,)),
            Route(src="/b", dest=dest.format(port=80)),
        )
        await platform.publish(HOST, PAGE, routes=routes)
        client = Client(build_app(edge))
        for path in ("/a?host=127.0.0.1", "/a?host=localhost", "/b"):
            reply = await client.get(f"http://{HOST}{path}")
            assert reply.status == 502
        assert connections == 0
