"""The folders builds work in, `{data_dir}/builds/{deployment}-{attempt}`: made for an attempt, gone after it."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Collection
from pathlib import Path

from vclone_core.log import get_log

log = get_log(__name__)


async def make_workspace(builds_dir: Path, name: str) -> Path:
    """Return a new, empty, private folder; what an earlier owner of the name left there is removed."""
    return await asyncio.to_thread(_make, builds_dir / name)


async def remove_workspace(path: Path) -> None:
    """Remove a folder with all it holds, also what a build made read-only; what resists is logged."""
    await asyncio.to_thread(_remove, path)


def list_workspaces(builds_dir: Path) -> list[Path]:
    """Return the workspaces on this machine."""
    return sorted(builds_dir.iterdir()) if builds_dir.is_dir() else []


async def remove_leftovers(found: Collection[Path], keep: Collection[str]) -> None:
    """Remove the workspaces among `found` that are not named in `keep`.

    What a runner keeps beside a workspace shares its fate: `NAME.home` belongs to `NAME`.
    """
    for path in found:
        if path.name.partition(".")[0] not in keep:
            log.info("workspace.removed", workspace=path.name)
            await remove_workspace(path)


def _make(path: Path) -> Path:
    _remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700)
    return path


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        # Module caches are written read-only, and a folder without the write bit keeps its entries.
        path.chmod(stat.S_IRWXU)
        for folder, names, _ in os.walk(path):
            for inner in (Path(folder, name) for name in names):
                if not inner.is_symlink():
                    inner.chmod(stat.S_IRWXU)
        shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        log.warning("workspace.stuck", workspace=path.name)
