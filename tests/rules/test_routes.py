from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import Invalid
from vclone_core.models import FileEntry, Manifest, Route
from vclone_core.rules.decisions import Decision, Redirect, Refuse, Rewrite, Serve
from vclone_core.rules.manifests import decode_route
from vclone_core.rules.requests import Request
from vclone_core.rules.routes import match
from vclone_core.rules.tables import MEMO_LIMIT, Table, compile_table

ENTRY = FileEntry("a" * 64, 1, "text/html")
FILES = (
    "/index.html", "/404.html", "/about.html", "/docs/index.html", "/docs/404.html", "/a.js", "/with space.txt",
    "/café.html", "/a%2Fb",
)  # fmt: skip


def table_of(*routes: dict[str, Any], files: tuple[str, ...] = FILES) -> Table:
    manifest = Manifest("dep", "prj", None, dict.fromkeys(files, ENTRY), tuple(decode_route(raw) for raw in routes))
    return compile_table(manifest)


def ask(table: Table, path: str, **facts: Any) -> Decision:
    """The decision, without the rules that led to it; asked twice, since the second answer comes from memory."""
    request = Request(facts.pop("method", "GET"), facts.pop("host", "a.example"), path, **facts)
    first = match(table, request)
    assert match(table, request) == first
    return replace(first, rules=())


@pytest.mark.parametrize(
    ("path", "file", "status"),
    [
        ("/", "/index.html", 200),
        ("/index.html", "/index.html", 200),
        ("/docs", "/docs/index.html", 200),
        ("/docs/", "/docs/index.html", 200),
        ("/a.js", "/a.js", 200),
        ("/with space.txt", "/with space.txt", 200),
        ("/a%2Fb", "/a%2Fb", 200),
        ("/A.js", "/404.html", 404),
        ("/a.js/", "/404.html", 404),
        ("/about", "/404.html", 404),
        ("/docs/x", "/docs/404.html", 404),
        ("/docs/x/y", "/docs/404.html", 404),
        ("/x/y", "/404.html", 404),
        ("//", "/404.html", 404),
    ],
)
def test_files_are_found_without_rules(path: str, file: str, status: int) -> None:
    assert ask(table_of(), path) == Serve(file, status)


def test_missing_thing_without_a_page_is_refused() -> None:
    assert ask(table_of(files=("/a.js",)), "/b.js") == Refuse(404)


def location(target: str) -> dict[str, Any]:
    return {"headers": {"Location": target}}


FILESYSTEM = {"handle": "filesystem"}


