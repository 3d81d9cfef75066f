"""What was answered before is answered again: the same, as long as nothing moved, and no longer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.edge.client import Client, Reply
from tests.edge.conftest import Platform, eventually

from vclone_core.models import Route
from vclone_core.rules.sites import CLOSED
from vclone_edge import remembered
from vclone_edge.app import build_app
from vclone_edge.parts import EdgeParts
from vclone_edge.peers import Peer

HOST = "shop.localhost"
NOBODY = Peer("", is_tls=False)
PAGE, SCRIPT = b"<h1>shop</h1>" * 20, b"let a = 1;" * 100
FILES = {"/index.html": PAGE, "/app.11111a11.js": SCRIPT, "/docs/404.html": b"no such page of the docs"}
SCOPE: dict[str, Any] = {"method": "GET", "http_version": "1.1", "raw_path": b"/"}
ROUTES = (
    Route(src="/old", status=308, headers={"location": "/new"}),
    Route(src="/mine", has=({"type": "header", "key": "x-me"},), dest="/index.html"),
    Route(src="/.*", headers={"x-frame-options": "DENY"}, is_continue=True),
)


@pytest.fixture
async def shop(platform: Platform, edge: EdgeParts) -> EdgeParts:
    variants = {"/index.html": {"br": b"br", "gzip": b"gzip"}}
    await platform.publish(HOST, FILES, routes=ROUTES, variants=variants)
    return edge


def visible(reply: Reply) -> tuple[Any, ...]:
    """What a visitor gets, but for what differs from one answer to the next, and whether memory had the bytes."""
    fields = sorted(pair for pair in reply.headers if pair[0] not in ("x-vclone-id", "age", "x-vclone-cache"))
    return reply.status, fields, reply.body


ASKED = [
    (path, method, headers)
    for path in ("/", "/app.11111a11.js", "/none.js", "/docs/none", "/old?a=b", "/mine", "/%2e%2e/", "/.env")
    for method in ("GET", "HEAD", "OPTIONS", "POST")
    for headers in (
        {},
        {"accept-encoding": "br"},
        {"accept-encoding": "identity;q=0, zstd"},
        {"if-none-match": "*"},
        {"if-none-match": '"other"'},
        {"if-match": '"other"'},
        {"range": "bytes=2-5"},
        {"range": "bytes=9999-"},
        {"x-me": "1"},
        {"content-length": "0"},
        {"transfer-encoding": "chunked", "content-length": "3"},
        {"x-long": "a" * 40_000},
    )
]


async def test_repeated_requests_get_what_the_first_got(shop: EdgeParts) -> None:
    client = Client(build_app(shop))
    firsts = []
    for path, method, headers in ASKED:
        shop.remembered.forget_all()
        firsts.append(visible(await client.request(method, f"http://{HOST}{path}", headers=headers)))
    # Each of them has been asked for in every way when it comes up again.
    for _ in range(2):
        for (path, method, headers), first in zip(ASKED, firsts, strict=True):
            again = await client.request(method, f"http://{HOST}{path}", headers=headers)
            assert visible(again) == first, (path, method, headers)
            assert again["x-vclone-id"]


async def test_what_was_settled_is_not_settled_again(shop: EdgeParts) -> None:
    client = Client(build_app(shop))
    await client.get(f"http://{HOST}/")
    assert len(shop.remembered) == 1
    scope = {
        "method": "GET",
        "http_version": "1.1",
        "raw_path": b"/",
        "headers": [(b"host", HOST.encode()), (b"user-agent", b"another")],
    }
    recalled = shop.remembered.recall(scope, NOBODY)
    assert recalled is not None
    known, head, body, hot = recalled
    assert (known.site.host, head.status, body) == (HOST, 200, PAGE)
    assert hot is not None and hot.content == PAGE
    hits = shop.counters.hot_hits
    reply = await client.get(f"http://{HOST}/")
    assert (reply["x-vclone-cache"], reply["age"]) == ("HIT", "0")
    assert shop.counters.hot_hits == hits + 1
    # Two fields of one name are for the whole way to join.
    for pair in ((b"user-agent", b"b"), (b"host", b"b"), (b"host", HOST.encode())):
        twice = {**scope, "headers": [*scope["headers"], pair]}
        assert shop.remembered.recall(twice, NOBODY) is None
    # Where among the fields the host stands makes no difference.
    assert shop.remembered.recall({**scope, "headers": scope["headers"][::-1]}, NOBODY) is not None


async def test_what_a_client_has_is_not_sent_again(shop: EdgeParts) -> None:
    client = Client(build_app(shop))
    for path in ("/", "/app.11111a11.js"):
        tag = (await client.get(f"http://{HOST}{path}"))["etag"] or ""
        for _ in range(3):
            for method in ("GET", "HEAD"):
                reply = await client.request(method, f"http://{HOST}{path}", headers={"if-none-match": tag})
                assert (reply.status, reply.body, reply["etag"]) == (304, b"", tag)
                assert reply["content-length"] is None
            both = {"if-none-match": tag, "if-match": '"other"'}
            assert (await client.get(f"http://{HOST}{path}", headers=both)).status == 412
            other = await client.get(f"http://{HOST}{path}", headers={"if-none-match": '"other"'})
            assert (other.status, other["etag"]) == (200, tag)
    missing = await client.get(f"http://{HOST}/docs/none", headers={"if-none-match": "*"})
    assert missing.status == 404


@pytest.mark.parametrize("path", ["/old", "/mine", "/old?a=b"])
async def test_what_depends_on_more_than_the_path_is_not_kept(shop: EdgeParts, path: str) -> None:
    client = Client(build_app(shop))
    await client.get(f"http://{HOST}{path}", headers={"x-me": "1"})
    assert len(shop.remembered) == 0


async def test_a_publish_is_seen_by_the_next_request(shop: EdgeParts, platform: Platform) -> None:
    client = Client(build_app(shop))
    for path in ("/", "/new.html", "/docs/none"):
        await client.get(f"http://{HOST}{path}")
    site = await platform.publish(HOST, {"/index.html": b"second", "/new.html": b"new", "/404.html": b"none"})
    await eventually(lambda: shop.control.version == site.version)
    assert (await client.get(f"http://{HOST}/")).body == b"second"
    assert (await client.get(f"http://{HOST}/new.html")).body == b"new"
    assert (await client.get(f"http://{HOST}/docs/none")).body == b"none"


async def test_a_protected_or_removed_site_is_gone_at_once(shop: EdgeParts, platform: Platform) -> None:
    client = Client(build_app(shop))
    await client.get(f"http://{HOST}/")
    site = await platform.publish(HOST, FILES, protection=CLOSED)
    await eventually(lambda: shop.control.version == site.version)
    assert (await client.get(f"http://{HOST}/")).status == 401
    assert shop.remembered.recall({**SCOPE, "headers": [(b"host", HOST.encode())]}, NOBODY) is None


async def test_hosts_that_are_due_are_asked_about(platform: Platform) -> None:
    edge = await platform.start_edge(edge_domain_ttl_s=0.05)
    await platform.publish(HOST, FILES)
    client = Client(build_app(edge))
    await client.get(f"http://{HOST}/")
    asked = edge.resolver.look_ups
    async with asyncio.timeout(10):
        while edge.resolver.look_ups == asked:
            await client.get(f"http://{HOST}/")
            await asyncio.sleep(0.01)


async def test_bytes_that_left_memory_are_fetched_again(platform: Platform) -> None:
    edge = await platform.start_edge(edge_hot_bytes=20_000)
    await platform.publish(HOST, {f"/{n}.txt": bytes([65 + n]) * 1500 for n in range(20)})
    client = Client(build_app(edge))
    for _ in range(2):
        for number in range(20):
            reply = await client.get(f"http://{HOST}/{number}.txt")
            assert reply.body == bytes([65 + number]) * 1500
    assert edge.blobs.used_bytes <= 20_000


async def test_it_is_bounded_whatever_visitors_ask_for(shop: EdgeParts) -> None:
    client = Client(build_app(shop))
    shop.remembered.limit = 10
    for number in range(50):
        assert (await client.get(f"http://{HOST}/none-{number}")).status == 404
        assert len(shop.remembered) <= 10
    await client.get(f"http://{HOST}/{'a' * 300}")
    assert len(shop.remembered) <= 10


async def test_what_is_remembered_of_fields_is_bounded(shop: EdgeParts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "ASKED_LIMIT", 10)
    client, asked = Client(build_app(shop)), shop.remembered._asked
    for number in range(50):
        assert (await client.get(f"http://{HOST}/", headers={"cookie": f"a={number}"})).body == PAGE
        assert len(asked) <= 10
    before = len(asked)
    for number in range(20):
        assert (await client.get(f"http://{HOST}/", headers={"cookie": f"{number}" * 2_000})).body == PAGE
    assert len(asked) == before
