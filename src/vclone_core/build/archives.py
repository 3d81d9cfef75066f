"""Folders as one compressed tar, and back. What is packed and unpacked was written by strangers.

Packing takes no link on its way and keeps regular files, folders and links. Unpacking fills an empty folder and nothing
outside of it: every entry is judged, counted and made by hand.
"""

from __future__ import annotations

import os
import stat
import sys
import tarfile
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from vclone_core.rules.buildcaches import MAX_ARCHIVE_BYTES, MAX_BYTES, MAX_FILES, check_member

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES: Final = 1024**2
# Speed counts: an archive is read and written while somebody waits. Level 1 packs 300 MB/s and more.
_OPTIONS: Final[Mapping[int, int]] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.checksum_flag: 1,
}
_FOLDER: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECTORY
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Deeper folders are left out: no entry may be deeper either.
_DEPTH: Final = 60


class NotArchived(Exception):
    """These folders can't be packed, or this is no archive that may be unpacked; the text says why."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What an archive holds."""

    files: int
    size_bytes: int


def pack(
    base: Path, paths: Iterable[str], target: Path, *, left_out: Collection[str] = (), stop: threading.Event
) -> Packed:
    """Write the folders `paths` below `base` into `target`; raise `NotArchived` for what is too much, or once `stop`.

    Special files are left out, links out of `base` too, and `left_out` with all below.
    """
    counted = _Count()
    with (
        target.open("xb") as raw,
        zstd.open(cast(Any, raw), "wb", options=_OPTIONS) as out,
        tarfile.open(fileobj=cast(IO[bytes], out), mode="w|", format=tarfile.PAX_FORMAT, bufsize=PIECE_BYTES) as tar,
    ):
        for path in paths:
            for entry, content in _walk(base, path, left_out):
                with content or _NOTHING as body:
                    if stop.is_set():
                        raise NotArchived("the build is over")
                    counted.add(entry)
                    if raw.tell() > MAX_ARCHIVE_BYTES:
                        raise NotArchived(f"it takes more than {MAX_ARCHIVE_BYTES // 1024**2} MiB")
                    tar.addfile(entry, body)
    return Packed(counted.files, target.stat().st_size)


def find_folders(base: Path, name: str, *, depth: int = 6) -> list[str]:
    """Return the outermost folders of a name below `base`, as relative paths; no link is taken."""
    found: list[str] = []
    queue = [""]
    while queue:
        prefix = queue.pop()
        with os.scandir(base / prefix) as entries:
            folders = sorted(one.name for one in entries if one.is_dir(follow_symlinks=False))
        for folder in folders:
            path = f"{prefix}{folder}"
            if folder == name:
                found.append(path)
            elif folder != ".git" and path.count("/") < depth:
                queue.append(f"{path}/")
    return sorted(found)


def unpack(archive: Path, folder: Path) -> Packed:
    """Lay an archive out in the empty `folder`; raise `NotArchived` for one that is damaged or that may not be."""
    counted = _Count()
    layout = _Layout(folder)
    try:
        with zstd.open(archive, "rb") as raw:
            with tarfile.open(fileobj=cast(IO[bytes], raw), mode="r|", bufsize=PIECE_BYTES) as tar:
                for entry in tar:
                    counted.add(entry)
                    layout.add(entry, tar)
            # What stands behind the tar's end holds the checksum of the whole.
            while raw.read(PIECE_BYTES):
                pass
    except (tarfile.TarError, zstd.ZstdError, EOFError, UnicodeError) as error:
        raise NotArchived(f"it is damaged ({error})") from error
    return Packed(counted.files, archive.stat().st_size)


class _Count:
    """Counts entries and bytes against the limits."""

    def __init__(self) -> None:
        self.files = 0
        self.size_bytes = 0

    def add(self, entry: tarfile.TarInfo) -> None:
        self.files += 1
        self.size_bytes += entry.size
        if self.files > MAX_FILES:
            raise NotArchived(f"it has more than {MAX_FILES:,} files")
        if self.size_bytes > MAX_BYTES:
            raise NotArchived(f"it has more than {MAX_BYTES // 1024**2} MiB")


