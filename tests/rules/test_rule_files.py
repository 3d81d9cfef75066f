"""What `_redirects` and `_headers` do to a deployment, alone and beside `vercel.json`.

The first word of a case names where the behaviour comes from; PRODUCT numbers stand in the test names.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rules.said import CLOUDFLARE, FILES, NETLIFY, OWN, Said, ask, build, manifest_of, tell

from vclone_core.rules.answers import answer_request, compile_manifest
from vclone_core.rules.caching import CHECKED, IMMUTABLE
from vclone_core.rules.decisions import Redirect, Serve
from vclone_core.rules.requests import Request
from vclone_core.rules.route_sources import Sources, clean_pages, plan_routes
from vclone_core.rules.routes import match
from vclone_core.rules.tables import compile_table

LOST_FILES = (*FILES, "404.html", "docs/404.html", "docs/deep/404.html")

NETLIFY_RULES = Said(
    redirects="""
/home            /
/moved           /new.html          302
/app.js          /other.js
/app.1a2b3c4d.js /other.js          301!
/docs            /elsewhere
/news/*          /blog/:splat
/d/:y/:m/:s      /blog/:y-:m/:s     302
/store id=:id    /item/:id
/store id=:id cat=:cat /never
/sale  ref=mail  /mail              302
/spa/*           /index.html        200
/shown           /about.html        200
/shop/*          /new.html          404
/full/*          https://b.example/x/:splat   302
/proxy/*         https://b.example/:splat     200
/shut            /none.html         410
/about.html      /forced            200!
/LICENSE         /about.html        200!
/slash/          /slash             302
/Case            /lower             302
/cook            /new.html          200  Cookie=beta
https://old.example/*  https://new.example/:splat  301!
/first           /one
/first           /two
/nl/:x           /nl-:x.html        200
"""
)


@pytest.mark.parametrize(
    ("origin", "target", "facts", "answer"),
    [
        (NETLIFY, "/home", {}, "301 -> /"),
        (NETLIFY, "/home/", {}, "301 -> /"),
        (NETLIFY, "/home?a=1", {}, "301 -> /?a=1"),
        (NETLIFY, "/moved", {}, "302 -> /new.html"),
        (NETLIFY, "/app.js", {}, "/app.js"),
        (NETLIFY, "/app.1a2b3c4d.js", {}, "301 -> /other.js"),
        (NETLIFY, "/docs", {}, "/docs/index.html"),
        (NETLIFY, "/news/a/b", {}, "301 -> /blog/a/b"),
        (NETLIFY, "/news", {}, "301 -> /blog/"),
        (NETLIFY, "/news/", {}, "301 -> /blog/"),
        (NETLIFY, "/newspaper", {}, "404"),
        (NETLIFY, "/news/a%2Fb", {}, "301 -> /blog/a%2Fb"),
        (NETLIFY, "/news//evil.example", {}, "301 -> /blog//evil.example"),
        (NETLIFY, "/d/2026/11/x", {}, "302 -> /blog/2026-11/x"),
        (NETLIFY, "/d/2026/11", {}, "404"),
        (NETLIFY, "/store?id=7", {}, "301 -> /item/7?id=7"),
        (NETLIFY, "/store?cat=1&id=7", {}, "301 -> /item/7?cat=1&id=7"),
        (NETLIFY, "/store", {}, "404"),
        (NETLIFY, "/sale?ref=mail", {}, "302 -> /mail?ref=mail"),
        (NETLIFY, "/sale?ref=web", {}, "404"),
        (NETLIFY, "/spa/a/b", {}, "/index.html"),
        (NETLIFY, "/shown", {}, "/about.html"),
        (NETLIFY, "/shop/x", {}, "404 /new.html"),
        (NETLIFY, "/full/a?b=c", {}, "302 -> https://b.example/x/a?b=c"),
        (NETLIFY, "/proxy/a%20b", {}, "~> https://b.example/a%20b"),
        (NETLIFY, "/shut", {}, "410"),
        (NETLIFY, "/about.html", {}, "404"),
        (NETLIFY, "/LICENSE", {}, "/about.html"),
        (NETLIFY, "/first", {}, "301 -> /one"),
        (OWN, "/slash/", {}, "302 -> /slash"),
        (OWN, "/slash", {}, "404"),
        (CLOUDFLARE, "/Case", {}, "302 -> /lower"),
        (CLOUDFLARE, "/case", {}, "404"),
        (NETLIFY, "/cook", {"headers": {b"cookie": b"beta=1"}}, "/new.html"),
        (NETLIFY, "/cook", {}, "404"),
        (NETLIFY, "/a/b", {"host": "old.example"}, "301 -> https://new.example/a/b"),
        (NETLIFY, "/", {"host": "old.example"}, "301 -> https://new.example/"),
        (NETLIFY, "/", {}, "/index.html"),
        (CLOUDFLARE, "/nl/%2e%2e%2fx", {}, None),
    ],
)
@pytest.mark.product("B4.4", "B5.6")
def test_b5_redirects_file(origin: str, target: str, facts: dict[str, Any], answer: str | None) -> None:
    if answer is None:
        with pytest.raises(Exception, match="path"):
            ask(NETLIFY_RULES, target, **facts)
    else:
        assert tell(ask(NETLIFY_RULES, target, **facts)) == answer, origin


@pytest.mark.parametrize("target", ["/", "/any", "/app.js"])
def test_forced_rule_for_everything_goes_before_every_file(target: str) -> None:
    said = Said(redirects="/* https://b.example/:splat 302!")
    assert tell(ask(said, target)) == f"302 -> https://b.example{target}"


@pytest.mark.parametrize(
    ("origin", "said", "target", "answer"),
    [
        (OWN, Said(vercel={"redirects": [{"source": "/x", "destination": "/v"}]}, redirects="/x /n 301!"), "/x",
         "308 -> /v"),
        (OWN, Said(vercel={"rewrites": [{"source": "/x", "destination": "/new.html"}]}, redirects="/x /n"), "/x",
         "/new.html"),
        (OWN, Said(vercel={"rewrites": [{"source": "/x", "destination": "/new.html"}]}, redirects="/x /n 301!"), "/x",
         "301 -> /n"),
        (OWN, Said(vercel={"cleanUrls": True}, redirects="/about /n"), "/about", "/about"),
        (OWN, Said(vercel={"cleanUrls": True}, redirects="/about /n 301!"), "/about", "301 -> /n"),
        (OWN, Said(vercel={"cleanUrls": True}, redirects="/p /about.html 200"), "/p", "/about"),
        (OWN, Said(redirects="/cart /n", is_single_page=True), "/cart", "301 -> /n"),
        (NETLIFY, Said(redirects="/* /index.html 200"), "/deep/link", "/index.html"),
        (NETLIFY, Said(redirects="/* /index.html 200"), "/app.js", "/app.js"),
        (NETLIFY, Said(redirects="/* /new.html 404"), "/any", "404 /new.html"),
        (OWN, Said(ready=[{"src": "/c", "dest": "/new.html"}], vercel={"redirects": [{"source": "/c",
         "destination": "/v"}]}, redirects="/c /n 301!"), "/c", "/new.html"),
        (OWN, Said(ready=[], is_single_page=True), "/cart", "404"),
        (OWN, Said(ready=[], files=LOST_FILES), "/docs/x", "404 /docs/404.html"),
    ],
)  # fmt: skip
@pytest.mark.product("B4.5")
def test_b4_vercel_json_goes_first_and_a_ready_output_stands_alone(
    origin: str, said: Said, target: str, answer: str
) -> None:
    assert tell(ask(said, target)) == answer, origin


def headers_of(said: Said, target: str, **facts: Any) -> dict[bytes, bytes]:
    return dict(ask(said, target, **facts).headers)


HEADERS = """
/*
  X-All: 1
  X-Frame-Options: DENY
  Cache-Control: public, max-age=60
/docs/*
  X-Docs: is :splat
  X-All: 2
/docs/a.html
  ! X-Frame-Options
  X-Many: a
  X-Many: b
/blog/:slug
  X-Slug: :slug costs $1
https://b.example/*
  X-Host: b
"""


@pytest.mark.parametrize(
    ("origin", "target", "facts", "said"),
    [
        (NETLIFY, "/app.js", {}, {b"x-all": b"1", b"x-frame-options": b"DENY"}),
        (NETLIFY, "/docs/", {}, {b"x-all": b"2", b"x-docs": b"is ", b"x-frame-options": b"DENY"}),
        (NETLIFY, "/docs", {}, {b"x-all": b"2", b"x-docs": b"is ", b"x-frame-options": b"DENY"}),
        (NETLIFY, "/DOCS/x", {}, {b"x-all": b"2", b"x-docs": b"is x", b"x-frame-options": b"DENY"}),
        (CLOUDFLARE, "/docs/a.html", {}, {b"x-all": b"2", b"x-docs": b"is a.html", b"x-many": b"a, b"}),
        (CLOUDFLARE, "/blog/one.html", {},
         {b"x-all": b"1", b"x-frame-options": b"DENY", b"x-slug": b"one.html costs $1"}),
        (CLOUDFLARE, "/app.js", {"host": "b.example"}, {b"x-all": b"1", b"x-frame-options": b"DENY", b"x-host": b"b"}),
        (OWN, "/blog/a%0Ab", {}, None),
    ],
)  # fmt: skip
@pytest.mark.product("B4.4", "B5.4")
def test_b5_headers_file(origin: str, target: str, facts: dict[str, Any], said: dict[bytes, bytes] | None) -> None:
    if said is None:
        with pytest.raises(Exception, match="path"):
            headers_of(Said(headers=HEADERS), target, **facts)
        return
    found = headers_of(Said(headers=HEADERS), target, **facts)
    assert found.pop(b"cache-control") == b"public, max-age=60"
    assert found == said, origin


def test_headers_of_vercel_json_win_over_those_of_the_file() -> None:
    config = {"headers": [{"source": "/(.*)", "headers": [{"key": "X-A", "value": "vercel"}]}]}
    assert headers_of(Said(vercel=config, headers="/*\n  X-A: file"), "/app.js")[b"x-a"] == b"vercel"


def test_later_block_says_the_last_word() -> None:
    config = {
        "headers": [
            {"source": "/(.*)", "headers": [{"key": "X-A", "value": "1"}, {"key": "X-B", "value": "1"}]},
            {"source": "/app.js", "headers": [{"key": "x-a", "value": "2"}]},
        ]
    }
    assert headers_of(Said(vercel=config), "/app.js") == {b"x-a": b"2", b"x-b": b"1"}


def test_redirect_takes_security_headers_and_no_lifetime_of_a_page() -> None:
    said = Said(headers="/*\n  Cache-Control: max-age=99\n  X-A: 1", redirects="/old /new")
    assert headers_of(said, "/old") == {b"x-a": b"1"}


def test_redirect_has_the_lifetime_its_own_rule_gives() -> None:
    said = Said(vercel={"routes": [{"src": "/o", "status": 301, "headers": {"Location": "/n", "Cache-Control": "x"}}]})
    assert headers_of(said, "/o") == {b"cache-control": b"x"}


def test_hit_adds_to_what_was_said_and_only_an_important_one_replaces_it() -> None:
    """vercel packages/cli dev router: no header is overridden in phase hit."""
    routes = [
        {"src": "/.*", "headers": {"x-a": "first", "x-b": "first"}, "continue": True},
        {"handle": "hit"},
        {"src": "/.*", "headers": {"x-a": "hit", "x-c": "hit"}, "continue": True},
        {"src": "/app.js", "headers": {"x-b": "hit", "x-c": "later"}, "continue": True, "important": True},
    ]
    assert headers_of(Said(ready=routes), "/app.js") == {b"x-a": b"first", b"x-b": b"hit", b"x-c": b"later"}


def answer(said: Said, path: str) -> tuple[int, dict[bytes, bytes]]:
    compiled = compile_manifest(manifest_of(said))
    given_ = answer_request(compiled, Request("GET", "a.example", path), is_indexed=True)
    return given_.status, dict(given_.headers)


@pytest.mark.parametrize("domain", ["Domain=apps.example", " domain = .example", "DOMAIN=:splat", "domain"])
def test_cookies_of_rules_stay_with_their_host(domain: str) -> None:
    """Security: what one deployment sets must not reach the others below the platform's domain."""
    cookie = f"a=1; Path=/;{domain}; Secure"
    said = Said(
        headers=f"/app.js\n  Set-Cookie: {cookie}",
        vercel={"headers": [{"source": "/about.html", "headers": [{"key": "Set-Cookie", "value": cookie}]}]},
    )
    for path in ("/app.js", "/about.html"):
        assert answer(said, path)[1][b"set-cookie"] == b"a=1; Path=/; Secure"


@pytest.mark.product("B9.1")
def test_b9_missing_things_are_never_kept() -> None:
    rules_ = Said(
        headers="/*\n  Cache-Control: public, max-age=31536000, immutable", files=("404.html", "a.1a2b3c4d.js")
    )
    for path in ("/none", "/none.1a2b3c4d.js"):
        status, headers = answer(rules_, path)
        assert (status, headers[b"cache-control"]) == (404, CHECKED)
    bare = Said(headers=rules_.headers, files=("a.1a2b3c4d.js",))
    assert answer(bare, "/none.1a2b3c4d.js")[1][b"cache-control"] == CHECKED
    assert answer(Said(redirects="/x /a.1a2b3c4d.js 404", files=bare.files), "/x")[1][b"cache-control"] == CHECKED


@pytest.mark.product("B9.1", "B9.2", "B9.3")
def test_b9_lifetimes() -> None:
    assert answer(Said(), "/app.1a2b3c4d.js")[1][b"cache-control"] == IMMUTABLE
    assert answer(Said(), "/index.html")[1][b"cache-control"] == CHECKED
    said = Said(headers="/app.js\n  Cache-Control: max-age=9")
    assert answer(said, "/app.js")[1][b"cache-control"] == b"max-age=9"
    assert answer(Said(headers="/*\n  X: 1\n/app.js\n  ! Cache-Control"), "/app.js")[1][b"cache-control"] == CHECKED


@pytest.mark.processes
@pytest.mark.timeout(600)  # It is twelve seconds of work, which a busy machine may take minutes for.
@pytest.mark.product("B5.7")
def test_b5_a_hundred_thousand_literals_are_one_look_up() -> None:
    """Structure, not time: nothing is tried for a path but its own rules (benchmarks/edge_rules.py has the times)."""
    many = Said(redirects="".join(f"/old-{n} /new-{n}\n" for n in range(100_000)))
    table = build(many)
    phase = table.phases["filesystem"]
    assert (len(phase.literals), len(phase.patterns), phase.linear_set) == (100_000, 0, None)
    assert len(list(phase.candidates("/old-99999", -1))) == 1
    assert len(list(phase.candidates("/old-99999/", -1))) == 1
    assert not list(phase.candidates("/none", -1))
    assert tell(match(table, Request("GET", "a.example", "/old-4711"))) == "301 -> /new-4711"


FILE_NAMES = st.lists(
    st.sampled_from(["index.html", "a.html", "a", "b/index.html", "b/404.html", "404.html", "x.js", "b.html"]),
    unique=True,
)
SAID = st.builds(
    Said,
    vercel=st.fixed_dictionaries(
        {},
        optional={
            "cleanUrls": st.booleans(),
            "trailingSlash": st.booleans(),
            "redirects": st.just([{"source": "/r/:x", "destination": "/:x"}]),
            "rewrites": st.sampled_from(
                [[{"source": "/(.*)", "destination": "/a.html"}], [{"source": "/w/:p*", "destination": "/:p*"}]]
            ),
        },
    ),
    redirects=st.lists(
        st.sampled_from(["/n/* /:splat", "/a /b 301!", "/* /index.html 200", "/:x /b/:x 404", "/a/ /a", "bad"])
    ).map("\n".join),
    headers=st.sampled_from(["", "/*\n  x-a: :splat", "/a\n  ! x-a"]),
    is_single_page=st.booleans(),
    files=FILE_NAMES,
)


@given(SAID, st.text("/abnrwx.%é", max_size=10).map(lambda text: "/" + text))
def test_every_request_gets_an_answer_that_leaves_the_site_only_by_rule(said: Said, path: str) -> None:
    manifest = manifest_of(said)
    decision = match(compile_table(manifest), Request("GET", "a.example", path))
    if isinstance(decision, Serve):
        assert decision.file in manifest.files
    if isinstance(decision, Redirect):
        assert decision.location.startswith("/")
        assert not decision.location.startswith("//")
    assert all(0 <= number < len(manifest.routes) and manifest.routes[number].origin for number in decision.rules)


@given(FILE_NAMES)
def test_clean_pages_take_no_place_twice(names: list[str]) -> None:
    clean = clean_pages(names)
    served = [clean.get(name, name) for name in names]
    assert len(set(served)) == len(served)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/oil", "/oil.html"),
        ("/oil.html", "/oil.html"),
        ("/blog/first", "/blog/first.html"),
        ("/blog", "/blog/index.html"),
        ("/both", "/both"),
        ("/[slug]", "/[slug].html"),
        ("/$id", "/$id.html"),
        ("/OIL", None),
        ("/other", None),
        ("/404", None),
    ],
)
def test_own_pages_of_a_framework_are_found_without_html(path: str, shown: str | None) -> None:
    names = ("oil.html", "blog/first.html", "blog/index.html", "both", "both.html", "[slug].html", "$id.html")
    bare = manifest_of(Said(files=(*names, "index.html", "404.html")))
    routes = plan_routes(Sources(has_clean_urls=True), bare.files)
    table = compile_table(replace(bare, routes=routes))
    decision = match(table, Request("GET", "a.example", path))
    assert isinstance(decision, Serve)
    assert (decision.file, decision.status) == ((shown, 200) if shown else ("/404.html", 404))
    # Of other frameworks they are what their names say.
    assert match(compile_table(bare), Request("GET", "a.example", "/oil")).status == 404  # type: ignore[union-attr]
