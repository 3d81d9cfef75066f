"""`_redirects` -> routes. The first word of a case names where it comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.models import Route
from vclone_core.rules.patterns import LONGEST
from vclone_core.rules.redirects_file import PATTERN_LIMIT, RedirectRules, parse_redirects
from vclone_core.rules.splatpaths import compile_splat
from vclone_core.rules.tables import compile_rule

# netlify/build packages/redirect-parser: src and tests/line-parser.test.ts; its documentation of redirect options
NETLIFY, DOCS = "redirect-parser", "docs.netlify.com/routing/redirects"
# cloudflare/workers-sdk packages/workers-shared: utils/tests/parseRedirects.*.test.ts, asset-worker rules-engine
CLOUDFLARE = "parseRedirects.test"


def only(text: str) -> tuple[Route, bool]:
    """The one rule of a text, and whether it is forced."""
    rules = parse_redirects(text)
    assert rules.problems == ()
    (route,) = (*rules.forced, *rules.others)
    assert str(route.origin).startswith("_redirects line ")
    return replace(route, origin=None, case_sensitive=False), bool(rules.forced)


def to(location: str, status: int = 301) -> dict[str, Any]:
    return {"status": status, "headers": {"Location": location}}


@pytest.mark.parametrize(
    ("origin", "line", "src", "fields"),
    [
        (NETLIFY, "/home /", "^/home/?$", to("/")),
        (NETLIFY, "  /home              /", "^/home/?$", to("/")),
        (NETLIFY, "/home\t/", "^/home/?$", to("/")),
        (NETLIFY, "/home /\r", "^/home/?$", to("/")),
        (NETLIFY, "/a.php /a # an old one", "^/a\\.php/?$", to("/a")),
        (NETLIFY, "/a.php /a#ads # an old one", "^/a\\.php/?$", to("/a#ads")),
        (NETLIFY, "/a http://b.example/ 301", "^/a/?$", to("http://b.example/")),
        (NETLIFY, "/a https://b.example/x=y 302", "^/a/?$", to("https://b.example/x=y", 302)),
        (NETLIFY, "/* https://b.example/:splat", "^/(?<splat>.*)$", to("https://b.example/${splat}")),
        (NETLIFY, "/admin/* 200", "^/admin(?:/(?<splat>.*))?$", {"dest": "/admin/${splat}"}),
        (NETLIFY, "/api/* https://b.example/:splat 200", "^/api(?:/(?<splat>.*))?$",
         {"dest": "https://b.example/${splat}"}),
        (NETLIFY, "/ page=news /news", "^/$", {**to("/news"), "has": [("page", {"eq": "news"})]}),
        (NETLIFY, "/b post=:id /b/:id", "^/b/?$", {**to("/b/${id}"), "has": [("post", "(?<id>.*)")]}),
        (NETLIFY, "/ _escaped_=/about /about", "^/$", None),
        (NETLIFY, "/d a=:a b=:b /d/us?a=:a&b=:b 302", "^/d/?$",
         {**to("/d/us?a=${a}&b=${b}", 302), "has": [("a", "(?<a>.*)"), ("b", "(?<b>.*)")]}),
        (DOCS, "/n/:y/:m/:s /b/:y-:m/:s", "^/n/(?<y>[^/]+?)/(?<m>[^/]+?)/(?<s>[^/]+?)/?$", to("/b/${y}-${m}/${s}")),
        (DOCS, "/p /index.html 200", "^/p/?$", {"dest": "/index.html"}),
        (DOCS, "/shop /closed 404", "^/shop/?$", {"dest": "/closed", "status": 404}),
        (DOCS, "/shop/* /closed.html 410", "^/shop(?:/(?<splat>.*))?$", {"dest": "/closed.html", "status": 410}),
        (DOCS, "/search color /c", "^/search/?$", {**to("/c"), "has": [("color", None)]}),
        (DOCS, "/a /b 303", "^/a/?$", to("/b", 303)),
        (DOCS, "/a /b 307", "^/a/?$", to("/b", 307)),
        (DOCS, "/a /b 308", "^/a/?$", to("/b", 308)),
        (DOCS, "/a/ /b", "^/a/?$", to("/b")),
        (CLOUDFLARE, "/a /b#x 301 #why", "^/a/?$", to("/b#x")),
        (CLOUDFLARE, "/a /b##x", "^/a/?$", to("/b##x")),
        (CLOUDFLARE, "/a /b?q=s 302", "^/a/?$", to("/b?q=s", 302)),
        (CLOUDFLARE, "/a?this=rejected /d", "^/a/?$", to("/d")),
        (CLOUDFLARE, "/a https://b.example:1234/r?q=s#t", "^/a/?$", to("https://b.example:1234/r?q=s#t")),
        (CLOUDFLARE, "/a /b #", "^/a/?$", to("/b")),
        (CLOUDFLARE, "/some%20page /other%20page", "^/some\\ page/?$", to("/other%20page")),
        (CLOUDFLARE, "/$~!+-[bo]()| /x", None, to("/x")),
        (CLOUDFLARE, "/x/*.js /y/:splat.js", "^/x/(?<splat>.*)\\.js/?$", to("/y/${splat}.js")),
        (CLOUDFLARE, "/:code/:name.jpg /i", None, to("/i")),
        ("own", "/a /b$1/:splat", "^/a/?$", to("/b$$1/:splat")),
        ("own", "/a/ /a", "^/a/$", to("/a")),
        ("own", "/a /a/ 302", "^/a$", to("/a/", 302)),
        ("own", "/café /kaffee", "^/café/?$", to("/kaffee")),
        ("own", "/a /b 200 Cookie=beta", "^/a/?$", None),
        ("own", "\ufeff/a /b", "^/a/?$", to("/b")),
    ],
)  # fmt: skip
@pytest.mark.product("B5.6")
def test_line(origin: str, line: str, src: str | None, fields: dict[str, Any] | None) -> None:
    route, is_forced = only(line)
    assert not is_forced
    if src is not None:
        assert route.src == src, origin
    if fields is not None:
        has = tuple(
            {"type": "query", "key": key} | ({} if value is None else {"value": value})
            for key, value in fields.get("has", ())
        )
        assert replace(route, src=None) == Route(**{**fields, "has": has}), origin


@pytest.mark.parametrize(
    "line",
    [
        "/a /b 301!",
        "/a /b 200!",
        "/a /b 404!",
        "/* https://b.example/:splat 301!",
        "/admin/* 200!",
        "/a/* /b/:splat 200!",
    ],
)
@pytest.mark.product("B5.6")
def test_exclamation_mark_goes_before_the_files(line: str) -> None:
    assert only(line)[1]


@pytest.mark.parametrize(
    ("line", "condition"),
    [
        ("https://old.example/* /new/:splat", {"type": "host", "value": {"eq": "old.example"}}),
        ("http://OLD.example /new", {"type": "host", "value": {"eq": "old.example"}}),
        ("https://old.example:8080/a /new", {"type": "host", "value": {"eq": "old.example"}}),
        ("https://:sub.old.example/* /:sub/:splat", {"type": "host", "value": "(?<sub>[^/.]+)\\.old\\.example"}),
    ],
)
def test_source_with_a_host_asks_for_it(line: str, condition: dict[str, Any]) -> None:
    assert only(line)[0].has == (condition,)


def test_cookie_is_a_condition() -> None:
    assert only("/a /b 200 Cookie=beta")[0].has == ({"type": "cookie", "key": "beta"},)


@pytest.mark.parametrize(
    ("origin", "line", "words"),
    [
        (NETLIFY, "/only", "no destination"),
        (NETLIFY, "/old.html?x=false 301", "no destination"),
        (NETLIFY, "/a source=:source", "no destination"),
        (NETLIFY, "/a\tindex.html", "no destination"),
        (NETLIFY, "    Basic-Auth: me:secret", "starts with a path"),
        (NETLIFY, "/from /to not_a_status", "'not_a_status' is no status"),
        (NETLIFY, "http:// /to", "must start with /"),
        (NETLIFY, "/a /b 302 Country=ch,tw", "country is not known"),
        (NETLIFY, "/a /b 302 country=us", "country is not known"),
        (NETLIFY, "/a /b 302 Language=en", "by language"),
        (NETLIFY, "/admin/* /admin/:splat 200 Role=admin", "by role"),
        (NETLIFY, "/api/* https://b.example/:splat 200! Sign=KEY", "signed"),
        (NETLIFY, "/api/* https://b.example/:splat 200! signed=KEY", "signed"),
        (NETLIFY, "/a /b Country=us", "is no status"),
        (CLOUDFLARE, "/some page /somewhere else", "is no status"),
        (CLOUDFLARE, "/a /b 302 !important", "is no condition"),
        (CLOUDFLARE, "yes.example https://no.example", "starts with a path"),
        (CLOUDFLARE, "/a /a", "leads to itself"),
        (CLOUDFLARE, "/a/*/b/* /c", "one *"),
        (CLOUDFLARE, "/a/*/:splat /c", "twice"),
        (CLOUDFLARE, f"/{'a' * LONGEST} /b", "longer than"),
        ("own", "/a /b 99", "is no status"),
        ("own", "/a /b 300", "means nothing"),
        ("own", "/a /b 100", "means nothing"),
        ("own", "/a /b 204", "means nothing"),
        ("own", "/a /b 301!!", "is no status"),
        ("own", "/:a/:a /b", "twice"),
        ("own", "/:a a=:a /b", "twice"),
        ("own", "/a =x /b", "is no query parameter"),
        ("own", "/a x= /b", "is no query parameter"),
        ("own", "/a /b 301 Cookie=", "is no condition"),
        ("own", "/a /b\x01c", "can't be sent"),
    ],
)
def test_line_that_can_not_be_used_is_told_with_its_number(origin: str, line: str, words: str) -> None:
    rules = parse_redirects(f"# first\n/good /one\n{line}\n/good2 /two\n")
    (problem,) = rules.problems
    assert problem.startswith("_redirects line 3: "), origin
    assert words in problem
    assert [route.origin for route in rules.others] == ["_redirects line 2", "_redirects line 4"]


@pytest.mark.parametrize("text", ["", "\n\n", "# a\n  # b\n", "\ufeff", " \t \r\n"])
def test_nothing_is_no_rule(text: str) -> None:
    assert parse_redirects(text) == RedirectRules()


def test_secrets_of_a_mistaken_headers_file_are_not_repeated() -> None:
    rules = parse_redirects("/backup/*\n    Basic-Auth: someone:hunter2\n")
    assert len(rules.problems) == 2
    assert "hunter2" not in " ".join(rules.problems)


def test_patterns_are_bounded_and_literals_are_not() -> None:
    patterns = "".join(f"/p{n}/* /q/:splat\n" for n in range(PATTERN_LIMIT + 3))
    literals = "".join(f"/l{n} /m{n}\n" for n in range(PATTERN_LIMIT + 3))
    rules = parse_redirects(patterns + literals)
    assert len(rules.others) == 2 * PATTERN_LIMIT + 3
    assert len(rules.problems) == 3
    assert "rules with *" in rules.problems[0]


@pytest.mark.parametrize(
    ("path", "matching", "not_matching"),
    [
        ("/a", ["/a", "/a/"], ["/ab", "/a/b", "/"]),
        ("/", ["/"], ["//", "/a"]),
        ("/*", ["/", "/a", "/a/b"], []),
        ("/a/*", ["/a", "/a/", "/a/b/c"], ["/ab", "/b"]),
        ("/a*", ["/a", "/ab", "/a/b"], ["/b"]),
        ("/a/:x", ["/a/b", "/a/b/"], ["/a", "/a/", "/a/b/c"]),
        ("/:x.html", ["/a.html"], ["/a", "/a/b.html"]),
        ("/:y-:m", ["/a-b", "/a-b-c"], ["/ab"]),
    ],
)
def test_splat_paths(path: str, matching: list[str], not_matching: list[str]) -> None:
    rule = compile_rule(0, Route(src=compile_splat(path).source))

    def is_match(asked: str) -> bool:
        if rule.pattern is not None:
            return rule.pattern.match(asked) is not None
        return asked == rule.literal or (rule.is_open and asked == f"{rule.literal}/")

    assert [asked for asked in matching if not is_match(asked)] == []
    assert [asked for asked in not_matching if is_match(asked)] == []


LINES = st.lists(
    st.sampled_from(
        [
            "/a",
            "/*",
            "/:x",
            "https://a.example/*",
            ":splat",
            "301",
            "200!",
            "x=:y",
            "#c",
            "Country=a",
            "/b$1",
            "\t",
            "!",
        ]
    )
    | st.text(max_size=6),
    max_size=6,
).map(" ".join)


@given(st.lists(LINES, max_size=5).map("\n".join))
def test_every_text_is_read(text: str) -> None:
    rules = parse_redirects(text)
    for route in (*rules.forced, *rules.others):
        compile_rule(0, route)
    assert len(rules.problems) + len(rules.forced) + len(rules.others) <= text.count("\n") + 1