class _Layout:
    """The entries made so far. An entry goes only into folders that are among them, so never through a link."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        self._folders = {""}

    def add(self, entry: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        name = entry.name
        link = entry.linkname if entry.issym() else None
        if (problem := check_member(name, link=link)) is not None:
            raise NotArchived(f"{name[:200]!r} {problem}")
        try:
            self._make_folder(name.rpartition("/")[0])
            if entry.isdir():
                self._make_folder(name)
            elif link is not None:
                (self._root / name).symlink_to(link)
            elif entry.isreg():
                self._write(entry, tar)
            else:
                raise NotArchived(f"{name[:200]!r} is neither file, folder nor link")
        except FileExistsError as error:
            raise NotArchived(f"{name[:200]!r} is there twice, or lies behind a link") from error

    def _make_folder(self, path: str) -> None:
        if path in self._folders:
            return
        self._make_folder(path.rpartition("/")[0])
        (self._root / path).mkdir(mode=0o755)
        self._folders.add(path)

    def _write(self, entry: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        content = tar.extractfile(entry)
        assert content is not None
        descriptor = os.open(self._root / entry.name, _WRITE, 0o600)
        try:
            left = entry.size
            while left > 0:
                if not (piece := content.read(min(left, PIECE_BYTES))):
                    raise NotArchived("it ends early")
                left -= os.write(descriptor, piece)
            os.fchmod(descriptor, 0o755 if entry.mode & 0o100 else 0o644)
            os.utime(descriptor, (entry.mtime, entry.mtime))
        finally:
            os.close(descriptor)


class _Nothing:
    """Stands in for the content of what has none."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


_NOTHING: Final = _Nothing()


def _walk(base: Path, path: str, left_out: Collection[str]) -> Iterator[tuple[tarfile.TarInfo, Any]]:
    """Yield what lies at and below `base/path`, folders before their content, each with its opened file."""
    *folders, name = path.split("/")
    descriptors = [os.open(base, _FOLDER)]
    try:
        try:
            for folder in folders:
                descriptors.append(os.open(folder, _FOLDER, dir_fd=descriptors[-1]))
        except OSError:
            return
        yield from _walk_entry(descriptors[-1], name, path, left_out, device=os.fstat(descriptors[0]).st_dev)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _walk_entry(
    parent: int, name: str, path: str, left_out: Collection[str], *, device: int
) -> Iterator[tuple[tarfile.TarInfo, Any]]:
    if path in left_out:
        return
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if status.st_dev != device or check_member(path) is not None:
            return
        if kind == stat.S_IFLNK:
            target = os.readlink(name, dir_fd=parent)
            if check_member(path, link=target) is None:
                yield _entry(path, tarfile.SYMTYPE, status, link=target), None
        elif kind == stat.S_IFREG:
            descriptor = os.open(name, _READ, dir_fd=parent)
            status = os.fstat(descriptor)
            yield _entry(path, tarfile.REGTYPE, status, size=status.st_size), os.fdopen(descriptor, "rb")
        elif kind == stat.S_IFDIR and path.count("/") < _DEPTH:
            descriptor = os.open(name, _FOLDER, dir_fd=parent)
            try:
                yield _entry(path, tarfile.DIRTYPE, status), None
                for below in sorted(os.listdir(descriptor)):  # noqa: PTH208 (a descriptor is no path)
                    yield from _walk_entry(descriptor, below, f"{path}/{below}", left_out, device=device)
            finally:
                os.close(descriptor)
    except (FileNotFoundError, PermissionError, UnicodeError):
        # It went meanwhile, or nobody could read it again either.
        return


def _entry(path: str, kind: bytes, status: os.stat_result, *, size: int = 0, link: str = "") -> tarfile.TarInfo:
    path.encode()
    entry = tarfile.TarInfo(path)
    entry.type, entry.size, entry.linkname = kind, size, link
    entry.mode, entry.mtime = stat.S_IMODE(status.st_mode) & 0o755, int(status.st_mtime)
    return entry
