"""What is fetched from the npm registry for a build, and kept for the next one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.build.conftest import Place

from vclone_core.models import Source

APP = Path(__file__).parent / "projects/vite-react"

pytestmark = [pytest.mark.registry, pytest.mark.timeout(600)]


async def test_another_node_is_fetched_once_and_kept_for_the_next_build(place: Place) -> None:
    files = {
        "package.json": '{"name": "x", "engines": {"node": "22"}, "scripts": {"build": "node build.js"}}',
        "package-lock.json": '{"name": "x", "lockfileVersion": 3, "packages": {"": {"name": "x"}}}',
        "build.js": "require('fs').mkdirSync('public'); require('fs').writeFileSync('public/v', process.version)",
    }
    first = await place.deploy(Source("upload"), files=files)
    assert (await place.read(first.files["/v"].sha256)).startswith(b"v22.")
    assert "Node.js 22 is fetched from the npm registry" in place.lines.text
    await place.deploy(Source("upload"), files=files)
    assert "Caches: tools restored (the same)" in place.lines.text
    assert " fetched in " not in place.lines.text


@pytest.mark.parametrize(("pinned", "words"), [("pnpm@9.15.4", "9.15.4"), ("yarn@4.6.0", "4.6.0")])
async def test_the_pinned_package_manager_is_used(place: Place, pinned: str, words: str) -> None:
    manager = pinned.partition("@")[0]
    package = {
        "name": "x",
        "packageManager": pinned,
        "scripts": {"build": f"mkdir -p public && {manager} -v > public/v"},
    }
    manifest = await place.deploy(Source("upload"), files={"package.json": json.dumps(package)})
    assert (await place.read(manifest.files["/v"].sha256)).decode().strip() == words


async def test_a_second_build_takes_less_work_than_half(place: Place) -> None:
    """E5, in work rather than in seconds: nothing is downloaded, and no package is unpacked by npm."""
    files = {path.relative_to(APP).as_posix(): path.read_bytes() for path in APP.rglob("*") if path.is_file()}
    await place.deploy(Source("upload"), files=files)
    first = place.lines.step_seconds
    await place.deploy(Source("upload"), files=files)
    print(first, place.lines.step_seconds, place.lines.text, sep="\n")
    assert "Caches: modules restored (the same)" in place.lines.text
    assert "up to date" in place.lines.text
