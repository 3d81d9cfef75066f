"""Reads a folder for an upload: which files travel, and their hashes. Refuses what can't before anything is created."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vclone_core.errors import EmptySource, Invalid, SourceRefused, TooLarge
from vclone_core.models import SourceFile
from vclone_core.rules.uploads import FILE_LIMIT_BYTES, FILES_LIMIT, is_left_out, is_secret

# Later files win, so that the last two can take back (`!dist`) what .gitignore leaves out.
IGNORE_FILES: Final = (".gitignore", ".vercelignore", ".vcloneignore")
# Threads wait for the disk most of the time; a task is a run of files, since one small file is hashed in microseconds.
HASH_THREADS: Final = 8
FILES_PER_TASK: Final = 32
DEPTH_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that will travel: its path in the upload, with `/`, and where it lies."""

    path: str
    place: str
    size: int
    is_executable: bool


@dataclass(frozen=True, slots=True)
class FolderListing:
    """What of a folder travels, sorted by path, and the secrets that stay at home."""

    root: Path
    files: tuple[FoundFile, ...]
    secrets: tuple[str, ...]


def list_folder(root: Path, *, is_output: bool = False) -> FolderListing:
    """Return the files of `root` that travel; `is_output` (a finished build) skips the ignore files.

    Raises `Invalid` (no such folder), `EmptySource`, `TooLarge` or `SourceRefused` (a link that leaves the folder, a
    socket, a name that is not UTF-8), naming the first few of them.
    """
    try:
        real = root.resolve(strict=True)
    except OSError as error:
        raise Invalid(what=f"there is no folder {root}", hint="Name a folder or a git URL.") from error
    if not real.is_dir():
        raise Invalid(what=f"{root} is not a folder", hint="Name the folder that holds it.")
    walk = _Walk(real, is_output)
    walk.enter(str(real), "", ())
    if walk.problems:
        shown = "; ".join(walk.problems[:5])
        more = len(walk.problems) - 5
        raise SourceRefused(what=shown + (f"; and {more} more" if more > 0 else ""))
    if not walk.files:
        raise EmptySource()
    if len(walk.files) > FILES_LIMIT:
        raise TooLarge(what=f"This folder ({len(walk.files)} files)", limit=f"{FILES_LIMIT} files")
    for file in walk.files:
        if file.size > FILE_LIMIT_BYTES:
            what, limit = f"{file.path} ({file.size / 1024**2:.1f} MiB)", f"{FILE_LIMIT_BYTES // 1024**2} MiB a file"
            raise TooLarge(what=what, limit=limit, hint="Remove the file, or list it in `.vcloneignore`.")
    return FolderListing(real, tuple(sorted(walk.files, key=lambda file: file.path)), tuple(walk.secrets))


def hash_files(files: Sequence[FoundFile]) -> tuple[SourceFile, ...]:
    """Return the files with their hashes, in the same order. Raises `SourceRefused` when one can't be read."""
    runs = [files[at : at + FILES_PER_TASK] for at in range(0, len(files), FILES_PER_TASK)]
    if len(runs) < 2:
        return tuple(_hash_run(files))
    with ThreadPoolExecutor(HASH_THREADS) as threads:
        return tuple(file for run in threads.map(_hash_run, runs) for file in run)


def _hash_run(files: Sequence[FoundFile]) -> list[SourceFile]:
    hashed = []
    for file in files:
        try:
            with open(file.place, "rb") as opened:  # noqa: PTH123  a Path per file costs as much as its hash
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
                size = opened.tell()
        except OSError as error:
            raise SourceRefused(what=f"{file.path} can't be read ({error.strerror})") from error
        hashed.append(SourceFile(file.path, digest, size, file.is_executable))
    return hashed


