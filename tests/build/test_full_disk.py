"""R14: disks that are really full (a small tmpfs): of the workspace, the store, the database, an edge's snapshot."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.build.conftest import Place
from tests.build.working import make_project
from tests.disks import fill, small_disk

from vclone_core.actions import deployments, sites
from vclone_core.actions.platform import open_platform
from vclone_core.embedded.postgres import start_postgres
from vclone_core.embedded.rundirs import make_run_dir, remove_run_dir
from vclone_core.errors import StoreUnavailable, Unavailable, VcloneError
from vclone_core.models import ProjectSettings, Source
from vclone_core.settings import Settings
from vclone_core.stores import buildlogs, queue
from vclone_core.stores.postgres import migrate
from vclone_edge.cache import DomainCache
from vclone_edge.snapshot import load_snapshots, save_snapshot, take_snapshot

UPLOAD = Source("upload")


@pytest.fixture
def small(place: Place) -> Iterator[Place]:
    with small_disk(place.folder / "work", mib=16):
        yield place


@pytest.mark.reliability("R14.1")
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


@pytest.mark.reliability("R14.1")
async def test_an_upload_larger_than_the_disk_says_so(small: Place) -> None:
    files = {f"{number}.bin": os.urandom(2_000_000) for number in range(12)}
    # What nothing is built of is not copied to that disk at all.
    settings = ProjectSettings(framework="static", build_command="true", output_directory=".")
    with pytest.raises(VcloneError) as caught:
        await small.deploy(UPLOAD, files=files, settings=settings)
    assert caught.value.code == "disk_full"


@pytest.mark.reliability("R14.2")
async def test_a_store_whose_disk_is_full_fails_the_attempt_and_works_when_there_is_room(place: Place) -> None:
    command = "mkdir dist; head -c 20000000 /dev/urandom > dist/big.bin"
    large = ProjectSettings(framework="static", build_command=command, output_directory="dist")
    with small_disk(place.folder / "objects", mib=16):
        await place.objects.start()
        with pytest.raises(StoreUnavailable, match="disk is full"):
            await place.deploy(UPLOAD, files={"a": "x"}, settings=large)
        # Nothing is left of what did not fit.
        manifest = await place.deploy(UPLOAD, files={"index.html": "x"})
        assert set(manifest.files) == {"/index.html"}


@pytest.mark.services
@pytest.mark.reliability("R14.2")
async def test_a_database_whose_disk_is_full_answers_and_works_when_there_is_room(
    redis_url: str, tmp_path: Path
) -> None:
    run_dir = make_run_dir(os.environ)
    with small_disk(tmp_path / "disk", mib=160, mode="0755") as disk:
        service = start_postgres(disk / "data", run_dir)
        try:
            await migrate(service.url)
            settings = Settings(
                data_dir=tmp_path / "data",
                database_url=service.url,
                redis_url=redis_url,
                store=f"file://{tmp_path}/objects",
            )
            async with open_platform(settings) as platform:
                actor, project = await make_project(platform)
                source = Source("git", url="https://git.example/x.git")
                made = await deployments.request_deployment(platform, actor, project, source)
                claim = await queue.claim(platform.db, "w", lease_s=600, project_slots=1)
                assert claim is not None and claim.deployment.id == made.id
                ballast = fill(disk)
                lines = [buildlogs.platform_line("build", secrets.token_hex(8000)) for _ in range(40)]
                with pytest.raises(Unavailable):
                    for _ in range(20):
                        await buildlogs.append(platform.db, claim.fence, lines, cap_bytes=10**9)
                # Reading goes on, and so does a write that needs no room.
                assert await sites.resolve_host(platform, "shop.localhost") is None
                ballast.unlink()
                assert await buildlogs.append(platform.db, claim.fence, lines[:1], cap_bytes=10**9) is not None
        finally:
            service.stop()
            remove_run_dir(run_dir)


@pytest.mark.reliability("R14.2")
async def test_a_snapshot_that_finds_no_room_leaves_the_one_before(tmp_path: Path) -> None:
    cache = DomainCache()
    with small_disk(tmp_path / "disk", mib=1) as disk:
        assert await save_snapshot(disk / "sites-0", take_snapshot(cache, 1, time.time()))
        ballast = fill(disk)
        assert not await save_snapshot(disk / "sites-0", take_snapshot(cache, 2, time.time()))
        assert load_snapshots([disk / "sites-0"], cache, time.time()) == 1
        ballast.unlink()
        assert await save_snapshot(disk / "sites-0", take_snapshot(cache, 3, time.time()))
        assert load_snapshots([disk / "sites-0"], cache, time.time()) == 3
