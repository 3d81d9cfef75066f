"""R14: a workspace on a disk that is really full (a tmpfs of 16 MiB), for the build that fills it and the next one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from tests.build.conftest import Place
from tests.needs import lacks

from vclone_core.errors import VcloneError
from vclone_core.models import ProjectSettings, Source

UPLOAD = Source("upload")


@pytest.fixture
def small(place: Place) -> Iterator[Place]:
    folder = place.folder / "work"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], check=False, capture_output=True)
    if done.returncode != 0:
        if os.geteuid() == 0:
            lacks(done.stderr.decode())
        pytest.skip("only root can mount a small disk of its own")
    yield place
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("command", ["head -c 64M /dev/zero > big", "mkdir dist; yes > dist/index.html"])
async def test_a_build_that_fills_the_disk_fails_and_the_next_one_works(small: Place, command: str) -> None:
    settings = ProjectSettings(framework="static", build_command=command, output_directory="dist")
    with pytest.raises(VcloneError) as caught:
        await small.deploy(UPLOAD, files={"a": "x"}, settings=settings)
    assert "disk" in f"{caught.value.sentence} {caught.value.advice}", str(caught.value)
    # As the worker does at the end of a build.
    subprocess.run(["rm", "-rf", *(small.folder / "work").iterdir()], check=True)
    manifest = await small.deploy(UPLOAD, files={"index.html": "x"})
    assert set(manifest.files) == {"/index.html"}


async def test_an_upload_larger_than_the_disk_says_so(small: Place) -> None:
    files = {f"{number}.bin": os.urandom(2_000_000) for number in range(12)}
    # What nothing is built of is not copied to that disk at all.
    settings = ProjectSettings(framework="static", build_command="true", output_directory=".")
    with pytest.raises(VcloneError) as caught:
        await small.deploy(UPLOAD, files=files, settings=settings)
    assert caught.value.code == "disk_full"
