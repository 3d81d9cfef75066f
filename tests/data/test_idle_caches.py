"""Build caches of projects that build no more: collected when they are old, or too much."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vclone_core.actions import retention
from vclone_core.rules.objectkeys import cache_key

from .conftest import World

pytestmark = pytest.mark.services


async def test_caches_of_a_project_that_builds_no_more_go_when_they_are_old(world: World, tmp_path: Path) -> None:
    project, other = await world.project(), await world.project()
    for name, days in (("old", 31), ("recent", 29)):
        for owner in (project, other):
            await world.platform.objects.put(cache_key(owner.id, f"preview/packages/{name}"), b"archive", size=7)
        for path in (tmp_path / "objects").rglob(name):
            os.utime(path, (time.time() - days * 86_400,) * 2)
    looked = await retention.collect(world.platform, world.actor, project, is_dry_run=True)
    done = await retention.collect(world.platform, world.actor, project, is_dry_run=False)
    assert (looked.objects, done.objects, done.bytes) == (1, 1, 7)
    assert [one.key async for one in world.platform.objects.list(cache_key(project.id, ""))] == [
        cache_key(project.id, "preview/packages/recent")
    ]
    assert len([one async for one in world.platform.objects.list(cache_key(other.id, ""))]) == 2