@pytest.mark.parametrize(
    ("routes", "path", "decision"),
    [
        pytest.param(
            [{"src": "/old", "status": 308, **location("/new")}], "/old", Redirect("/new", 308), id="redirect"
        ),
        pytest.param(
            [{"src": "/old", "status": 308, **location("/new")}], "/OLD", Redirect("/new", 308), id="any case"
        ),
        pytest.param(
            [{"src": "/old", "caseSensitive": True, "status": 308, **location("/new")}],
            "/OLD",
            Serve("/404.html", 404),
            id="case-sensitive",
        ),
        pytest.param(
            [{"src": "^/b/(.*)$", "status": 307, **location("/c/$1")}], "/b/x/y", Redirect("/c/x/y", 307), id="$1"
        ),
        pytest.param(
            [{"src": "/b/(?<id>[^/]+)", "status": 307, **location("/c?id=$id")}],
            "/b/7",
            Redirect("/c?id=7", 307),
            id="name",
        ),
        pytest.param(
            [{"src": "/b/(.*)", "status": 307, **location("/$1")}],
            "/b//evil.example",
            Redirect("/evil.example", 307),
            id="no open redirect",
        ),
        pytest.param(
            [{"src": "/b/(.*)", "status": 301, **location("https://x.example/$1")}],
            "/b/é ?#",
            Redirect("https://x.example/%C3%A9%20%3F%23", 301),
            id="quoted",
        ),
        pytest.param([{"src": "/gone", "status": 410}], "/gone", Refuse(410), id="status alone"),
        pytest.param([{"src": "/gone", "status": 404}], "/gone", Serve("/404.html", 404), id="404 alone"),
        pytest.param([{"src": "/x", "dest": "/a.js"}], "/x", Serve("/a.js"), id="rewrite"),
        pytest.param([{"src": "/a.js", "dest": "/about.html"}], "/a.js", Serve("/about.html"), id="before the files"),
        pytest.param(
            [FILESYSTEM, {"src": "/a.js", "dest": "/about.html"}], "/a.js", Serve("/a.js"), id="after the files"
        ),
        pytest.param(
            [FILESYSTEM, {"src": "/(.*)", "dest": "/index.html"}], "/app/x", Serve("/index.html"), id="fallback"
        ),
        pytest.param(
            [{"src": "/x", "dest": "/404.html", "status": 404}], "/x", Serve("/404.html", 404), id="with status"
        ),
        pytest.param([{"src": "/x", "dest": "/none", "status": 404}], "/x", Serve("/404.html", 404), id="missing dest"),
        pytest.param(
            [FILESYSTEM, {"src": "/x", "dest": "/none", "check": True}, {"src": "/none", "dest": "/a.js"}],
            "/x",
            Serve("/a.js"),
            id="checked and passed on",
        ),
        pytest.param(
            [
                FILESYSTEM,
                {"src": "/x", "dest": "/y", "check": True},
                {"handle": "rewrite"},
                {"src": "/y", "dest": "/a.js"},
            ],
            "/x",
            Serve("/a.js"),
            id="checked through rewrite",
        ),
        pytest.param(
            [
                {"handle": "miss"},
                {"src": "/static/.*", "status": 404, "check": True, "dest": "$0"},
                FILESYSTEM,
                {"src": "/.*", "dest": "/index.html"},
            ],
            "/static/x.js",
            Serve("/404.html", 404),
            id="missing asset is no page",
        ),
        pytest.param(
            [{"handle": "resource"}, {"src": "/.*", "dest": "/about.html"}], "/x", Serve("/about.html"), id="resource"
        ),
        pytest.param(
            [FILESYSTEM, {"src": "/api/(.*)", "dest": "https://x.example/$1?k=1"}],
            "/api/a b",
            Rewrite("https://x.example/a%20b?k=1"),
            id="external",
        ),
        pytest.param(
            [{"src": "/(.*)", "headers": {"X-A": "$1"}, "continue": True}],
            "/a.js",
            Serve("/a.js", headers=((b"x-a", b"a.js"),)),
            id="headers",
        ),
        pytest.param(
            [
                {"src": "/.*", "headers": {"x-a": "1"}, "continue": True},
                {"src": "/a.js", "headers": {"x-a": "2"}, "continue": True},
            ],
            "/a.js",
            Serve("/a.js", headers=((b"x-a", b"2"),)),
            id="later header wins",
        ),
        pytest.param(
            [{"handle": "hit"}, {"src": "/.*\\.js", "headers": {"cache-control": "max-age=9"}, "continue": True}],
            "/a.js",
            Serve("/a.js", headers=((b"cache-control", b"max-age=9"),)),
            id="hit",
        ),
        pytest.param(
            [{"handle": "hit"}, {"src": "/.*", "headers": {"x-a": "1"}, "continue": True}],
            "/none",
            Serve("/404.html", 404),
            id="no hit",
        ),
        pytest.param(
            [
                {"handle": "error"},
                {"src": "/.*", "status": 500, "dest": "/a.js"},
                {"src": "/.*", "status": 404, "dest": "/about"},
            ],
            "/docs/x",
            Serve("/about.html", 404),
            id="error phase",
        ),
        pytest.param(
            [{"src": "/x", "dest": "/y", "continue": True}, {"src": "/y", "dest": "/a.js"}],
            "/x",
            Serve("/a.js"),
            id="continue",
        ),
        pytest.param(
            [{"src": "/y", "dest": "/a.js"}, {"src": "/x", "dest": "/y", "continue": True}],
            "/x",
            Serve("/404.html", 404),
            id="continue goes forward only",
        ),
        pytest.param(
            [
                {
                    "src": "/x",
                    "status": 200,
                    "headers": {"Content-Length": "9", "etag": "x", "x-vclone-id": "x"},
                    "dest": "/a.js",
                }
            ],
            "/x",
            Serve("/a.js"),
            id="reserved headers",
        ),
    ],
)
def test_rules_decide(routes: list[dict[str, Any]], path: str, decision: Decision) -> None:
    assert ask(table_of(*routes), path) == decision


