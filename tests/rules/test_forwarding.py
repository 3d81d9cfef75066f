"""What of a request goes on to another server, and what of its answer comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import BadMethod, BadTarget, UpstreamFailed
from vclone_core.models import Manifest, Route
from vclone_core.rules.decisions import Rewrite
from vclone_core.rules.forwarding import (
    Forward,
    build_answer_fields,
    build_request_fields,
    find_length,
    has_body,
    is_wide_cookie,
    plan_forward,
)
from vclone_core.rules.requests import Request
from vclone_core.rules.routes import match
from vclone_core.rules.tables import compile_table

GET = Request("GET", "shop.apps.example", "/")


def plan(url: str, request: Request = GET) -> Forward:
    return plan_forward(Rewrite(url), request, is_indexed=True)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.example.com", "https://api.example.com:443/"),
        ("HTTP://API.Example.com./a%20b?x=1#top", "http://api.example.com:80/a%20b?x=1"),
        ("https://api.example.com:8443/x", "https://api.example.com:8443/x"),
        ("//api.example.com/x", "https://api.example.com:443/x"),
        ("https://b%C3%BCcher.example/", "https://xn--bcher-kva.example:443/"),
        ("http://[::1]:8080/", "http://[::1]:8080/"),
        ("https://api.example.com?x=1", "https://api.example.com:443/?x=1"),
    ],
)
def test_addresses_come_to_one_spelling(url: str, expected: str) -> None:
    assert plan(url).url == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://user@api.example/", "https://user:pw@api.example/", "https://good.example@127.0.0.1/",
        "https://good.example%40127.0.0.1/", "https://good.example\\@127.0.0.1/", "https://good.example%5C.evil/",
        "https://evil.example%2F.good.example/", "https://good.example%23.evil/", "https://good.example%3Fx/",
        "https:///x", "https://", "ftp://a.example/", "https://a.example:99999/", "https://a.example:x/",
        "https://a.example:0/", "https://a b/", "https://a.example/\r\nx: y", "https://%00/", "https://a%ff.example/",
    ],
)  # fmt: skip
def test_addresses_that_say_two_things_are_refused(url: str) -> None:
    with pytest.raises(UpstreamFailed):
        plan(url)


@pytest.mark.parametrize(
    "path", ["/../x", "/a/..", "/./a", "/%2e%2e/x", "/a/%2E", "/a%2f..%2fb", "/a%5C..%5Cb", "/..%2Fx"]
)
def test_paths_never_climb(path: str) -> None:
    with pytest.raises(BadTarget):
        plan(f"https://api.example/base{path}")


@given(st.text(max_size=30))
def test_what_a_visitor_puts_into_a_host_stays_in_it(value: str) -> None:
    route = Route(src="/to/(.*)", dest="https://$1.api.example/x")
    decision = match(compile_table(Manifest("d", "p", None, {}, (route,))), Request("GET", "a.example", f"/to/{value}"))
    assert isinstance(decision, Rewrite)
    try:
        forward = plan_forward(decision, GET, is_indexed=True)
    except (UpstreamFailed, BadTarget):
        return
    assert forward.host.endswith(".api.example")


def test_the_query_of_the_request_goes_along() -> None:
    route = Route(src="/to/(.*)", dest="https://api.example/$1?key=1")
    table = compile_table(Manifest("d", "p", None, {}, (route,)))
    decision = match(table, Request("GET", "a.example", "/to/x", "a=2&key=9"))
    assert decision == Rewrite("https://api.example/x?key=1&a=2", None, (), (0,))


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "track", "PROPFIND"])
def test_methods_that_never_go_on(method: str) -> None:
    with pytest.raises(BadMethod):
        plan("https://api.example/", Request(method, "a.example", "/"))


def test_a_request_that_goes_in_a_circle_ends() -> None:
    via = {b"via": b", ".join([b"1.1 vclone"] * 4)}
    assert plan("https://api.example/", Request("GET", "a.example", "/", headers=via))
    via = {b"via": b", ".join([b"1.1 vclone"] * 5)}
    with pytest.raises(UpstreamFailed) as raised:
        plan("https://api.example/", Request("GET", "a.example", "/", headers=via))
    assert raised.value.code == "upstream_failed.loop"


LEFT_OUT = (
    "host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "expect",
    "proxy-authorization", "proxy-connection", "http2-settings", "forwarded", "x-forwarded-for", "x-forwarded-host",
    "x-forwarded-proto", "x-forwarded-port", "x-forwarded-anything", "x-real-ip", "x-vclone-id", "x-vclone-secret",
    "x-middleware-subrequest", "x-original-url", "x-rewrite-url", "true-client-ip", "cf-connecting-ip", "max-forwards",
    "x_forwarded_for", "X_Forwarded-For", "x_real_ip", "x-named-by-connection", "a b", "caf\xe9", "",
)  # fmt: skip
PASSED_ON = (
    "accept", "accept-encoding", "accept-language", "authorization", "cache-control", "content-type", "cookie", "dnt",
    "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "origin", "range", "referer",
    "sec-fetch-mode", "user-agent", "x-api-key", "x-csrf-token", "idempotency-key", "hx-request", "next-action",
)  # fmt: skip


def test_request_fields() -> None:
    given = {name.encode("latin-1"): b"said" for name in (*LEFT_OUT, *PASSED_ON)}
    given[b"connection"] = b"close, X-Named-By-Connection"
    given[b"via"] = b"1.0 cache.example"
    request = Request("GET", "shop.apps.example", "/", headers=given, scheme="https")
    fields = build_request_fields(request, client="192.0.2.7", authority="shop.apps.example:8443")
    assert {name for name, value in fields if value == b"said"} == {name.encode() for name in PASSED_ON}
    assert dict(fields[-4:]) == {
        b"x-forwarded-for": b"192.0.2.7",
        b"x-forwarded-host": b"shop.apps.example:8443",
        b"x-forwarded-proto": b"https",
        b"via": b"1.0 cache.example, 1.1 vclone",
    }
    assert len(fields) == len(PASSED_ON) + 4


@given(st.dictionaries(st.binary(max_size=20), st.binary(max_size=20), max_size=8))
def test_any_fields_go_on_clean(headers: dict[bytes, bytes]) -> None:
    for name, value in build_request_fields(Request("GET", "a", "/", headers=headers), client="", authority="a"):
        assert not {*b"\r\n\0 :"} & {*name}
        assert not {*b"\r\n\0"} & {*value} or name == b"via"


def answer(*fields: tuple[str, str], status: int = 200, rules: tuple[tuple[bytes, bytes], ...] = ()) -> list[str]:
    forward = Forward("https", "api.example", 443, "/", "", Rewrite("", None, rules))
    given = [(name.encode(), value.encode()) for name, value in fields]
    built = build_answer_fields(forward, status, given, base_domain="apps.example")
    return [f"{name.decode()}: {value.decode()}" for name, value in built]


def test_answer_fields() -> None:
    assert answer(
        ("Content-Type", "text/plain"),
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Server", "evil"),
        ("Date", "today"),
        ("Alt-Svc", 'h3=":443"'),
        ("X-Vclone-Id", "forged"),
        ("x-vclone-cache", "HIT"),
        ("Set-Cookie", "a=1; Path=/"),
        ("Set-Cookie", "b=1; Domain=apps.example"),
        ("Set-Cookie", "c=1; domain=.EXAMPLE; Secure"),
        ("Set-Cookie", "d=1; Domain=shop.apps.example"),
        ("Location", "http://169.254.169.254/"),
        ("ETag", '"x"'),
    ) == [
        "content-type: text/plain",
        "set-cookie: a=1; Path=/",
        "set-cookie: d=1; Domain=shop.apps.example",
        "location: http://169.254.169.254/",
        'etag: "x"',
        "server: vclone",
    ]


def test_rules_say_their_headers_over_the_other_servers() -> None:
    fields = answer(
        ("cache-control", "private"),
        ("vary", "cookie"),
        rules=(
            (b"cache-control", b"max-age=60"),
            (b"vary", b"accept"),
            (b"set-cookie", b"a=1; Domain=apps.example"),
            (b"x-a", b"1"),
        ),
    )
    assert fields == ["cache-control: max-age=60", "vary: cookie, accept", "x-a: 1", "server: vclone"]


def test_previews_are_not_indexed() -> None:
    forward = Forward("https", "api.example", 443, "/", "", Rewrite(""), is_indexed=False)
    fields = build_answer_fields(forward, 200, [(b"X-Robots-Tag", b"all")], base_domain="apps.example")
    assert fields == ((b"server", b"vclone"), (b"x-robots-tag", b"noindex"))


@pytest.mark.parametrize(
    ("status", "fields", "length"),
    [
        (200, [("content-length", "5")], 5),
        (200, [("content-length", "5"), ("content-length", "5")], 5),
        (200, [("content-length", "5"), ("content-length", "6")], None),
        (200, [("content-length", "5"), ("transfer-encoding", "chunked")], None),
        (200, [("content-length", "-5")], None),
        (200, [("content-length", "+5")], None),
        (200, [("content-length", "9" * 30)], None),
        (200, [], None),
        (204, [("content-length", "5")], None),
        (304, [("content-length", "5")], 5),
    ],
)
def test_length_is_passed_on_where_it_is_certain(
    status: int, fields: list[tuple[str, str]], length: int | None
) -> None:
    assert find_length(status, [(name.encode(), value.encode()) for name, value in fields]) == length


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [("GET", 200, True), ("HEAD", 200, False), ("GET", 204, False), ("GET", 304, False), ("POST", 500, True)],
)
def test_which_answers_have_a_body(method: str, status: int, expected: bool) -> None:
    assert has_body(method, status) is expected


@pytest.mark.parametrize(
    ("cookie", "is_wide"),
    [
        ("a=1", False),
        ("a=1; Domain=", False),
        ("a=1; Domain=other.example", False),
        ("a=1; Domain=xapps.example", False),
        ("a=1; Domain=shop.apps.example", False),
        ("a=1; Domain=apps.example", True),
        ("a=1;domain= .Apps.Example. ", True),
        ('a=1; Domain="apps.example"', True),
        ("a=1; Domain=example", True),
        ("a=1; Domain=shop.apps.example; Domain=apps.example", True),
        ("Domain=apps.example", False),
    ],
)
def test_cookies_for_everybody(cookie: str, is_wide: bool) -> None:
    assert is_wide_cookie(cookie.encode(), "apps.example") is is_wide
