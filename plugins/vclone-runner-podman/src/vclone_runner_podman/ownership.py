"""Gives the build's user what the platform put into a workspace, and takes nothing else: descriptors, never paths."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def hand_over(folder: Path, *, owner: int, keep: frozenset[str] = frozenset()) -> None:
    """Make `owner` the owner of what this process's user owns in `folder`; names of `keep` at its top stay.

    Call it while nothing of the build runs. Links are changed, never followed; a file with a second name stays as it
    is, since the other one may lie anywhere.
    """
    own = os.geteuid()
    if own == owner:
        return
    for path, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        if path == str(folder):
            folders[:] = [name for name in folders if name not in keep]
            files = [name for name in files if name not in keep]
            _give(".", descriptor, own, owner)
        for name in (*folders, *files):
            _give(name, descriptor, own, owner)


def _give(name: str, descriptor: int, own: int, owner: int) -> None:
    found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    if found.st_uid == own and (found.st_nlink == 1 or stat.S_ISDIR(found.st_mode)):
        os.chown(name, owner, owner, dir_fd=descriptor, follow_symlinks=False)
