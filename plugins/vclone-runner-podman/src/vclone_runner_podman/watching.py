"""Looks after what a build uses while a command runs: the kernel's counts, and the disk, which nothing else limits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from vclone_core.models import BuildLimits
from vclone_runner_podman.cgroups import Cgroup

LOOK_S: Final = 0.5
# A count of a large tree takes a while: it is made after this many times its own duration.
REST: Final = 10
# What must stay free on the disk for the platform itself.
RESERVE_BYTES: Final = 256 * 1024**2


async def watch(cgroup: Cgroup, workspace: Path, limits: BuildLimits, end: Callable[[str], None]) -> None:
    """Call `end` with the reason, over and over, while a limit is passed: `killed` (too many processes), `disk`."""
    loop = asyncio.get_running_loop()
    start = cgroup.count()
    free_at_start = free_bytes(workspace)
    count_at = 0.0
    while True:
        await asyncio.sleep(LOOK_S)
        now = cgroup.count()
        if (now.processes or 0) > limits.processes + 1 or (now.refused_forks or 0) > (start.refused_forks or 0):
            end("killed")
        free = free_bytes(workspace)
        if free < RESERVE_BYTES:
            end("disk")
        # Others write to the disk too, so what is missing is only a reason to count.
        if loop.time() >= count_at or free_at_start - free > limits.disk_bytes:
            began = loop.time()
            if await asyncio.to_thread(is_over, workspace, limits.disk_bytes):
                end("disk")
            count_at = loop.time() + max(4 * LOOK_S, REST * (loop.time() - began))


def free_bytes(folder: Path) -> int:
    """Return what an ordinary user may still write to the folder's disk."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def is_over(folder: Path, limit: int) -> bool:
    """Say whether the files below `folder` take more than `limit` bytes of the disk; one with two names counts once."""
    total = 0
    linked: set[int] = set()
    queue = [str(folder)]
    while queue:
        try:
            with os.scandir(queue.pop()) as entries:
                for entry in entries:
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    if found.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                        if found.st_ino in linked:
                            continue
                        linked.add(found.st_ino)
                    total += found.st_blocks * 512
                    if total > limit:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        queue.append(entry.path)
        except OSError:
            continue
    return False
