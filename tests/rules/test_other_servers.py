"""Where rules lead to another server: what the platforms document of it, page by page, and what is decided here."""

from __future__ import annotations

from typing import Any

import pytest
from tests.rules.said import Said, ask, tell

# vercel.com/docs/rewrites, vercel.com/docs/project-configuration/vercel-json#rewrites
VERCEL = "vercel: rewrites"
# vercel.com/docs/build-output-api/configuration#source-route
OUTPUT = "vercel: build output"
# docs.netlify.com/manage/routing/redirects/rewrites-proxies
PROXY = "netlify: proxy to another service"
# docs.netlify.com/manage/routing/redirects/redirect-options
OPTIONS = "netlify: redirect options"
# developers.cloudflare.com/pages/configuration/redirects
CLOUDFLARE = "cloudflare: redirects"
OWN = "own"

CONFIG = Said(
    vercel={
        "rewrites": [
            {"source": "/api/:path*", "destination": "https://api.example/:path*"},
            {"source": "/resize/:width/:height", "destination": "https://img.example/sharp"},
            {"source": "/post/:post(\\d{1,})", "destination": "https://news.example/:post"},
            {"source": "/keyed/:id", "destination": "https://api.example/:id?key=1"},
            {"source": "/proxy/:match*/", "destination": "https://b.example/:match*/"},
            {"source": "/about.html", "destination": "https://never.example/"},
            {"source": "/uk/:path*", "destination": "https://uk.example/:path*",
             "has": [{"type": "header", "key": "x-vercel-ip-country", "value": "GB"}]},
            {"source": "/team/:path*", "destination": "https://:team.example/:path*",
             "has": [{"type": "host", "value": "(?<team>[a-z]+)\\.shop\\.example"}]},
            {"source": "/beta/:path*", "destination": "https://beta.example/:path*",
             "missing": [{"type": "cookie", "key": "stable"}]},
            {"source": "/plain/(.*)", "destination": "http://old.example:8080/$1"},
            {"source": "/((?!api/|docs).*)", "destination": "https://rest.example/$1"},
        ]
    }
)  # fmt: skip
LINES = Said(
    redirects="""
/api/*           https://api.example/:splat          200
/forced.js       https://cdn.example/x.js            200!
/app.js          https://cdn.example/app.js          200
/about.html      https://cdn.example/about           200!
/u/:name         https://:name.example/profile       200
/one/:a/:b       https://b.example/:b/:a             200
/search q=:q     https://find.example/?query=:q      200
/gone/*          https://b.example/sorry             404
/moved/*         https://b.example/:splat            302
/cook/*          https://beta.example/:splat         200  Cookie=beta
https://old.example/*  https://new.example/:splat    200
/fallback/*      https://b.example/:splat            200
"""
)
READY = Said(
    ready=[
        {"src": "^/early(/.*)?$", "dest": "https://api.example$1"},
        {"src": "^/cont/(.*)$", "headers": {"x-a": "1"}, "continue": True},
        {"handle": "filesystem"},
        {"src": "^/app\\.js$", "dest": "https://never.example/"},
        {"src": "^/cont/(.*)$", "dest": "https://api.example/v1/$1"},
        {"src": "^/post/(?<id>[0-9]+)$", "dest": "https://api.example/?id=$id", "methods": ["GET"]},
        {"handle": "error"},
        {"src": "/.*", "status": 404, "dest": "/about.html"},
    ]
)
BETA: dict[str, Any] = {"headers": {b"cookie": b"beta=1"}}


