"""Finds the workspace around a folder, and its packages. Reads folders that strangers filled, within bounds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vclone_core.rules.frameworks import PLAN_FILES, Listing
from vclone_core.rules.packagemanagers import LOCKFILES
from vclone_core.rules.workspaces import (
    NX_FILE,
    ROOT_FILES,
    Package,
    Workspace,
    is_member,
    parse_package,
    read_globs,
)
from vclone_core.stores.folders import read_listing, read_text

MAX_FOLDERS: Final = 20_000
MAX_DEPTH: Final = 6
_SKIPPED: Final = frozenset({"node_modules", ".git"})
_LOCKS: Final = frozenset(file for file, _ in LOCKFILES)


def find_workspace(folder: Path, root_directory: str) -> Workspace | None:
    """Return the innermost workspace in the repository at `folder` that has `root_directory` as a package.

    None for the repository's root, for a folder with a lockfile of its own, and where no folder above names it.
    """
    parts = [part for part in root_directory.split("/") if part]
    own = read_listing(folder.joinpath(*parts), depth=1)
    if not parts or own.paths & _LOCKS:
        return None
    for depth in range(len(parts) - 1, -1, -1):
        above, member = parts[:depth], "/".join(parts[depth:])
        listing = read_listing(folder.joinpath(*above), (*PLAN_FILES, *ROOT_FILES), depth=1)
        is_nx = NX_FILE in listing.paths and "project.json" in own.paths
        if is_member(read_globs(listing), member) or is_nx:
            return Workspace("/".join(above), member, listing)
    return None


def find_repository(folder: Path) -> tuple[Path, str]:
    """Return the root of the checkout that `folder` lies in, and the way from there to it; itself where it is none."""
    folder = folder.resolve()
    for root in (folder, *folder.parents):
        if (root / ".git").exists():
            return root, folder.relative_to(root).as_posix().removeprefix(".")
    return folder, ""


def read_packages(folder: Path, workspace: Workspace) -> dict[str, Package]:
    """Return every package of a workspace by its folder from the repository's root `folder`."""
    globs = read_globs(workspace.listing)
    root = folder / workspace.place
    found = {}
    for path in _walk(root):
        if path == workspace.member or is_member(globs, path) or _is_nx(workspace.listing, root / path):
            text = _read_package(root, path)
            if text is not None:
                found[f"{workspace.place}/{path}".lstrip("/")] = parse_package(text)
    return found


def _is_nx(listing: Listing, folder: Path) -> bool:
    return NX_FILE in listing.paths and (folder / "project.json").is_file()


def _read_package(root: Path, path: str) -> str | None:
    try:
        return read_text(root, f"{path}/package.json")
    except ValueError:
        return ""


def _walk(root: Path) -> Iterator[str]:
    """Yield the folders below `root`, the outer ones first; links are no folders here."""
    waiting, seen = [""], 0
    while waiting and seen < MAX_FOLDERS:
        prefix = waiting.pop(0)
        try:
            with os.scandir(root / prefix) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            continue
        for name in names:
            if name in _SKIPPED:
                continue
            seen += 1
            yield f"{prefix}{name}"
            if prefix.count("/") < MAX_DEPTH - 1:
                waiting.append(f"{prefix}{name}/")
