"""What of an output is deployed, with which types and lifetimes, and through which routes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.models import FileEntry, Manifest, Route, Source
from vclone_core.rules.clones import check_git_ref, check_git_url
from vclone_core.rules.commands import build_environment, describe_exit, explain_exit, plan_provision
from vclone_core.rules.decisions import Serve
from vclone_core.rules.output import check_path, is_fingerprinted, is_skipped, pick_output
from vclone_core.rules.requests import Request
from vclone_core.rules.route_sources import Sources, plan_routes
from vclone_core.rules.routes import match
from vclone_core.rules.tables import compile_table
from vclone_core.rules.types import TYPES, is_compressible, pick_type

VITE = ("/assets/**/*-????????.*",)


@pytest.mark.parametrize(
    ("path", "is_immutable"),
    [
        ("/app.1a2b3c4d.js", True),
        ("/static/js/main.8f3d1c2b.chunk.js", True),
        ("/app-1a2b3c4d5e6f.min.css", True),
        ("/_/3b5d5c3712955042212316173ccf37be.png", True),
        ("/1a2b3c4d5e6f7a8b9c0d.js", True),
        ("/1a2b3c4d.js", False),
        ("/photo-20240101.jpg", False),
        ("/photo-2024010112000000.jpg", False),
        ("/jquery-3.6.0.min.js", False),
        ("/deadbeef/app.js", False),
        ("/app.deadbeef.js", False),
        ("/page.1a2b3c4d.html", False),
        ("/app.1a2b3c4d.webmanifest", False),
        ("/assets/index-CvKyPwKL.js", True),
        ("/assets/index-CvKyPwKL.html", False),
        ("/other/index-CvKyPwKL.js", False),
        ("/app.js", False),
    ],
)
def test_fingerprint(path: str, is_immutable: bool) -> None:
    assert is_fingerprinted(path, pick_type(path), immutable=VITE, is_copied=False) is is_immutable


def test_name_of_a_copied_file_says_nothing_of_its_bytes() -> None:
    path = "/assets/my-document.pdf"
    assert is_fingerprinted(path, "application/pdf", immutable=VITE, is_copied=False)
    assert not is_fingerprinted(path, "application/pdf", immutable=VITE, is_copied=True)


@pytest.mark.parametrize(
    ("path", "type_"),
    [
        ("/index.html", "text/html; charset=utf-8"),
        ("/a/B.MJS", "text/javascript; charset=utf-8"),
        ("/x.svg", "image/svg+xml; charset=utf-8"),
        ("/x.wasm", "application/wasm"),
        ("/a.tar.gz", "application/gzip"),
        ("/.well-known/apple-app-site-association", "application/json; charset=utf-8"),
        ("/LICENSE", "text/plain; charset=utf-8"),
        ("/.htaccess", "application/octet-stream"),
        ("/x.unknown", "application/octet-stream"),
        ("/x.y/noext", "application/octet-stream"),
    ],
)
@pytest.mark.product("B8.1", "B8.2")
def test_type(path: str, type_: str) -> None:
    assert pick_type(path) == type_


@pytest.mark.product("B8.1")
def test_types_are_many_and_spelt_alike() -> None:
    assert len(TYPES) >= 100
    for extension, type_ in TYPES.items():
        assert extension == extension.lower()
        assert type_.count("/") == 1
        assert type_.startswith(("image/png", "video/", "audio/")) <= (not is_compressible(type_))


@pytest.mark.product("B7.3")
@pytest.mark.parametrize("name", [
    "a.png", "a.jpg", "a.webp", "a.avif", "a.gif", "a.mp4", "a.webm", "a.mov", "a.mp3", "a.ogg", "a.zip", "a.gz",
    "a.tar.gz", "a.br", "a.zst", "a.7z", "a.woff", "a.woff2", "a.pdf", "a.bin",
])  # fmt: skip
def test_what_is_compressed_already_is_left_as_it_is(name: str) -> None:
    assert not is_compressible(pick_type(f"/{name}"))


@pytest.mark.parametrize(
    ("name", "is_plain", "is_left_out"),
    [
        (".git", False, True),
        (".env", False, True),
        (".env.local", False, True),
        (".envoy", False, False),
        (".npmrc", False, True),
        ("ID_RSA", False, True),
        (".ssh", False, True),
        (".htpasswd", False, True),
        (".well-known", True, False),
        ("node_modules", True, True),
        ("node_modules", False, False),
        ("package.json", True, True),
        ("package.json", False, False),
    ],
)
def test_skipped(name: str, is_plain: bool, is_left_out: bool) -> None:
    assert is_skipped(name, is_plain=is_plain) is is_left_out


FOLDERS = {".": ["dist", "public", "README"], "dist": ["app"], "dist/app": ["browser"], "dist/app/browser": ["x"],
           "public": ["a", "b"], "public/a": []}  # fmt: skip


@pytest.mark.parametrize(
    ("candidates", "picked"),
    [
        (["dist/*/browser", "dist/*", "dist"], "dist/app/browser"),
        (["dist/*", "dist"], "dist/app"),
        (["public/*", "public"], "public"),
        (["README", "out"], None),
        (["none", "."], "."),
        (["./dist"], "dist"),
        (["*"], None),
        ([""], None),
    ],
)
def test_pick_output(candidates: list[str], picked: str | None) -> None:
    assert pick_output(candidates, FOLDERS) == picked


@given(st.text(max_size=40))
def test_a_checked_path_stays_below_its_root(path: str) -> None:
    if check_path(path) is None:
        segments = path.split("/")
        assert not path.startswith("/")
        assert ".." not in segments
        assert "" not in segments
        assert "\0" not in path


PAGES = ("/index.html", "/404.html", "/docs/404.html", "/docs/de/404.html", "/a.js")


@pytest.mark.parametrize(
    ("path", "file", "status", "is_single_page"),
    [
        ("/docs/de/none", "/docs/de/404.html", 404, False),
        ("/docs/none", "/docs/404.html", 404, False),
        ("/docs", "/docs/404.html", 404, False),
        ("/docsnone", "/404.html", 404, False),
        ("/none.js", "/404.html", 404, True),
        ("/cart", "/404.html", 404, True),
        ("/a.js", "/a.js", 200, True),
    ],
)
def test_planned_routes_answer(path: str, file: str, status: int, is_single_page: bool) -> None:
    files = {page: FileEntry("0" * 64, 1, "text/html") for page in PAGES}
    routes = plan_routes(Sources(is_single_page=is_single_page), files)
    table = compile_table(Manifest("dep_x", "prj_x", None, files, routes))
    decision = match(table, Request("GET", "shop.localhost", path))
    assert isinstance(decision, Serve)
    assert (decision.file, decision.status) == (file, status)


def test_plugins_come_first_then_the_ready_output() -> None:
    sources = Sources(ready=(Route(src="/c"),), is_single_page=True)
    routes = plan_routes(sources, ["/index.html"], before=[Route(src="/p")])
    assert [route.src or route.handle for route in routes] == ["/p", "/c", "filesystem"]


@pytest.mark.parametrize(
    ("url", "is_insecure_allowed", "is_good"),
    [
        ("https://example.org/a/b.git", False, True),
        ("https://example.org:8443/a", False, True),
        ("http://example.org/a", False, False),
        ("http://127.0.0.1:1234/a", True, True),
        ("https://127.0.0.1/a", False, False),
        ("https://127.1/a", False, False),
        ("https://0x7f000001/a", False, False),
        ("https://2130706433/a", False, False),
        ("https://[::1]/a", False, False),
        ("https://[::ffff:127.0.0.1]/a", False, False),
        ("https://10.0.0.1/a", False, False),
        ("https://169.254.169.254/a", False, False),
        ("https://8.8.8.8/a", False, True),
        ("https://localhost/a", False, False),
        ("https://x.localhost/a", False, False),
        ("https://user@example.org/a", True, False),
        ("https://example.org", False, False),
        ("https://example.org/a?x=1", False, False),
        ("https://exa mple.org/a", False, False),
        ("https://-oProxy/a", False, False),
        ("https:///a", False, False),
        ("https://example.org:99999/a", False, False),
        ("git://example.org/a", True, False),
        ("ext::sh -c x", True, False),
        ("https://example.org/" + "a" * 2000, False, False),
    ],
)
def test_git_url(url: str, is_insecure_allowed: bool, is_good: bool) -> None:
    assert (check_git_url(url, is_insecure_allowed=is_insecure_allowed) is None) is is_good


@given(st.text(max_size=60))
def test_no_text_is_a_url_or_ref_that_git_could_take_for_an_option(text: str) -> None:
    for problem in (check_git_url(text, is_insecure_allowed=True), check_git_ref(text)):
        assert problem is not None or not text.startswith("-")
        assert problem is not None or not any(ord(letter) <= 0x20 for letter in text)


@pytest.mark.parametrize("ref", ["main", "feat/x", "v1.2.3", "dependabot/npm/a-1.0", "a@b", "fix#12", "renovate/c++"])
def test_common_refs_are_good(ref: str) -> None:
    assert check_git_ref(ref) is None


@pytest.mark.parametrize(
    "ref", ["", "-x", "/x", "x/", "a..b", "a.lock", "a/.b", "@", "a@{1}", "a b", "a~1", "a^", "a:b", "a\\b"]
)
def test_bad_refs_are_refused(ref: str) -> None:
    assert check_git_ref(ref) is not None


@pytest.mark.parametrize(
    ("code", "reason", "tail", "cause"),
    [
        (1, "exit", "error", "failed"),
        (137, "exit", "", "memory"),
        (-9, "memory", "", "memory"),
        (134, "exit", "FATAL ERROR: JavaScript heap out of memory", "memory"),
        (1, "exit", "MemoryError\n", "memory"),
        (127, "exit", "sh: hugo: not found", "missing"),
        (-9, "timeout", "", "timeout"),
        (-9, "killed", "", "killed"),
    ],
)
def test_exit_is_explained(code: int, reason: str, tail: str, cause: str) -> None:
    assert explain_exit(code=code, reason=reason, tail=tail) == cause
    assert describe_exit(code=code, reason=reason)


def test_public_variables_repeat_the_platform_s_with_the_prefix() -> None:
    env = build_environment(
        url="http://h:8080", host="h", target="preview", project="shop", deployment_id="dep_x",
        source=Source("git", ref="main", message="Subject\n\nbody"), public_prefix="VITE_",
    )  # fmt: skip
    assert env["VITE_VCLONE_URL"] == env["VCLONE_URL"] == "http://h:8080"
    assert env["VCLONE_GIT_COMMIT_MESSAGE"] == "Subject"
    assert "VITE_CI" not in env
    assert "VCLONE_GIT_COMMIT_SHA" not in env


def test_provision_quotes_what_a_project_pins() -> None:
    assert 'case "$(pnpm --version 2>/dev/null)" in 9.1.0|9.1.0.*) exit 0' in plan_provision("pnpm@9.1.0")[2]
    assert '--globalconfig "$(npm config get globalconfig)" pnpm@9.1.0' in plan_provision("pnpm@9.1.0")[2]
    assert "'pnpm@1; x'" in plan_provision("pnpm@1; x")[2]
    assert " in 1??x|1??x.*)" in plan_provision("pnpm@1; x")[2]