@pytest.mark.product("B5.3")
@pytest.mark.parametrize(
    ("source", "said", "target", "facts", "answer"),
    [
        (VERCEL, CONFIG, "/api/a/b", {}, "~> https://api.example/a/b"),
        (VERCEL, CONFIG, "/api", {}, "~> https://api.example/"),
        (VERCEL, CONFIG, "/api/a?x=1&y=2", {}, "~> https://api.example/a?x=1&y=2"),
        (VERCEL, CONFIG, "/api/a%2Fb", {}, "~> https://api.example/a%2Fb"),
        (VERCEL, CONFIG, "/api/caf%C3%A9%20x", {}, "~> https://api.example/caf%C3%A9%20x"),
        (VERCEL, CONFIG, "/resize/800/600", {}, "~> https://img.example/sharp?width=800&height=600"),
        (VERCEL, CONFIG, "/resize/8%26a/6", {}, "~> https://img.example/sharp?width=8%26a&height=6"),
        (VERCEL, CONFIG, "/post/123", {}, "~> https://news.example/123"),
        (VERCEL, CONFIG, "/post/abc", {}, "~> https://rest.example/post/abc"),
        (VERCEL, CONFIG, "/keyed/7?a=2", {}, "~> https://api.example/7?key=1&a=2"),
        (VERCEL, CONFIG, "/keyed/7?key=9", {}, "~> https://api.example/7?key=1"),
        (VERCEL, CONFIG, "/proxy/a/b/", {}, "~> https://b.example/a/b/"),
        (VERCEL, CONFIG, "/about.html", {}, "/about.html"),
        (VERCEL, CONFIG, "/uk/x", {"headers": {b"x-vercel-ip-country": b"GB"}}, "~> https://uk.example/x"),
        (VERCEL, CONFIG, "/uk/x", {}, "~> https://rest.example/uk/x"),
        (VERCEL, CONFIG, "/team/x", {"host": "red.shop.example"}, "~> https://red.example/x"),
        (VERCEL, CONFIG, "/team/x", {"host": "shop.example"}, "~> https://rest.example/team/x"),
        (VERCEL, CONFIG, "/beta/x", {}, "~> https://beta.example/x"),
        (VERCEL, CONFIG, "/beta/x", {"headers": {b"cookie": b"stable=1"}}, "~> https://rest.example/beta/x"),
        (OWN, CONFIG, "/plain/x", {}, "~> http://old.example:8080/x"),
        (OWN, CONFIG, "/plain//evil.example/", {}, "~> http://old.example:8080//evil.example/"),
        (OWN, CONFIG, "/plain/@evil.example/", {}, "~> http://old.example:8080/@evil.example/"),
        (VERCEL, CONFIG, "/docs/none", {}, "404"),
        (VERCEL, CONFIG, "/api/x", {"method": "POST"}, "~> https://api.example/x"),
        (PROXY, LINES, "/api/users/7", {}, "~> https://api.example/users/7"),
        (PROXY, LINES, "/api", {}, "~> https://api.example/"),
        (PROXY, LINES, "/api/users?page=2", {}, "~> https://api.example/users?page=2"),
        (PROXY, LINES, "/api/users", {"method": "DELETE"}, "~> https://api.example/users"),
        (OPTIONS, LINES, "/app.js", {}, "/app.js"),
        (OPTIONS, LINES, "/about.html", {}, "~> https://cdn.example/about"),
        (OPTIONS, LINES, "/forced.js", {}, "~> https://cdn.example/x.js"),
        (OPTIONS, LINES, "/one/x/y", {}, "~> https://b.example/y/x"),
        (OPTIONS, LINES, "/search?q=a%26b", {}, "~> https://find.example/?query=a%26b&q=a%26b"),
        (OPTIONS, LINES, "/search", {}, "404"),
        (OPTIONS, LINES, "/gone/x", {}, "~> https://b.example/sorry"),
        (OPTIONS, LINES, "/moved/x?a=1", {}, "302 -> https://b.example/x?a=1"),
        (OPTIONS, LINES, "/cook/x", BETA, "~> https://beta.example/x"),
        (OPTIONS, LINES, "/cook/x", {}, "404"),
        (OPTIONS, LINES, "/x/y", {"host": "old.example"}, "~> https://new.example/x/y"),
        (CLOUDFLARE, LINES, "/u/red", {}, "~> https://red.example/profile"),
        (OWN, LINES, "/u/evil.example%2F", {}, "~> https://evil.example%252F.example/profile"),
        (OWN, LINES, "/u/a@b", {}, "~> https://a%40b.example/profile"),
        (OWN, LINES, "/fallback//x", {}, "~> https://b.example//x"),
        (OUTPUT, READY, "/early/x", {}, "~> https://api.example/x"),
        (OUTPUT, READY, "/early", {}, "~> https://api.example"),
        (OUTPUT, READY, "/cont/x?y=1", {}, "~> https://api.example/v1/x?y=1"),
        (OUTPUT, READY, "/app.js", {}, "/app.js"),
        (OUTPUT, READY, "/post/7", {}, "~> https://api.example/?id=7"),
        (OUTPUT, READY, "/post/7", {"method": "POST"}, "404 /about.html"),
        (OUTPUT, READY, "/none", {}, "404 /about.html"),
    ],
)  # fmt: skip
def test_what_leads_where(source: str, said: Said, target: str, facts: dict[str, Any], answer: str) -> None:
    assert tell(ask(said, target, **facts)) == answer, source
