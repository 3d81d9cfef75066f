"""Real applications, installed from the npm registry and built."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.build.conftest import Place
from tests.git_server import GitServer

from vclone_core.models import Source

APP = Path(__file__).parent / "vite-react"

pytestmark = [pytest.mark.registry, pytest.mark.timeout(600)]


async def test_vite_and_react_are_installed_and_built(place: Place, git: GitServer) -> None:
    files = {path.relative_to(APP).as_posix(): path.read_bytes() for path in APP.rglob("*") if path.is_file()}
    git.commit("app", files)
    try:
        manifest = await place.deploy(Source("git", url=git.address("app")))
    finally:
        print(place.lines.text)
    assert manifest.framework == "vite"
    hashed = [path for path, entry in manifest.files.items() if entry.immutable]
    assert sorted(Path(path).suffix for path in hashed) == [".css", ".js"]
    assert not manifest.files["/assets/my-document.txt"].immutable
    script = next(path for path in hashed if path.endswith(".js"))
    text = (await place.read(manifest.files[script].sha256)).decode()
    assert '"preview"' in text or "preview" in text
    assert set(manifest.files[script].variants) == {"br", "gzip"}
    assert "install platform: $ npm ci --no-audit --no-fund" in place.lines.text
    assert "build platform: $ npm run build" in place.lines.text