def test_query_goes_on_with_a_redirect() -> None:
    table = table_of(
        {"src": "/a", "status": 308, **location("/b#c")}, {"src": "/d", "status": 308, **location("/e?f=1")}
    )
    assert ask(table, "/a", query="x=1") == Redirect("/b?x=1#c", 308)
    assert ask(table, "/a") == Redirect("/b#c", 308)
    assert ask(table, "/d", query="x=1") == Redirect("/e?f=1&x=1", 308)


@pytest.mark.parametrize(
    ("condition", "facts", "holds"),
    [
        ({"has": [{"type": "host", "value": "b\\.example"}]}, {"host": "b.example"}, True),
        ({"has": [{"type": "host", "value": "b\\.example"}]}, {"host": "xb.example"}, False),
        ({"has": [{"type": "header", "key": "X-Beta"}]}, {"headers": {b"x-beta": b""}}, True),
        ({"has": [{"type": "header", "key": "X-Beta"}]}, {}, False),
        ({"missing": [{"type": "header", "key": "X-Beta"}]}, {}, True),
        ({"missing": [{"type": "header", "key": "X-Beta"}]}, {"headers": {b"x-beta": b"1"}}, False),
        ({"has": [{"type": "cookie", "key": "v", "value": "[ab]"}]}, {"headers": {b"cookie": b"x=1; v=a"}}, True),
        ({"has": [{"type": "cookie", "key": "v", "value": "[ab]"}]}, {"headers": {b"cookie": b"v=c"}}, False),
        ({"has": [{"type": "query", "key": "q", "value": "1"}]}, {"query": "q=1&q=2"}, True),
        ({"has": [{"type": "query", "key": "q", "value": "1"}]}, {"query": "Q=1"}, False),
        ({"has": [{"type": "query", "key": "q", "value": {"gte": 3}}]}, {"query": "q=3"}, True),
        ({"has": [{"type": "query", "key": "q", "value": {"gte": 3}}]}, {"query": "q=x"}, False),
        (
            {"has": [{"type": "header", "key": "a", "value": {"pre": "x", "suf": "z"}}]},
            {"headers": {b"a": b"xyz"}},
            True,
        ),
        ({"has": [{"type": "header", "key": "a", "value": {"inc": ["x", "y"]}}]}, {"headers": {b"a": b"z"}}, False),
        ({"methods": ["POST"]}, {"method": "POST"}, True),
        ({"methods": ["POST"]}, {"method": "GET"}, False),
    ],
)
@pytest.mark.product("B5.5")
def test_conditions(condition: dict[str, Any], facts: dict[str, Any], holds: bool) -> None:
    table = table_of({"src": "/x", "dest": "/a.js", **condition})
    assert (ask(table, "/x", **facts) == Serve("/a.js")) is holds


def test_condition_fills_the_destination() -> None:
    table = table_of(
        {
            "src": "/x",
            "status": 307,
            "has": [{"type": "query", "key": "id", "value": "(?<n>[0-9]+)"}],
            **location("/y/$n"),
        }
    )
    assert ask(table, "/x", query="id=7") == Redirect("/y/7?id=7", 307)


def test_conditional_decision_is_not_remembered() -> None:
    table = table_of({"src": "/x", "dest": "/a.js", "has": [{"type": "header", "key": "x-beta"}]})
    assert ask(table, "/x") == Serve("/404.html", 404)
    assert ask(table, "/x", headers={b"x-beta": b"1"}) == Serve("/a.js")
    assert ask(table, "/x") == Serve("/404.html", 404)


