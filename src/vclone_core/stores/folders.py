"""Reads folders that strangers filled: never through a symbolic link, never past a bound."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from vclone_core.rules.frameworks import PLAN_FILES, Listing
from vclone_core.rules.globs import match_glob, split_globs

MAX_PATHS: Final = 20_000
MAX_DEPTH: Final = 5
MAX_TEXT_BYTES: Final = 1024**2
_SKIPPED: Final = frozenset({".git", "node_modules"})
# O_NONBLOCK: opening a fifo must not wait for its other end.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FOLDER: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECTORY


def read_listing(folder: Path, wanted: Collection[str] = PLAN_FILES, *, depth: int = MAX_DEPTH) -> Listing:
    """Return the files of a source, at most `MAX_PATHS` and `depth` folders deep, with the texts of those wanted.

    `wanted` holds globs (`rules.frameworks.list_wanted_texts`). `.git` and `node_modules` are left out, links and
    special files too; a text longer than `MAX_TEXT_BYTES` is cut, bytes that are no UTF-8 are replaced.
    """
    paths: list[str] = []
    for path in _walk(folder, "", depth):
        paths.append(path)
        if len(paths) >= MAX_PATHS:
            break
    texts: dict[str, str] = {}
    plain, globs = split_globs(tuple(wanted))
    names = frozenset(plain)
    root = open_folder(folder)
    try:
        for path in paths:
            if path in names or any(match_glob(glob, path) for glob in globs):
                descriptor = open_beneath(root, path)
                with os.fdopen(descriptor, "rb") as file:
                    texts[path] = file.read(MAX_TEXT_BYTES).decode("utf-8", "replace")
    finally:
        os.close(root)
    return Listing(frozenset(paths), texts)


def select_listed(paths: Iterable[str]) -> frozenset[str]:
    """Return those of a source's paths that `read_listing` would list."""
    shallow = [path for path in paths if path.count("/") < MAX_DEPTH and _SKIPPED.isdisjoint(path.split("/")[:-1])]
    return frozenset(sorted(shallow, key=lambda path: (path.count("/"), path))[:MAX_PATHS])


def read_files(folder: Path, wanted: Collection[str], *, limit_bytes: int) -> dict[str, bytes]:
    """Return the bytes of those files of a source that `wanted` (globs) means, by the same walk as `read_listing`.

    What is over `limit_bytes` in all is left out, the first files by name first in.
    """
    plain, globs = split_globs(tuple(wanted))
    names = frozenset(plain)
    paths = [path for path, _ in zip(_walk(folder, "", MAX_DEPTH), range(MAX_PATHS), strict=False)]
    found: dict[str, bytes] = {}
    root = open_folder(folder)
    try:
        for path in paths:
            if path in names or any(match_glob(glob, path) for glob in globs):
                with os.fdopen(open_beneath(root, path), "rb") as file:
                    found[path] = file.read(limit_bytes)
                limit_bytes -= len(found[path])
    finally:
        os.close(root)
    return found


def open_folder(folder: Path) -> int:
    """Return a descriptor of a folder for `open_beneath`; its own last segment must not be a link."""
    return os.open(folder, _FOLDER)


def open_beneath(root: int, path: str) -> int:
    """Return a descriptor of the regular file `path` below the folder `root`, taking no link on any segment.

    Raises `OSError` when a segment is missing, a link, or the file is not a regular one of the same device.
    """
    *folders, name = path.split("/")
    if not name or ".." in folders or name == "..":
        raise FileNotFoundError(path)
    current = root
    try:
        for segment in folders:
            below = os.open(segment, _FOLDER, dir_fd=current)
            if current != root:
                os.close(current)
            current = below
        descriptor = os.open(name, _READ, dir_fd=current)
    finally:
        if current != root:
            os.close(current)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_dev != os.fstat(root).st_dev:
        os.close(descriptor)
        raise OSError(f"{path} is no regular file of this folder")
    return descriptor


def read_text(folder: Path, path: str, *, limit_bytes: int = MAX_TEXT_BYTES) -> str | None:
    """Return the text of the regular file `path` below a folder; None where there is none.

    Raises `ValueError` for a larger one; bytes that are no UTF-8 are replaced.
    """
    root = open_folder(folder)
    try:
        descriptor = open_beneath(root, path)
    except OSError:
        return None
    finally:
        os.close(root)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise ValueError(f"{path} has more than {limit_bytes} bytes")
    return content.decode("utf-8", "replace")


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: (entry.is_dir(follow_symlinks=False), entry.name))
    for entry in found:
        if entry.is_file(follow_symlinks=False):
            yield f"{prefix}{entry.name}"
        elif depth > 1 and entry.is_dir(follow_symlinks=False) and entry.name not in _SKIPPED:
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", depth - 1)
