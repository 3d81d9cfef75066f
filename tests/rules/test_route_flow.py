"""From a deployment's files and what it says, over the compiled table, to what a request gets.

The first word of a case names where the behaviour comes from; PRODUCT numbers stand in the test names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.models import FileEntry, Manifest
from vclone_core.rules.answers import answer_request, compile_manifest
from vclone_core.rules.caching import CHECKED, IMMUTABLE
from vclone_core.rules.decisions import Decision, Redirect, Refuse, Rewrite, Serve
from vclone_core.rules.headers_file import parse_headers
from vclone_core.rules.manifests import decode_manifest, encode_manifest
from vclone_core.rules.redirects_file import parse_redirects
from vclone_core.rules.requests import Request
from vclone_core.rules.route_sources import Sources, clean_pages, parse_output_config, plan_routes
from vclone_core.rules.routes import match
from vclone_core.rules.tables import Table, compile_table
from vclone_core.rules.targets import parse_target
from vclone_core.rules.vercel_config import parse_vercel_config

# vercel/vercel: packages/routing-utils, packages/cli/src/util/dev/router.ts; vercel.com/docs/project-configuration
VERCEL = "vercel"
# netlify/build: packages/redirect-parser, packages/headers-parser; docs.netlify.com/routing/redirects
NETLIFY = "netlify"
# cloudflare/workers-sdk: packages/workers-shared/asset-worker, packages/pages-shared/asset-server
CLOUDFLARE = "cloudflare"
# What this platform decides where they differ, or say nothing.
OWN = "own"

FILES = (
    "index.html", "about.html", "docs/index.html", "docs/a.html", "app.js", "a b.txt", "café.html", "new.html",
    "blog/one.html", ".well-known/security.txt", "x%2Fy.txt", "app.1a2b3c4d.js", "LICENSE",
)  # fmt: skip


@dataclass(frozen=True)
class Said:
    """What a deployment says."""

    vercel: Any = None
    redirects: str = ""
    headers: str = ""
    ready: Any = None
    is_single_page: bool = False
    files: Sequence[str] = FILES


def build(said: Said) -> Table:
    return compile_table(manifest_of(said))


def manifest_of(said: Said) -> Manifest:
    vercel = parse_vercel_config(json.dumps(said.vercel or {}))
    clean = clean_pages(said.files) if vercel.clean_urls and said.ready is None else {}
    files = {
        f"/{clean.get(path, path)}": FileEntry(f"{number:064x}", 9, "text/html", immutable="1a2b" in path)
        for number, path in enumerate(said.files)
    }
    ready = None if said.ready is None else parse_output_config(json.dumps({"version": 3, "routes": said.ready})).routes
    sources = Sources(ready, vercel, parse_redirects(said.redirects), parse_headers(said.headers), said.is_single_page)
    manifest = Manifest("dep_x", "prj_x", None, files, plan_routes(sources, files))
    # What the edge reads is what was written: the table goes through its JSON.
    return decode_manifest(encode_manifest(manifest))


def ask(said: Said, target: str, **facts: Any) -> Decision:
    path, _, query = target.partition("?")
    request = Request(
        facts.pop("method", "GET"), facts.pop("host", "a.example"), parse_target(path.encode()).path, query, **facts
    )
    table = build(said)
    first = match(table, request)
    assert match(table, request) == first
    return first


def tell(decision: Decision) -> str:
    """A decision in one line."""
    match decision:
        case Serve():
            return decision.file if decision.status == 200 else f"{decision.status} {decision.file}"
        case Redirect():
            return f"{decision.status} -> {decision.location}"
        case Rewrite():
            return f"~> {decision.url}"
        case Refuse():
            return str(decision.status)


CLEAN = Said(vercel={"cleanUrls": True})
SLASH = Said(vercel={"trailingSlash": True})
NO_SLASH = Said(vercel={"trailingSlash": False})
CLEAN_SLASH = Said(vercel={"cleanUrls": True, "trailingSlash": True})
CLEAN_NO_SLASH = Said(vercel={"cleanUrls": True, "trailingSlash": False})
LOST = Said(files=(*FILES, "404.html", "docs/404.html", "docs/deep/404.html"))
SPA = Said(is_single_page=True)


@pytest.mark.parametrize(
    ("origin", "said", "target", "answer"),
    [
        (VERCEL, Said(), "/", "/index.html"),
        (VERCEL, Said(), "/index.html", "/index.html"),
        (VERCEL, Said(), "/docs", "/docs/index.html"),
        (VERCEL, Said(), "/docs/", "/docs/index.html"),
        (OWN, Said(), "/about", "404"),
        (OWN, Said(), "/about.html", "/about.html"),
        (OWN, Said(), "/about.html/", "404"),
        (OWN, Said(), "/a%20b.txt", "/a b.txt"),
        (OWN, Said(), "/caf%C3%A9.html", "/café.html"),
        (OWN, Said(), "/caf%c3%a9.html", "/café.html"),
        (OWN, Said(), "/docs%2Fa.html", "404"),
        (OWN, Said(), "/x%2Fy.txt", "/x%2Fy.txt"),
        (OWN, Said(), "/x%2fy.txt", "/x%2Fy.txt"),
        (OWN, Said(), "/x/y.txt", "404"),
        (OWN, Said(), "/.well-known/security.txt", "/.well-known/security.txt"),
        (OWN, Said(), "/.env", "404"),
        (OWN, Said(), "/ABOUT.html", "404"),
        (OWN, Said(), "/LICENSE", "/LICENSE"),
        # cleanUrls
        (VERCEL, CLEAN, "/about", "/about"),
        (VERCEL, CLEAN, "/about/", "/about"),
        (VERCEL, CLEAN, "/about.html", "308 -> /about"),
        (VERCEL, CLEAN, "/about.html?x=1", "308 -> /about?x=1"),
        (VERCEL, CLEAN, "/docs/a.html", "308 -> /docs/a"),
        (VERCEL, CLEAN, "/docs/a", "/docs/a"),
        (VERCEL, CLEAN, "/docs/index.html", "308 -> /docs"),
        (VERCEL, CLEAN, "/docs/index", "308 -> /docs"),
        (VERCEL, CLEAN, "/docs", "/docs/index.html"),
        (VERCEL, CLEAN, "/index.html", "308 -> /"),
        (VERCEL, CLEAN, "/index", "308 -> /"),
        (VERCEL, CLEAN, "/", "/index.html"),
        (VERCEL, CLEAN, "/indexes", "404"),
        (VERCEL, CLEAN, "/none.html", "308 -> /none"),
        (VERCEL, CLEAN, "/app.js", "/app.js"),
        (VERCEL, CLEAN, "/caf%C3%A9.html", "308 -> /caf%C3%A9"),
        (VERCEL, CLEAN, "/caf%C3%A9", "/café"),
        (OWN, CLEAN, "//evil.example/x.html", "308 -> /evil.example/x"),
        (VERCEL, CLEAN_SLASH, "/about", "308 -> /about/"),
        (VERCEL, CLEAN_SLASH, "/about/", "/about"),
        (VERCEL, CLEAN_SLASH, "/about.html", "308 -> /about/"),
        (VERCEL, CLEAN_SLASH, "/docs/index.html", "308 -> /docs/"),
        (VERCEL, CLEAN_SLASH, "/index.html", "308 -> /"),
        (VERCEL, CLEAN_SLASH, "/docs/", "/docs/index.html"),
        (VERCEL, CLEAN_NO_SLASH, "/about/", "308 -> /about"),
        (VERCEL, CLEAN_NO_SLASH, "/about", "/about"),
        (VERCEL, CLEAN_NO_SLASH, "/docs/", "308 -> /docs"),
        # trailingSlash
        (VERCEL, SLASH, "/docs", "308 -> /docs/"),
        (VERCEL, SLASH, "/docs?a=1", "308 -> /docs/?a=1"),
        (VERCEL, SLASH, "/docs/", "/docs/index.html"),
        (VERCEL, SLASH, "/docs/a.html", "/docs/a.html"),
        (VERCEL, SLASH, "/docs/a.html/", "308 -> /docs/a.html"),
        (VERCEL, SLASH, "/app.js", "/app.js"),
        (VERCEL, SLASH, "/app.js/", "308 -> /app.js"),
        (VERCEL, SLASH, "/none/deep", "308 -> /none/deep/"),
        (VERCEL, SLASH, "/none/deep/", "404"),
        (VERCEL, SLASH, "/.well-known", "404"),
        (VERCEL, SLASH, "/.well-known/security.txt", "/.well-known/security.txt"),
        (VERCEL, SLASH, "/.well-known/thing", "404"),
        (VERCEL, SLASH, "/", "/index.html"),
        (OWN, SLASH, "//evil.example", "404"),
        (OWN, SLASH, "//evil", "404"),
        (VERCEL, NO_SLASH, "/docs/", "308 -> /docs"),
        (VERCEL, NO_SLASH, "/docs", "/docs/index.html"),
        (VERCEL, NO_SLASH, "/", "/index.html"),
        (VERCEL, NO_SLASH, "/app.js/", "308 -> /app.js"),
        (OWN, NO_SLASH, "//evil.example/", "308 -> /evil.example"),
        # 404.html
        (CLOUDFLARE, LOST, "/none", "404 /404.html"),
        (CLOUDFLARE, LOST, "/docs/none", "404 /docs/404.html"),
        (CLOUDFLARE, LOST, "/docs/deep/a/b/c", "404 /docs/deep/404.html"),
        (CLOUDFLARE, LOST, "/docsnone", "404 /404.html"),
        (CLOUDFLARE, LOST, "/404.html", "/404.html"),
        (OWN, Said(vercel={"cleanUrls": True}, files=LOST.files), "/docs/none", "404 /docs/404.html"),
        # single page
        (OWN, SPA, "/cart/1", "/index.html"),
        (OWN, SPA, "/v1.2/cart", "/index.html"),
        (OWN, SPA, "/cart/", "/index.html"),
        (OWN, SPA, "/none.js", "404"),
        (OWN, SPA, "/assets/none.1a2b3c4d.css", "404"),
        (OWN, SPA, "/app.js", "/app.js"),
        (OWN, SPA, "/.env", "404"),
        (OWN, Said(is_single_page=True, files=LOST.files), "/cart", "404 /404.html"),
        (OWN, Said(is_single_page=True, files=("index.html", "docs/404.html")), "/docs/x", "404 /docs/404.html"),
        (OWN, Said(is_single_page=True, files=("index.html", "docs/404.html")), "/x", "/index.html"),
        (OWN, Said(is_single_page=True, files=("app.js",)), "/x", "404"),
        (OWN, Said(is_single_page=False), "/cart", "404"),
    ],
)  # fmt: skip
def test_b4_files(origin: str, said: Said, target: str, answer: str) -> None:
    assert tell(ask(said, target)) == answer, origin


def rules(**config: Any) -> Said:
    return Said(vercel=config)


REDIRECTS = rules(
    redirects=[
        {"source": "/old", "destination": "/new"},
        {"source": "/temp", "destination": "/new?a=1#h", "permanent": False},
        {"source": "/app.js", "destination": "/other.js"},
        {"source": "/b/:slug", "destination": "/blog/:slug"},
        {"source": "/all/:rest*", "destination": "https://b.example/:rest*"},
        {"source": "/n/:id(\\d+)", "destination": "/number/:id"},
        {"source": "/q", "destination": "/r/:id", "has": [{"type": "query", "key": "id"}]},
        {"source": "/h/(.*)", "destination": "https://:t.b.example/$1",
         "has": [{"type": "host", "value": "(?<t>[a-z]+)\\.shop\\.example"}]},
        {"source": "/c", "destination": "/with", "has": [{"type": "cookie", "key": "s", "value": "on"}]},
        {"source": "/c", "destination": "/without", "missing": [{"type": "cookie", "key": "s"}]},
        {"source": "/l", "destination": "/de", "has": [{"type": "header", "key": "Accept-Language", "value": "de.*"}]},
        {"source": "/tell/((?!secret).*)", "destination": "/told/$1"},
        {"source": "/s301", "destination": "/x", "statusCode": 301},
        {"source": "/s302", "destination": "/x", "statusCode": 302},
        {"source": "/s303", "destination": "/x", "statusCode": 303},
    ]
)  # fmt: skip
REWRITES = rules(
    rewrites=[
        {"source": "/app.js", "destination": "/about.html"},
        {"source": "/p", "destination": "/about.html"},
        {"source": "/post/:slug", "destination": "/blog/:slug.html"},
        {"source": "/one", "destination": "/two"},
        {"source": "/two", "destination": "/about.html"},
        {"source": "/api/:path*", "destination": "https://api.example/v1/:path*"},
        {"source": "/s/:id", "destination": "https://api.example/s"},
        {"source": "/gone", "destination": "/none.html"},
        {"source": "/text", "destination": "/a%20b.txt"},
        {"source": "/beta", "destination": "/new.html", "has": [{"type": "header", "key": "x-beta"}]},
    ]
)
LEGACY = rules(
    routes=[
        {"src": "/(.*)", "headers": {"x-all": "$1"}, "continue": True},
        {"src": "/a/(?<id>[0-9]+)", "dest": "/about.html"},
        {"src": "/post/.*", "methods": ["POST"], "status": 403},
        {"src": "/old", "status": 301, "headers": {"Location": "/new.html"}},
        {"src": "/gone", "status": 410},
        {"handle": "filesystem"},
        {"src": "/app/.*", "dest": "/index.html"},
        {"src": "/c1", "dest": "/c2", "check": True},
        {"handle": "rewrite"},
        {"src": "/c2", "dest": "/docs/index.html", "check": True},
        {"handle": "miss"},
        {"src": "/assets/.*", "status": 404, "check": True, "dest": "$0"},
        {"handle": "error"},
        {"status": 404, "src": "/.*", "dest": "/new.html"},
    ]
)


@pytest.mark.parametrize(
    ("said", "target", "facts", "answer"),
    [
        (REDIRECTS, "/old", {}, "308 -> /new"),
        (REDIRECTS, "/OLD", {}, "308 -> /new"),
        (REDIRECTS, "/old/", {}, "404"),
        (REDIRECTS, "/old?x=1", {}, "308 -> /new?x=1"),
        (REDIRECTS, "/temp?x=1", {}, "307 -> /new?a=1&x=1#h"),
        (REDIRECTS, "/temp?a=9", {}, "307 -> /new?a=1#h"),
        (REDIRECTS, "/app.js", {}, "308 -> /other.js"),
        (REDIRECTS, "/b/x", {}, "308 -> /blog/x"),
        (REDIRECTS, "/b/x%2Fy", {}, "308 -> /blog/x%2Fy"),
        (REDIRECTS, "/b/x%3Fy%23z", {}, "308 -> /blog/x%3Fy%23z"),
        (REDIRECTS, "/b/caf%C3%A9", {}, "308 -> /blog/caf%C3%A9"),
        (REDIRECTS, "/b/x/y", {}, "404"),
        (REDIRECTS, "/all/x/y", {}, "308 -> https://b.example/x/y"),
        (REDIRECTS, "/all", {}, "308 -> https://b.example/"),
        (REDIRECTS, "/n/12", {}, "308 -> /number/12"),
        (REDIRECTS, "/n/x", {}, "404"),
        (REDIRECTS, "/q?id=7", {}, "308 -> /r/7?id=7"),
        (REDIRECTS, "/q?id=a%26b%3Dc", {}, "308 -> /r/a&b=c?id=a%26b%3Dc"),
        (REDIRECTS, "/q", {}, "404"),
        (REDIRECTS, "/h/x/y", {"host": "my.shop.example"}, "308 -> https://my.b.example/x/y"),
        (REDIRECTS, "/h/x", {"host": "shop.example"}, "404"),
        (REDIRECTS, "/c", {"headers": {b"cookie": b"s=on"}}, "308 -> /with"),
        (REDIRECTS, "/c", {"headers": {b"cookie": b"s=ON"}}, "404"),
        (REDIRECTS, "/c", {}, "308 -> /without"),
        (REDIRECTS, "/l", {"headers": {b"accept-language": b"de-CH"}}, "308 -> /de"),
        (REDIRECTS, "/l", {"headers": {b"accept-language": b"en"}}, "404"),
        (REDIRECTS, "/tell/all", {}, "308 -> /told/all"),
        (REDIRECTS, "/tell/secret", {}, "404"),
        (REDIRECTS, "/s301", {}, "301 -> /x"),
        (REDIRECTS, "/s302", {}, "302 -> /x"),
        (REDIRECTS, "/s303", {}, "303 -> /x"),
        (REWRITES, "/app.js", {}, "/app.js"),
        (REWRITES, "/p", {}, "/about.html"),
        (REWRITES, "/post/one", {}, "/blog/one.html"),
        (REWRITES, "/post/none", {}, "404"),
        (REWRITES, "/one", {}, "/about.html"),
        (REWRITES, "/api", {}, "~> https://api.example/v1/"),
        (REWRITES, "/api/a/b%20c", {}, "~> https://api.example/v1/a/b%20c"),
        (REWRITES, "/s/a%26b", {}, "~> https://api.example/s?id=a%26b"),
        (REWRITES, "/gone", {}, "404"),
        (REWRITES, "/text", {}, "/a b.txt"),
        (REWRITES, "/beta", {"headers": {b"x-beta": b""}}, "/new.html"),
        (REWRITES, "/beta", {}, "404"),
        (rules(cleanUrls=True, rewrites=REWRITES.vercel["rewrites"]), "/p", {}, "/about"),
        (rules(cleanUrls=True, rewrites=REWRITES.vercel["rewrites"]), "/post/one", {}, "/blog/one"),
        (rules(cleanUrls=True, rewrites=[{"source": "/(.*)", "destination": "/index.html"}]), "/about", {}, "/about"),
        (rules(rewrites=[{"source": "/(.*)", "destination": "/index.html"}]), "/any/thing.js", {}, "/index.html"),
        (rules(cleanUrls=True, redirects=[{"source": "/about.html", "destination": "/x"}]), "/about.html", {},
         "308 -> /about"),
        (rules(trailingSlash=True, redirects=[{"source": "/old", "destination": "/x"}]), "/old", {}, "308 -> /old/"),
        (rules(trailingSlash=True, redirects=[{"source": "/old/", "destination": "/x"}]), "/old/", {}, "308 -> /x"),
        (rules(trailingSlash=True, redirects=[{"source": "/.well-known/a", "destination": "/x"}]), "/.well-known/a",
         {}, "308 -> /x"),
        (LEGACY, "/a/7", {}, "/about.html"),
        (LEGACY, "/a/x", {}, "404 /new.html"),
        (LEGACY, "/post/x", {"method": "POST"}, "403"),
        (LEGACY, "/post/x", {}, "404 /new.html"),
        (LEGACY, "/old", {}, "301 -> /new.html"),
        (LEGACY, "/gone", {}, "410"),
        (LEGACY, "/app/x", {}, "/index.html"),
        (LEGACY, "/c1", {}, "/docs/index.html"),
        (LEGACY, "/assets/x.js", {}, "404 /new.html"),
    ],
)  # fmt: skip
def test_b5_vercel_json(said: Said, target: str, facts: dict[str, Any], answer: str) -> None:
    assert tell(ask(said, target, **facts)) == answer


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
        (OWN, Said(ready=[], files=LOST.files), "/docs/x", "404 /docs/404.html"),
    ],
)  # fmt: skip
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


def test_b9_lifetimes() -> None:
    assert answer(Said(), "/app.1a2b3c4d.js")[1][b"cache-control"] == IMMUTABLE
    assert answer(Said(), "/index.html")[1][b"cache-control"] == CHECKED
    said = Said(headers="/app.js\n  Cache-Control: max-age=9")
    assert answer(said, "/app.js")[1][b"cache-control"] == b"max-age=9"
    assert answer(Said(headers="/*\n  X: 1\n/app.js\n  ! Cache-Control"), "/app.js")[1][b"cache-control"] == CHECKED


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
