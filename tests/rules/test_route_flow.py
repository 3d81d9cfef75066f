"""From a deployment's files and its `vercel.json`, over the compiled table, to what a request gets.

The first word of a case names where the behaviour comes from; PRODUCT numbers stand in the test names.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.rules.said import CLOUDFLARE, FILES, OWN, VERCEL, Said, ask, tell

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
@pytest.mark.product("B4.1", "B4.2", "B4.3")
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
@pytest.mark.product("B4.4", "B5.1", "B5.2", "B5.5")
def test_b5_vercel_json(said: Said, target: str, facts: dict[str, Any], answer: str) -> None:
    assert tell(ask(said, target, **facts)) == answer
