"""A whole build of a site with `vercel.json`, `_redirects` and `_headers`: what is deployed, told, and answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.build.conftest import Place

from vclone_core.errors import DetectFailed
from vclone_core.models import Manifest, ProjectSettings, Source
from vclone_core.rules.answers import answer_request, compile_manifest
from vclone_core.rules.requests import Request

UPLOAD = Source("upload")
PREBUILT = Source("prebuilt")
CONFIG = {
    "cleanUrls": True,
    "trailingSlash": False,
    "buildCommand": None,
    "redirects": [{"source": "/old/:page", "destination": "/:page", "permanent": True}],
    "rewrites": [{"source": "/shown", "destination": "/about"}],
    "headers": [{"source": "/(.*)", "headers": [{"key": "X-From", "value": "vercel"}]}],
}
SITE: dict[str, str | bytes] = {
    "vercel.json": json.dumps(CONFIG),
    "index.html": "home",
    "about.html": "about",
    "404.html": "lost",
    "docs/index.html": "docs",
    "app.1a2b3c4d.js": "1",
    ".well-known/x": "x",
    ".env": "SECRET=1",
    "docs/id_rsa": "key",
    "_redirects": "/legacy/* /old/:splat 302\n/about /never\nbroken\n/docs /docs-moved 301!\n/x /y 302 Country=de\n",
    "_headers": "/*\n  X-From: file\n  X-Frame-Options: DENY\n/about\n  ! X-Frame-Options\n  nothing\n",
}


def get(manifest: Manifest, path: str) -> tuple[int, dict[str, str]]:
    """Status and headers of a GET, on what the edge would compile."""
    answer = answer_request(compile_manifest(manifest), Request("GET", "shop.localhost", path), is_indexed=True)
    return answer.status, {name.decode(): value.decode() for name, value in answer.headers}


async def test_site_with_all_three_files(place: Place) -> None:
    manifest = await place.deploy(UPLOAD, files=SITE)
    assert set(manifest.files) == {
        "/index.html", "/about", "/404.html", "/docs/index.html", "/app.1a2b3c4d.js", "/.well-known/x",
    }  # fmt: skip
    assert manifest.files["/about"].type == "text/html; charset=utf-8"
    status, headers = get(manifest, "/about")
    assert (status, headers["x-from"]) == (200, "vercel")
    assert "x-frame-options" not in headers
    assert get(manifest, "/")[1]["x-frame-options"] == "DENY"
    for path, where, code in [
        ("/about.html", "/about", 308),
        ("/about/", "/about", 308),
        ("/old/about", "/about", 308),
        ("/legacy/about", "/old/about", 302),
        ("/docs", "/docs-moved", 301),
    ]:
        status, headers = get(manifest, path)
        assert (path, status, headers["location"]) == (path, code, where)
    assert get(manifest, "/shown")[0] == 200
    for path in ("/_redirects", "/_headers", "/vercel.json", "/.env", "/docs/id_rsa", "/none"):
        assert (path, get(manifest, path)[0]) == (path, 404)
    assert get(manifest, "/.well-known/x")[0] == 200


async def test_lines_that_can_not_be_used_are_in_the_log(place: Place) -> None:
    await place.deploy(UPLOAD, files=SITE)
    said = [line.text for line in place.lines.lines if line.step == "collect"]
    assert "_redirects: 3 rules" in said
    assert "_headers: 2 rules" in said
    for place_, words in [
        ("_redirects line 3: ", "starts with a path"),
        ("_redirects line 5: ", "country"),
        ("_headers line 6: ", "neither a path nor"),
    ]:
        (line,) = [text for text in said if text.startswith(place_)]
        assert words in line
    assert ".env is never deployed: it may hold secrets" in said
    assert "docs/id_rsa is never deployed: it may hold secrets" in said


async def test_every_route_says_where_it_comes_from(place: Place) -> None:
    manifest = await place.deploy(UPLOAD, files=SITE)
    origins = {route.origin for route in manifest.routes if route.handle is None}
    assert origins == {
        "vercel.json cleanUrls", "vercel.json trailingSlash", "vercel.json redirects[0]", "vercel.json rewrites[0]",
        "vercel.json headers[0]", "_redirects line 1", "_redirects line 2", "_redirects line 4", "_headers line 1",
        "_headers line 4", "/404.html",
    }  # fmt: skip


async def test_rules_lie_where_each_belongs(place: Place) -> None:
    """`vercel.json` in the root directory, the other two in the output; elsewhere they are files or nothing."""
    files = {
        "web/vercel.json": json.dumps({"redirects": [{"source": "/a", "destination": "/b"}]}),
        "web/_redirects": "/c /d",
        "web/make.sh": "mkdir -p dist/sub; echo x > dist/index.html; echo '/e /f' > dist/_redirects; "
        "echo '/g /h' > dist/sub/_redirects; echo '{' > dist/vercel.json",
        "vercel.json": "{",
    }
    settings = ProjectSettings(
        framework="static", build_command="sh make.sh", output_directory="dist", root_directory="web"
    )
    manifest = await place.deploy(UPLOAD, files=files, settings=settings)
    assert [get(manifest, path)[0] for path in ("/a", "/c", "/e", "/g")] == [308, 404, 301, 404]
    assert set(manifest.files) == {"/index.html", "/sub/_redirects", "/vercel.json"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", ["vercel.json is no JSON"]),
        (json.dumps({"redirects": [{"source": "/("}, {"source": "/a", "destination": "/:b"}]}),
         ["vercel.json redirects[0].destination is missing", "vercel.json redirects[1]: the destination asks for :b"]),
        (json.dumps({"rewrites": [{"source": "/((a{1000}){1000})", "destination": "/"}]}), ["vercel.json rewrites[0]"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("source", [UPLOAD, PREBUILT])
async def test_bad_vercel_json_fails_the_deploy(place: Place, config: str, words: list[str], source: Source) -> None:
    with pytest.raises(DetectFailed) as caught:
        await place.deploy(source, files={"vercel.json": config, "index.html": "x"})
    assert all(word in caught.value.sentence for word in words)


async def test_finished_output_has_its_rules_and_none_of_its_secrets(place: Place) -> None:
    manifest = await place.deploy(PREBUILT, files=SITE)
    assert get(manifest, "/old/about")[0] == 308
    assert get(manifest, "/legacy/x")[0] == 302
    assert not {"/.env", "/docs/id_rsa", "/_redirects", "/_headers", "/vercel.json"} & set(manifest.files)


async def test_ready_output_stands_alone(place: Place) -> None:
    ready: dict[str, Any] = {"version": 3, "routes": [{"src": "/r", "status": 307, "headers": {"Location": "/s"}}]}
    files = {".vercel/output/config.json": json.dumps(ready)} | {
        f".vercel/output/static/{name}": text for name, text in SITE.items()
    }
    manifest = await place.deploy(PREBUILT, files=files | {"vercel.json": json.dumps(CONFIG)})
    assert get(manifest, "/r")[0] == 307
    assert [get(manifest, path)[0] for path in ("/old/about", "/legacy/x", "/about", "/_redirects")] == [404] * 4
    assert get(manifest, "/about.html")[0] == 200


async def test_link_named_like_a_rule_file_is_not_followed(place: Place) -> None:
    settings = ProjectSettings(framework="static", build_command="sh make.sh", output_directory="dist")
    script = "mkdir dist; echo x > dist/index.html; ln -s /etc/hostname dist/_redirects"
    manifest = await place.deploy(UPLOAD, files={"make.sh": script}, settings=settings)
    assert set(manifest.files) == {"/index.html"}
    assert "_redirects" not in place.lines.text


NETLIFY = """
[build]
base = "site"
command = "sh make.sh"
publish = "out"
[build.environment]
WORD = "hello"
[context.deploy-preview.environment]
WORD = "preview"
[[redirects]]
from = "/old"
to = "/new"
[[redirects]]
from = "/de/*"
to = "/:splat"
conditions = {Language = ["de"]}
[[headers]]
for = "/*"
[headers.values]
X-From = "netlify"
[functions]
directory = "functions"
"""


async def test_netlify_toml_builds_and_serves_the_site(place: Place) -> None:
    files: dict[str, str | bytes] = {
        "netlify.toml": NETLIFY,
        "site/make.sh": 'mkdir out && echo "$WORD $OWN" > out/index.html && cp _redirects out/',
        "site/_redirects": "/old /first\n",
        "site/index.html": "source",
    }
    manifest = await place.deploy(UPLOAD, files=files, environment={"OWN": "mine", "WORD_": "x"})
    assert await place.read(manifest.files["/index.html"].sha256) == b"preview mine\n"
    assert set(manifest.files) == {"/index.html"}
    said = [(route.origin, dict(route.headers)) for route in manifest.routes if route.headers]
    assert said == [
        ("netlify.toml headers[0]", {"x-from": "netlify"}),
        ("_redirects line 1", {"Location": "/first"}),
        ("netlify.toml redirects[0]", {"Location": "/new"}),
    ]
    for words in (
        "netlify.toml: functions is not used here",
        "build command: netlify.toml",
        "output directory: netlify.toml",
        "netlify.toml redirects[1]: rules by language are not supported (left out)",
    ):
        assert words in place.lines.text


async def test_a_netlify_toml_of_another_site_of_the_repository_is_left_alone(place: Place) -> None:
    files: dict[str, str | bytes] = {"netlify.toml": NETLIFY, "site/make.sh": "exit 1", "docs/index.html": "docs"}
    manifest = await place.deploy(UPLOAD, files=files, settings=ProjectSettings(root_directory="docs"))
    assert set(manifest.files) == {"/index.html"}
    assert not [route for route in manifest.routes if route.headers]


async def test_vercel_json_says_how_to_build_and_beats_the_project(place: Place) -> None:
    config = {"buildCommand": "mkdir out && echo from the file > out/index.html", "outputDirectory": "out"}
    files: dict[str, str | bytes] = {"vercel.json": json.dumps({**config, "framework": None, "installCommand": ""})}
    settings = ProjectSettings(build_command="exit 1", output_directory="elsewhere", install_command="exit 1")
    manifest = await place.deploy(UPLOAD, files=files, settings=settings)
    assert await place.read(manifest.files["/index.html"].sha256) == b"from the file\n"
    assert "framework static: vercel.json says so" in place.lines.text
