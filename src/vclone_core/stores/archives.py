"""Unpacks an archive of a stranger: tar, tar.gz or zip, by its content. Every byte is counted before it is written.

Nothing is trusted that the archive says of itself: neither sizes nor names nor how many entries there are.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from vclone_core.errors import ArchiveRefused, EmptySource
from vclone_core.models import BuildLimits, SourceFile
from vclone_core.rules.archives import BLOCK_BYTES, ArchiveTally, parse_pax, parse_tar_header, read_pax_size

PIECE_BYTES: Final = 256 * 1024
# Python reads a zip's whole directory into memory: 46 bytes and a name for an entry.
DIRECTORY_LIMIT_BYTES: Final = 8 * 1024**2
_END: Final = struct.Struct("<4s4H2LH")
_END_MARK: Final = b"PK\5\6"
_ZIP64_MARK: Final = b"PK\6\7"

Read = Callable[[int], bytes]


def is_archive(path: Path) -> bool:
    """Say whether a file looks like an archive that `unpack` takes."""
    return path.is_file() and _tell_kind(path) is not None


def unpack(archive: Path, folder: Path, limits: BuildLimits) -> tuple[Path, tuple[SourceFile, ...]]:
    """Unpack a file into the empty `folder`; return the source's root and its files, with paths from there.

    Where everything lies in one folder, that is the root. Raises `ArchiveRefused` or `EmptySource`; what was written by
    then is the caller's to remove.
    """
    kind = _tell_kind(archive)
    if kind is None:
        raise ArchiveRefused(what="it is neither a zip, a tar nor a tar.gz")
    size = archive.stat().st_size
    tally = ArchiveTally(limits, size)
    with archive.open("rb") as file:
        if kind == "zip":
            files = list(_unpack_zip(file, size, folder, tally))
        else:
            read = file.read if kind == "tar" else _Inflated(file, tally).read
            files = list(_unpack_tar(read, folder, tally))
    if not files:
        raise EmptySource()
    tops = {file.path.partition("/")[0] for file in files}
    if len(tops) > 1 or any("/" not in file.path for file in files):
        return folder, tuple(files)
    (top,) = tops
    cut = len(top) + 1
    return folder / top, tuple(SourceFile(f.path[cut:], f.sha256, f.size, f.is_executable) for f in files)


def _tell_kind(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(BLOCK_BYTES)
    if head[:2] == b"\x1f\x8b":
        return "tar.gz"
    if head[:4] in (b"PK\3\4", _END_MARK):
        return "zip"
    return "tar" if head[257:262] == b"ustar" else None


class _Inflated:
    """The content of a gzip file, of any number of members, read as far as it is asked for."""

    def __init__(self, file: BinaryIO, tally: ArchiveTally) -> None:
        self._file = file
        self._tally = tally
        self._unzip = zlib.decompressobj(31)
        self._packed = b""
        self._ready = b""
        self._at = 0
        self._in = self._out = 0

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end."""
        while len(self._ready) - self._at < size and (piece := self._inflate()):
            self._ready, self._at = self._ready[self._at :] + piece, 0
        found = self._ready[self._at : self._at + size]
        self._at += len(found)
        return found

    def _inflate(self) -> bytes:
        piece = b""
        while not piece:
            if not self._packed:
                self._packed = self._file.read(PIECE_BYTES)
                self._in += len(self._packed)
                if not self._packed:
                    return b""
            try:
                piece = self._unzip.decompress(self._packed, PIECE_BYTES)
            except zlib.error as error:
                raise ArchiveRefused(what=f"it is damaged ({error})") from error
            self._packed = self._unzip.unconsumed_tail
            if self._unzip.eof:
                # Padding behind the last member is usual on tapes and in pipes.
                self._packed = self._unzip.unused_data.lstrip(b"\0")
                self._unzip = zlib.decompressobj(31)
        self._out += len(piece)
        self._tally.compare(self._out, self._in)
        return piece


