"""Whole builds, from a source to a stored manifest, and every way in which one can fail."""

from __future__ import annotations

import brotli
from tests.build.conftest import Place
from tests.git_server import GitServer

from vclone_core.models import Source

UPLOAD = Source("upload")
PREBUILT = Source("prebuilt")
TEXT = "<!doctype html>" + "<p>hello</p>" * 500


async def test_uploaded_folder_becomes_a_manifest(place: Place) -> None:
    manifest = await place.deploy(
        UPLOAD,
        files={"index.html": TEXT, "docs/404.html": "lost", "app.1a2b3c4d.js": "1", ".env": "SECRET=1", "a.png": b"x"},
    )
    assert set(manifest.files) == {"/index.html", "/docs/404.html", "/app.1a2b3c4d.js", "/a.png"}
    page = manifest.files["/index.html"]
    assert page.type == "text/html; charset=utf-8"
    assert brotli.decompress(await place.read(page.variants["br"].sha256)).decode() == TEXT
    assert manifest.files["/app.1a2b3c4d.js"].immutable
    assert not page.immutable
    assert manifest.framework == "static"
    assert place.held_checks == 1
    assert [route.dest for route in manifest.routes if route.status == 404] == ["/docs/404.html"]


async def test_git_repository_is_cloned_at_its_default_branch(place: Place, git: GitServer) -> None:
    sha = git.commit("site", {"index.html": "one"}, message="First\n\nbody")
    manifest = await place.deploy(Source("git", url=git.address("site")))
    assert set(manifest.files) == {"/index.html"}
    (source,) = place.sources
    assert (source.sha, source.author, source.message) == (sha, "Ada", "First\n\nbody")