@pytest.mark.parametrize(
    "route",
    [
        {"src": "/("},
        {"src": "/x", "status": 99},
        {"src": "/x", "status": 204.5},
        {"handle": "nowhere"},
        {"src": "/x", "headers": {"a b": "c"}},
        {"src": "/x", "headers": {"a": "b\r\nc: d"}},
        {"src": "/x", "has": [{"type": "moon"}]},
        {"src": "/x", "has": [{"type": "cookie"}]},
        {"src": "/x", "has": [{"type": "query", "key": "a", "value": {"like": "x"}}]},
        {"src": "/" + "a" * 5000},
    ],
)
def test_rule_that_cannot_be_used_names_its_place(route: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=r"route 0|phase"):
        table_of({**route, "origin": "vercel.json routes[0]"} if "src" in route else route)


def test_many_literal_rules_cost_as_much_as_few() -> None:
    def redirects(count: int) -> Table:
        return table_of(*({"src": f"^/old/{n}$", "status": 308, **location(f"/new/{n}")} for n in range(count)))

    def seconds(table: Table) -> float:
        started = time.perf_counter()
        for n in range(500):
            table.memo.clear()
            match(table, Request("GET", "a.example", f"/old/{n % 10}"))
            match(table, Request("GET", "a.example", "/none"))
        return time.perf_counter() - started

    few, many = redirects(10), redirects(20_000)
    assert ask(many, "/old/19999") == Redirect("/new/19999", 308)
    assert min(seconds(many) for _ in range(3)) < 5 * min(seconds(few) for _ in range(3))


def test_literals_and_patterns_keep_their_order() -> None:
    table = table_of(
        {"src": "/x.*", "dest": "/a.js"}, {"src": "/xy", "dest": "/about.html"}, {"src": "/z", "dest": "/a.js"}
    )
    assert ask(table, "/xy") == Serve("/a.js")
    table = table_of({"src": "/xy", "dest": "/about.html"}, {"src": "/x.*", "dest": "/a.js"})
    assert ask(table, "/xy") == Serve("/about.html")


def test_every_one_of_many_header_rules_applies() -> None:
    table = table_of(*({"src": "/(.*)", "headers": {f"x-{n}": "1"}, "continue": True} for n in range(300)))
    decision = ask(table, "/a.js")
    assert len(decision.headers) == 300


def test_memory_of_decisions_is_bounded() -> None:
    table = table_of()
    for n in range(MEMO_LIMIT * 2):
        match(table, Request("GET", "a.example", f"/{n}"))
    match(table, Request("GET", "a.example", "/" + "a" * 5000))
    assert len(table.memo) <= MEMO_LIMIT
    assert max(map(len, table.memo)) < 300


PATHS = st.text("/abx.%é ", max_size=12).map(lambda text: "/" + text)
ROUTES = st.lists(
    st.builds(
        Route,
        src=st.sampled_from(["/", "/(.*)", "/a", "/a/(?<x>.*)", "^/b$", "/(a|b)/.*", "/x$"]),
        dest=st.none() | st.sampled_from(["/a", "/$1", "/b/$x", "/index.html", "https://x.example/$1", "a"]),
        status=st.none() | st.sampled_from([200, 301, 308, 404, 410, 500]),
        headers=st.sampled_from([{}, {"location": "/z/$1"}, {"x-a": "$1"}]),
        is_continue=st.booleans(),
        check=st.booleans(),
    )
    | st.sampled_from(["filesystem", "rewrite", "miss", "resource", "hit", "error"]).map(
        lambda name: Route(handle=name)
    ),
    max_size=8,
)


@given(ROUTES, PATHS)
def test_any_table_decides_about_any_path(routes: list[Route], path: str) -> None:
    files = dict.fromkeys(("/index.html", "/a", "/b/index.html"), ENTRY)
    table = compile_table(Manifest("dep", "prj", None, files, tuple(routes)))
    decision = match(table, Request("GET", "a.example", path))
    assert not isinstance(decision, Serve) or decision.file in files
    assert not isinstance(decision, Redirect) or (
        decision.location.isascii() and not decision.location.startswith("//")
    )
    assert all(0 <= number < len(routes) for number in decision.rules)
    for name, value in decision.headers:
        assert b"\n" not in name + value
        assert b"\r" not in name + value