def _unpack_tar(read: Read, folder: Path, tally: ArchiveTally) -> Iterator[SourceFile]:
    pax: dict[str, str] = {}
    name = None
    while (block := read(BLOCK_BYTES)).strip(b"\0"):
        header = parse_tar_header(block)
        size = read_pax_size(pax, header.size) if header.kind == "file" else header.size
        if header.kind in ("pax", "name", "skip"):
            data = _read_exactly(read, size)
            _read_exactly(read, -size % BLOCK_BYTES)
            if header.kind == "pax":
                pax = dict(parse_pax(data))
            elif header.kind == "name":
                name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
            continue
        path = tally.enter(pax.get("path") or name or header.name, is_folder=header.kind == "folder")
        pax, name = {}, None
        if header.kind == "folder":
            continue
        tally.expect(header.name, size)
        yield from _write(_pieces(read, size), path, folder, tally, is_executable=header.is_executable)
        _read_exactly(read, -size % BLOCK_BYTES)


def _pieces(read: Read, size: int) -> Iterator[bytes]:
    while size:
        piece = read(min(size, PIECE_BYTES))
        if not piece:
            raise ArchiveRefused(what="it ends too early")
        size -= len(piece)
        yield piece


def _read_exactly(read: Read, size: int) -> bytes:
    return b"".join(_pieces(read, size))


def _unpack_zip(file: BinaryIO, size: int, folder: Path, tally: ArchiveTally) -> Iterator[SourceFile]:
    _check_directory(file, size)
    try:
        with zipfile.ZipFile(file) as opened:
            for entry in opened.infolist():
                # Python cuts a name at its NUL, after which another name may stand.
                path = tally.enter(entry.orig_filename, is_folder=entry.is_dir())
                mode = entry.external_attr >> 16
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise ArchiveRefused(what=f"{entry.filename[:200]!r} is a link or a special file")
                if entry.is_dir():
                    continue
                if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ArchiveRefused(what=f"{entry.filename[:200]!r} is encrypted, or packed in a rare way")
                tally.expect(entry.filename, entry.file_size)
                with opened.open(entry) as source:
                    pieces = iter(lambda source=source: source.read(PIECE_BYTES), b"")  # type: ignore[misc]
                    yield from _write(pieces, path, folder, tally, is_executable=bool(mode & stat.S_IXUSR))
    except _ZIP_TROUBLE as error:
        raise ArchiveRefused(what=f"it is damaged ({error})") from error
    except OSError as error:
        # A place before the file's beginning; anything else is the disk's.
        if error.errno != errno.EINVAL:
            raise
        raise ArchiveRefused(what="it is damaged") from error


# What Python's reader raises for what it can't make sense of.
_ZIP_TROUBLE: Final = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, RuntimeError, ValueError,
)  # fmt: skip


def _check_directory(file: BinaryIO, size: int) -> None:
    """Refuse a zip whose directory is larger than any that could be used; it would be read into memory."""
    start = max(0, size - (_END.size + 65_535 + 20))
    file.seek(start)
    tail = file.read()
    file.seek(0)
    at = tail.rfind(_END_MARK)
    if at < 0 or at + _END.size > len(tail):
        raise ArchiveRefused(what="it is damaged: a zip without its directory")
    if _ZIP64_MARK in tail[max(0, at - 20) : at]:
        raise ArchiveRefused(what="it is a Zip64 file, which only larger archives need")
    directory_bytes = _END.unpack_from(tail, at)[5]
    if directory_bytes > DIRECTORY_LIMIT_BYTES:
        raise ArchiveRefused(what="it has too many entries")


def _write(
    pieces: Iterator[bytes], path: str | None, folder: Path, tally: ArchiveTally, *, is_executable: bool
) -> Iterator[SourceFile]:
    """Write one file and yield it; nothing of one without a path is kept."""
    digest, size = hashlib.sha256(), 0
    if path is None:
        for piece in pieces:
            size += len(piece)
            tally.take("a file", len(piece), size)
        return
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(target, flags, 0o755 if is_executable else 0o644), "wb") as out:
        for piece in pieces:
            size += len(piece)
            tally.take(path, len(piece), size)
            digest.update(piece)
            out.write(piece)
    yield SourceFile(path, digest.hexdigest(), size, is_executable)
