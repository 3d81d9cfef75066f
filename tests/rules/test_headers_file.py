"""`_headers` -> routes. The first word of a case names where it comes from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.rules.headers_file import BLOCK_LIMIT, HeaderRules, parse_headers
from vclone_core.rules.patterns import LONGEST
from vclone_core.rules.tables import compile_rule

# netlify/build packages/headers-parser: tests/line-parser.test.ts with its fixtures, tests/for-regexp.test.ts
NETLIFY = "headers-parser"
# cloudflare/workers-sdk packages/workers-shared: utils/tests/parseHeaders.*.test.ts
CLOUDFLARE = "parseHeaders.test"


@pytest.mark.parametrize(
    ("origin", "text", "said"),
    [
        (NETLIFY, "/p\n  test: one", [("^/p/?$", {"test": "one"})]),
        (NETLIFY, "/p\n\n  test: one\n", [("^/p/?$", {"test": "one"})]),
        (NETLIFY, "/p\n  # why\n  test: one", [("^/p/?$", {"test": "one"})]),
        (NETLIFY, "/p\ntest: one", [("^/p/?$", {"test": "one"})]),
        (NETLIFY, "/p\n  test : one", [("^/p/?$", {"test": "one"})]),
        (NETLIFY, "/p\n  test:   one", [("^/p/?$", {"test": "one"})]),
        (NETLIFY, "/p\n  test: one\n  test: two", [("^/p/?$", {"test": "one, two"})]),
        (NETLIFY, "/p\n  test: one\n\n/p\n  test: three", [("^/p/?$", {"test": "one"}), ("^/p/?$", {"test": "three"})]),
        (NETLIFY, "/a/*\n  x: 1", [("^/a(?:/(?<splat>.*))?$", {"x": "1"})]),
        (NETLIFY, "/*\n  x: 1", [("^/(?<splat>.*)$", {"x": "1"})]),
        (NETLIFY, "/a/:b\n  x: 1", [("^/a/(?<b>[^/]+?)/?$", {"x": "1"})]),
        (NETLIFY, "/a/b*c\n  x: 1", [("^/a/b(?<splat>.*)c/?$", {"x": "1"})]),
        (NETLIFY, "/a/*/b/*\n  x: 1", [("^/a/(?<splat>.*)/b(?:/(.*))?$", {"x": "1"})]),
        (NETLIFY, "/a.\n  x: 1", [("^/a\\./?$", {"x": "1"})]),
        (CLOUDFLARE, "                /a\n    Name         :           Value\n", [("^/a/?$", {"name": "Value"})]),
        (CLOUDFLARE, "/a\r\n  Name: Value\r\n", [("^/a/?$", {"name": "Value"})]),
        (CLOUDFLARE, "/a\n  !Name: Value", [("^/a/?$", {"!name": "Value"})]),
        (CLOUDFLARE, "/a\n  Name: Value\n  ! Place", [("^/a/?$", {"name": "Value", "place": ""})]),
        (CLOUDFLARE, "/a\n  ! Place\n  Place: here", [("^/a/?$", {"place": "here"})]),
        (CLOUDFLARE, "/a\n  Link: </a.css>; rel=preload\n  Link: </b.css>; rel=preload",
         [("^/a/?$", {"link": "</a.css>; rel=preload, </b.css>; rel=preload"})]),
        (CLOUDFLARE, "/b/:code\n  x-code: is :code", [("^/b/(?<code>[^/]+?)/?$", {"x-code": "is ${code}"})]),
        (CLOUDFLARE, "/b/*\n  x: /c/:splat", [("^/b(?:/(?<splat>.*))?$", {"x": "/c/${splat}"})]),
        (CLOUDFLARE, "/some%20page\n  x: 1", [("^/some\\ page/?$", {"x": "1"})]),
        ("own", "/a\n  CSP: img-src https: data:", [("^/a/?$", {"csp": "img-src https: data:"})]),
        ("own", "/a\n  x: costs $1", [("^/a/?$", {"x": "costs $$1"})]),
        ("own", "/a\n  x: a:b:c", [("^/a/?$", {"x": "a:b:c"})]),
        ("own", "\ufeff/a\n  x: 1", [("^/a/?$", {"x": "1"})]),
    ],
)  # fmt: skip
def test_file(origin: str, text: str, said: list[tuple[str, dict[str, str]]]) -> None:
    rules = parse_headers(text)
    assert rules.problems == (), origin
    assert [(route.src, route.headers) for route in rules.routes] == said
    assert all(route.is_continue and not route.case_sensitive for route in rules.routes)


@pytest.mark.parametrize(
    ("path", "condition"),
    [
        ("https://a.example/b", {"type": "host", "value": {"eq": "a.example"}}),
        ("https://a.example", {"type": "host", "value": {"eq": "a.example"}}),
        ("https://:sub.a.example/*", {"type": "host", "value": "(?<sub>[^/.]+)\\.a\\.example"}),
    ],
)
def test_path_with_a_host_asks_for_it(path: str, condition: dict[str, object]) -> None:
    (route,) = parse_headers(f"{path}\n  x: 1").routes
    assert route.has == (condition,)


@pytest.mark.parametrize(
    ("origin", "text", "line", "words"),
    [
        (NETLIFY, "  test: one\n/p\n  a: b", 1, "a path must come before"),
        (NETLIFY, "/p\n  : one\n  a: b", 2, "can't be sent"),
        (NETLIFY, "/p\n  test:\n  a: b", 2, "no value"),
        (NETLIFY, "/p\n  test = one\n  a: b", 2, "neither a path nor"),
        (NETLIFY, "/p\n", 1, "no header fields"),
        (NETLIFY, "/p\n  Basic-Auth: me:hunter2\n  a: b", 2, "Basic-Auth is not supported"),
        (CLOUDFLARE, "c\n/p\n  a: b", 1, "a path must come before"),
        (CLOUDFLARE, "/p\n  I'm wrong\n  a: b", 2, "neither a path nor"),
        (CLOUDFLARE, "/p\n  !x-content-type\n  a: b", 2, "neither a path nor"),
        (CLOUDFLARE, "/p\n  ! Content-Type: application/json\n  a: b", 2, "can't be sent"),
        (CLOUDFLARE, "/p\n  a b: c\n  a: b", 2, "can't be sent"),
        (CLOUDFLARE, "/p\n/q\n  a: b", 1, "no header fields"),
        (CLOUDFLARE, "/a/*/:splat\n  x: y\n/p\n  a: b", 1, "twice"),
        (CLOUDFLARE, "ftp://a.example/\n  x: y\n/p\n  a: b", 1, "must start with /"),
        (CLOUDFLARE, f"/{'a' * LONGEST}\n  x: y\n/p\n  a: b", 1, "longer than"),
        ("own", "/*/*/*/*/*\n  x: y\n/p\n  a: b", 1, "at most 4"),
        ("own", "/p\n  Set-Cookie: a=b\n  Set-Cookie: c=d", 3, "one cookie"),
        ("own", "/p\n  Content-Length: 5\n  a: b", 2, "said by the platform"),
        ("own", "/p\n  ETag: x\n  a: b", 2, "said by the platform"),
        ("own", "/p\n  Location: /x\n  a: b", 2, "said by the platform"),
        ("own", "/p\n  x: a\x0bb\x00\n  a: b", 2, "can't be sent"),
    ],
)
def test_line_that_can_not_be_used_is_told_with_its_number(origin: str, text: str, line: int, words: str) -> None:
    rules = parse_headers(text)
    (problem,) = rules.problems
    assert problem.startswith(f"_headers line {line}: "), origin
    assert words in problem
    assert "hunter2" not in problem
    assert len(rules.routes) == (0 if text == "/p\n" else 1)


@pytest.mark.parametrize("text", ["", "\n", "# a\n", "\ufeff"])
def test_nothing_is_no_rule(text: str) -> None:
    assert parse_headers(text) == HeaderRules()


def test_paths_are_bounded() -> None:
    rules = parse_headers("".join(f"/{n}\n  a: b\n" for n in range(BLOCK_LIMIT + 2)))
    assert len(rules.routes) == BLOCK_LIMIT
    assert len(rules.problems) == 2


LINES = st.sampled_from(
    ["/a", "/*", "/:x/*", "https://a.example/*", "  a: b", "a: :x", "! a", "! a: b", "#", ":", "a:", "Basic-Auth: x"]
) | st.text(max_size=8)


@given(st.lists(LINES, max_size=8).map("\n".join))
def test_every_text_is_read(text: str) -> None:
    for route in parse_headers(text).routes:
        compile_rule(0, route)