@dataclass(slots=True)
class _Walk:
    root: Path
    is_output: bool
    files: list[FoundFile] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    # Each ignore file in force here: the folder it speaks of, ending in "/" unless it is the root, and its check.
    checks: list[tuple[str, Callable[[str], Any]]] = field(default_factory=list)

    def enter(self, place: str, prefix: str, parents: tuple[str, ...]) -> None:
        """Add the files below `place`, a real path, under `prefix`; `parents` are the real paths it lies in."""
        known = len(self.checks)
        if len(parents) > DEPTH_LIMIT:
            self.problems.append(f"{prefix} lies more than {DEPTH_LIMIT} folders deep")
            return
        try:
            with os.scandir(place) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            self.problems.append(f"{prefix or '.'} can't be read ({error.strerror})")
            return
        if not self.is_output:
            self.checks += _read_ignore_files(entries, prefix)
        for entry in entries:
            if len(self.files) > FILES_LIMIT:
                break
            self.add(entry, prefix + entry.name, (*parents, place))
        del self.checks[known:]

    def add(self, entry: os.DirEntry[str], path: str, parents: tuple[str, ...]) -> None:
        """Add one entry of a folder, with what lies below it."""
        if is_left_out(entry.name, is_output=self.is_output):
            return
        is_link = entry.is_symlink()
        is_folder = entry.is_dir()
        if self.is_ignored(path + "/" if is_folder else path):
            return
        if is_secret(entry.name) and not is_folder:
            self.secrets.append(path)
            return
        try:
            path.encode()
        except UnicodeEncodeError:
            self.problems.append(f"the name {os.fsencode(path)!r} is not UTF-8")
            return
        place = entry.path
        if is_link:
            place = os.path.realpath(place)
            if problem := self.check_link(path, place, parents):
                self.problems.append(problem)
                return
        if is_folder:
            self.enter(place, path + "/", parents)
            return
        status = entry.stat()
        if not stat.S_ISREG(status.st_mode):
            self.problems.append(f"{path} is neither a file nor a folder")
            return
        self.files.append(FoundFile(path, place, status.st_size, bool(status.st_mode & stat.S_IXUSR)))

    def check_link(self, path: str, target: str, parents: tuple[str, ...]) -> str | None:
        """Say why a symbolic link can't travel as what it points at."""
        if not (target + "/").startswith(f"{self.root}/"):
            return f"the symbolic link {path} leaves the folder (it points at {target})"
        if not os.path.exists(target):  # noqa: PTH110  place is text
            return f"the symbolic link {path} points at nothing ({target})"
        if any((parent + "/").startswith(target + "/") for parent in parents):
            return f"the symbolic link {path} points at a folder that it lies in"
        names = target[len(str(self.root)) + 1 :].split("/")
        if any(is_left_out(name, is_output=self.is_output) or is_secret(name) for name in names):
            return f"the symbolic link {path} points at {'/'.join(names)}, which is never uploaded"
        return None

    def is_ignored(self, path: str) -> bool:
        """Say what the last rule that speaks of `path` says; folders end in `/`."""
        for folder, check in reversed(self.checks):
            if (verdict := check(path[len(folder) :]).include) is not None:
                return bool(verdict)
        return False


def _read_ignore_files(entries: Sequence[os.DirEntry[str]], prefix: str) -> Iterator[tuple[str, Callable[[str], Any]]]:
    there = {entry.name: entry for entry in entries}
    # .gitignore counts in every folder, as git does it; the others only at the root.
    for name in IGNORE_FILES if not prefix else IGNORE_FILES[:1]:
        if (entry := there.get(name)) is None or not entry.is_file():
            continue
        lines = Path(entry.path).read_text(encoding="utf-8", errors="replace").splitlines()
        if any(line.strip() and not line.startswith("#") for line in lines):
            from pathspec import GitIgnoreSpec  # loads for 30 ms, and many folders have no ignore file

            try:
                yield prefix, GitIgnoreSpec.from_lines(lines).check_file
            except ValueError as error:
                raise Invalid(what=f"{prefix}{name} has a rule that can't be read ({error})") from error
