"""Protected sites at the edge: nothing of one leaves without a pass, by any road that leads past the rule."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from tests.edge.client import Client, Reply
from tests.edge.conftest import Platform, eventually
from tests.edge.other_server import OtherServer

from vclone_core.models import AliasKind, Protection, Route
from vclone_core.rules.passes import Pass, Way, hash_bypass, hash_mark, hash_secret, make_key, sign_pass
from vclone_core.rules.protection import ENTER_PATH
from vclone_core.rules.sites import CLOSED, decode_site, encode_site
from vclone_edge.app import EdgeApp, build_app
from vclone_edge.explain import explain
from vclone_edge.parts import EdgeParts

HOST = "preview.localhost"
SECRET, MARK = "secret-of-automation", "mark-of-this-browser"
PAGE, SCRIPT = b"<h1>not for all</h1>" * 20, b"let secret = 1;" * 100
FILES = {"/index.html": PAGE, "/app.11111a11.js": SCRIPT, "/404.html": b"no such page in here"}
SIGNING, KEY = make_key(b"1" * 32)
PROTECTION = Protection(
    KEY, "http://127.0.0.1:9000/enter", members=1, links=("lnk_1",), bypass=hash_bypass(hash_secret(SECRET))
)
BROWSER = {"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def pass_of(**more: Any) -> str:
    now = int(time.time())
    return sign_pass(
        SIGNING, Pass(Way.MEMBER, HOST, now, now + 600, **{"generation": 1, "visitor": hash_mark(MARK)} | more)
    )


def let_in() -> dict[str, str]:
    return {"cookie": f"vclone-pass={MARK}.{pass_of()}"}


@pytest.fixture
async def site(platform: Platform, edge: EdgeParts) -> EdgeParts:
    routes = (Route(src="/old", status=308, headers={"location": "/new"}),)
    await platform.publish(HOST, FILES, routes=routes, kind=AliasKind.BRANCH, protection=PROTECTION)
    return edge


def is_hidden(reply: Reply) -> bool:
    return (reply["cache-control"], reply["x-robots-tag"]) == ("private, no-store", "noindex")


async def test_who_is_let_in_gets_the_site_and_no_cache_does(site: EdgeParts) -> None:
    client = Client(build_app(site))
    for path, status, body in [
        ("/", 200, PAGE), ("/app.11111a11.js", 200, SCRIPT), ("/none", 404, FILES["/404.html"]), ("/old", 308, b""),
        ("/none.png", 404, FILES["/404.html"]),
    ]:  # fmt: skip
        for _ in range(2):
            reply = await client.get(f"http://{HOST}{path}", headers=let_in())
            assert (reply.status, reply.body) == (status, body)
            assert is_hidden(reply)
    whole = await client.get(f"http://{HOST}/", headers=let_in())
    again = await client.get(f"http://{HOST}/", headers=let_in() | {"if-none-match": whole["etag"] or ""})
    assert again.status == 304 and is_hidden(again)
    part = await client.get(f"http://{HOST}/", headers=let_in() | {"range": "bytes=0-3"})
    assert (part.status, part.body) == (206, PAGE[:4]) and is_hidden(part)
    assert len(site.remembered) == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE", "TRACE"])
async def test_without_a_pass_every_path_is_answered_alike(site: EdgeParts, method: str) -> None:
    client = Client(build_app(site))
    warm = await client.get(f"http://{HOST}/app.11111a11.js", headers=let_in())
    etag = warm["etag"] or ""
    said = set()
    for path in ("/", "/app.11111a11.js", "/none", "/old", "/robots.txt", ENTER_PATH):
        for headers in (
            {}, {"if-none-match": etag}, {"if-match": '"no"'}, {"if-none-match": "*"}, {"range": "bytes=0-3"},
            {"range": "bytes=99999-"}, {"if-modified-since": "Wed, 21 Oct 2015 07:28:00 GMT"},
            {"accept-encoding": "identity;q=0"}, {"cookie": f"vclone-pass={MARK}"},
        ):  # fmt: skip
            if path == ENTER_PATH and method == "GET":
                continue
            reply = await client.request(method, f"http://{HOST}{path}", headers=headers)
            assert is_hidden(reply)
            assert reply["etag"] is None and reply["last-modified"] is None and reply["set-cookie"] is None
            said.add((reply.status, reply.body))
    assert len(said) == 1
    status, body = said.pop()
    assert status == 401
    assert b"secret" not in body


async def test_the_refusal_says_how_to_get_in(site: EdgeParts) -> None:
    reply = await Client(build_app(site)).get(f"http://{HOST}/x?<script>")
    assert reply["www-authenticate"] == "vclone"
    assert f'<a href="{ENTER_PATH}">Sign in</a>'.encode() in reply.body
    assert b"script" not in reply.body
    assert reply["referrer-policy"] == "no-referrer"


async def test_a_browser_is_sent_to_sign_in_and_comes_back(site: EdgeParts) -> None:
    client = Client(build_app(site))
    asked = await client.get(f"http://{HOST}/a?b=c", headers=BROWSER)
    assert asked.status == 303 and is_hidden(asked)
    assert (asked["location"] or "").startswith(f"http://127.0.0.1:9000/enter?host={HOST}&visitor=")
    mark = (asked["set-cookie"] or "").partition(";")[0].partition("=")[2]
    grant = pass_of(visitor=hash_mark(mark))
    back = await client.get(
        f"http://{HOST}{ENTER_PATH}?grant={grant}&to=%2Fa%3Fb", headers=BROWSER | {"cookie": f"vclone-pass={mark}"}
    )
    assert (back.status, back["location"]) == (303, f"http://{HOST}:8080/a?b")
    assert back["referrer-policy"] == "no-referrer" and is_hidden(back)
    cookie = (back["set-cookie"] or "").partition(";")[0]
    assert (await client.get(f"http://{HOST}/", headers={"cookie": cookie})).body == PAGE


async def test_a_pass_ends_at_once_when_its_generation_does(site: EdgeParts, platform: Platform) -> None:
    client, headers = Client(build_app(site)), let_in()
    assert (await client.get(f"http://{HOST}/", headers=headers)).status == 200
    for protection in (replace(PROTECTION, members=2), replace(PROTECTION, members=None), CLOSED):
        moved = await platform.publish(HOST, FILES, kind=AliasKind.BRANCH, protection=protection)
        await eventually(lambda version=moved.version: site.control.version == version)
        assert (await client.get(f"http://{HOST}/", headers=headers)).status == 401
    moved = await platform.publish(HOST, FILES, kind=AliasKind.BRANCH)
    await eventually(lambda: site.control.version == moved.version)
    reply = await client.get(f"http://{HOST}/")
    assert (reply.status, reply.body) == (200, PAGE)
    assert reply["cache-control"] == "public, max-age=0, must-revalidate"


async def test_a_hot_public_site_is_closed_when_it_becomes_protected(edge: EdgeParts, platform: Platform) -> None:
    app = build_app(edge)
    client = Client(app)
    await platform.publish(HOST, FILES)
    assert [(await client.get(f"http://{HOST}/")).status for _ in range(3)] == [200] * 3
    assert now(app) is not None
    site = await platform.publish(HOST, FILES, protection=PROTECTION)
    await eventually(lambda: edge.control.version == site.version)
    # Neither an answer that was kept nor the lane is a way in; and what is let in isn't kept.
    assert now(app) is None
    assert (await client.get(f"http://{HOST}/", headers=let_in())).status == 200
    assert now(app) is None and (await client.get(f"http://{HOST}/")).status == 401


def now(app: EdgeApp) -> Any:
    scope = {
        "method": "GET", "http_version": "1.1", "raw_path": b"/", "headers": [(b"host", HOST.encode())], "client": None,
    }  # fmt: skip
    return app.answer_now(scope, 1 << 20)


async def test_nothing_of_a_pass_goes_on_to_another_server(platform: Platform) -> None:
    other = OtherServer()
    await other.start()
    try:
        edge = await platform.start_edge(outbound_allow="127.0.0.0/8")
        routes = (Route(src="/far(/.*)?", dest=f"http://127.0.0.1:{other.port}$1"),)
        await platform.publish(HOST, FILES, routes=routes, protection=PROTECTION)
        client = Client(build_app(edge))
        refused = await client.request("POST", f"http://{HOST}/far/echo", body=[b"x"])
        assert refused.status == 401
        reply = await client.get(
            f"http://{HOST}/far/echo?a=b&_vclone_share=x",
            headers={"cookie": f"own=1; vclone-pass={MARK}.{pass_of()}", "x-vclone-protection-bypass": "wrong"},
        )
        # A share link in the address is taken out of it first.
        assert (reply.status, reply["location"]) == (303, f"http://{HOST}:8080/far/echo?a=b")
        for headers, query in (
            ({"cookie": f"own=1; vclone-pass={MARK}.{pass_of()}"}, ""),
            ({"cookie": "own=1", "x-vclone-protection-bypass": SECRET}, ""),
            ({"cookie": "own=1"}, f"&x-vclone-protection-bypass={SECRET}"),
        ):
            reply = await client.get(f"http://{HOST}/far/echo?a=b{query}", headers=headers)
            said = json.loads(reply.body)
            assert reply.status == 200 and is_hidden(reply)
            assert said["target"] == "/echo?a=b"
            assert dict(said["fields"])["cookie"] == "own=1"
            assert "vclone-pass" not in reply.body.decode() and SECRET not in reply.body.decode()
    finally:
        await other.stop()


async def test_a_rule_cant_see_or_undo_protection(site: EdgeParts, platform: Platform) -> None:
    routes = (
        Route(src="/seen", has=({"type": "cookie", "key": "vclone-pass"},), dest="/index.html"),
        Route(src="/.*", headers={"cache-control": "public, max-age=99", "x-robots-tag": "all"}, is_continue=True),
    )
    moved = await platform.publish(HOST, FILES, routes=routes, kind=AliasKind.PRODUCTION, protection=PROTECTION)
    await eventually(lambda: site.control.version == moved.version)
    client = Client(build_app(site))
    assert (await client.get(f"http://{HOST}/seen", headers=let_in())).status == 404
    assert is_hidden(await client.get(f"http://{HOST}/", headers=let_in()))


async def test_explain_says_what_opens_it(site: EdgeParts) -> None:
    closed = await explain(site, f"http://{HOST}/")
    assert (closed.opened_by, closed.status, closed.error_code) == ("", 401, "site_protected")
    opened = await explain(site, f"http://{HOST}/", headers={"x-vclone-protection-bypass": SECRET})
    assert (opened.opened_by, opened.status, opened.file) == ("bypass", 200, "/index.html")
    assert dict(opened.headers)[b"cache-control"] == b"private, no-store"


async def test_protection_outlives_a_restart_without_the_api(platform: Platform, site: EdgeParts) -> None:
    client = Client(build_app(site))
    await client.get(f"http://{HOST}/", headers=let_in())
    await site.stop()
    await platform.peer.stop()
    again = await platform.start_edge(waits=False)
    client = Client(build_app(again))
    assert (await client.get(f"http://{HOST}/")).status == 401
    assert (await client.get(f"http://{HOST}/", headers=let_in())).body == PAGE


async def test_what_cant_be_read_of_a_protection_closes_the_site(platform: Platform) -> None:
    site = await platform.publish(HOST, FILES, protection=PROTECTION)
    raw = encode_site(site)
    assert decode_site(json.loads(json.dumps(raw))) == site
    for wrong in (
        "members", 1, [], {}, {**raw["protection"], "of_tomorrow": True}, {**raw["protection"], "links": 1},
        {**raw["protection"], "members": "1"}, {**raw["protection"], "key": None}, {"links": []}, True, False,
    ):  # fmt: skip
        assert decode_site({**raw, "protection": wrong}).protection == CLOSED
    assert decode_site({**raw, "protection": None}).protection is None
