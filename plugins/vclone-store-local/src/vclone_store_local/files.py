"""The blocking half of the store: runs in threads, raises OSError, and `Invalid` for content not as announced."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vclone_core import ObjectInfo, Span, errors

INCOMING: Final = "~incoming"  # no key can spell it
CHUNK_BYTES: Final = 64 * 1024
COPY_BYTES: Final = 1024 * 1024
STALE_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Put:
    """Bytes to be stored under `target`."""

    target: Path
    body: bytes
    size: int
    sha256: str | None
    overwrite: bool


def prepare(root: Path) -> None:
    """Make the store's folders, remove what crashed writers left, and see that a file can be written."""
    incoming = root / INCOMING
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    incoming.mkdir(mode=0o700, exist_ok=True)
    with os.scandir(incoming) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_S:
                    Path(entry).unlink()
    Draft(root, size=0, sha256=None).discard()


class Draft:
    """A file being written, visible to nobody until `publish`. `size` and `sha256` are what it must come to."""

    def __init__(self, root: Path, *, size: int, sha256: str | None) -> None:
        self._root = root
        self._announced = size
        self._sha256 = sha256
        self._path = root / INCOMING / secrets.token_hex(16)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._size = 0
        self._hash = hashlib.sha256() if sha256 is not None else None
        # A cancelled put discards its draft while a thread may still be writing to it.
        self._lock = threading.Lock()

    def write(self, chunks: Iterable[bytes | memoryview]) -> None:
        """Append bytes; raise `Invalid` as soon as there are more than announced."""
        with self._lock:
            for chunk in chunks:
                view = memoryview(chunk)
                self._size += len(view)
                if self._size > self._announced:
                    raise errors.Invalid(what=f"the object has more than the {self._announced} bytes announced")
                if self._hash is not None:
                    self._hash.update(view)
                while view:
                    view = view[os.write(self._fd, view) :]

    def begin_sync(self) -> None:
        """Let the kernel start to write the file out, so that the syncs of many overlap; waits for nothing."""
        with self._lock:
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def publish(self, target: Path, *, overwrite: bool) -> bool:
        """Check, sync and show the file under `target`; False where that exists and may not be replaced."""
        with self._lock:
            if self._size != self._announced:
                raise errors.Invalid(what=f"the object has {self._size} bytes, not the {self._announced} announced")
            if self._hash is not None and self._hash.hexdigest() != self._sha256:
                raise errors.Invalid(what="the object's bytes do not have the SHA-256 that was announced")
            os.fsync(self._fd)
            while True:
                try:
                    if overwrite:
                        self._path.replace(target)
                    else:
                        os.link(self._path, target)
                    return True
                except FileNotFoundError:
                    if not self._path.exists():
                        raise
                    # The first object of its folder, or `delete` has just removed the empty folder.
                    make_folder(self._root, target.parent)
                except FileExistsError:
                    if target.is_dir():
                        raise _collision(target) from None
                    return False
                except (IsADirectoryError, NotADirectoryError):
                    raise _collision(target) from None

    def discard(self) -> None:
        """Close and remove the draft; what was published stays."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            self._path.unlink(missing_ok=True)


def _collision(target: Path) -> errors.Invalid:
    return errors.Invalid(what=f"the key ending in {target.name!r} is a folder of other objects, or lies below one")


def make_folder(root: Path, folder: Path) -> None:
    """Make `folder` and its parents below `root`, each durably; `delete` may have removed it again on return."""
    if folder == root:
        return
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        try:
            is_folder = stat.S_ISDIR(folder.stat().st_mode)
        except FileNotFoundError:
            is_folder = not folder.is_symlink()  # one that was there a moment ago
        if not is_folder:
            raise _collision(folder) from None
    except NotADirectoryError:
        raise _collision(folder) from None
    except FileNotFoundError:
        make_folder(root, folder.parent)
        make_folder(root, folder)
    else:
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; one that is gone needs nothing."""
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def store(root: Path, target: Path, body: bytes | Path, *, size: int, sha256: str | None, overwrite: bool) -> bool:
    """Store bytes or a file's content under `target`; False where that exists and may not be replaced."""
    if not overwrite and target.is_file():
        return False
    draft = Draft(root, size=size, sha256=sha256)
    try:
        draft.write((body,) if isinstance(body, bytes) else _read_source(body))
        return draft.publish(target, overwrite=overwrite)
    finally:
        draft.discard()


def store_batch(root: Path, puts: Sequence[Put]) -> list[bool | Exception]:
    """Store several small objects: of each, what `store` would say or raise. One that fails harms no other."""
    outcomes: list[bool | Exception] = [False] * len(puts)
    drafts: dict[int, Draft] = {}
    try:
        for index, put in enumerate(puts):
            try:
                if put.overwrite or not put.target.is_file():
                    draft = drafts[index] = Draft(root, size=put.size, sha256=put.sha256)
                    draft.write((put.body,))
                    draft.begin_sync()
            except (OSError, errors.Invalid) as error:
                outcomes[index] = error
                if index in drafts:
                    drafts.pop(index).discard()
        for index, draft in drafts.items():
            try:
                outcomes[index] = draft.publish(puts[index].target, overwrite=puts[index].overwrite)
            except (OSError, errors.Invalid) as error:
                outcomes[index] = error
    finally:
        for draft in drafts.values():
            draft.discard()
    return outcomes


def _read_source(path: Path) -> Iterator[memoryview]:
    """Yield a file's bytes; what goes wrong here is the caller's file, not the store."""
    buffer = bytearray(COPY_BYTES)
    view = memoryview(buffer)
    try:
        with path.open("rb", buffering=0) as source:
            while count := source.readinto(buffer):
                yield view[:count]
    except OSError as error:
        raise errors.Invalid(what=f"{path.name} can't be read ({error.strerror})") from error


class Reader:
    """An open object file, read from the start of a span to its end.

    `first` holds the whole span where that is one chunk: opening and reading a small object is one trip to a thread.
    """

    def __init__(self, path: Path, key: str, span: Span | None) -> None:
        self._lock = threading.Lock()
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise IsADirectoryError
            self.info = describe(key, status)
            if span is not None and not 0 <= span.start <= span.end < self.info.size:
                raise errors.Invalid(what=f"bytes {span.start}-{span.end} of an object of {self.info.size} bytes")
            self.size = self.info.size if span is None else span.size
            self._next = 0 if span is None else span.start
            self._end = self._next + self.size
            self.first = self.read(self.size) if self.size <= CHUNK_BYTES else []
        except BaseException:
            os.close(self._fd)
            raise

    def read(self, size: int) -> list[bytes]:
        """Return the next `size` bytes in chunks; fewer where the span or the file ends."""
        chunks: list[bytes] = []
        with self._lock:
            stop = min(self._end, self._next + size)
            while self._next < stop and (chunk := os.pread(self._fd, min(CHUNK_BYTES, stop - self._next), self._next)):
                chunks.append(chunk)
                self._next += len(chunk)
        return chunks

    def close(self) -> None:
        """Close the file, once nobody reads from it any more."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    @property
    def is_busy(self) -> bool:
        """Whether a thread reads just now."""
        return self._lock.locked()


def open_object(path: Path, key: str, span: Span | None) -> Reader | None:
    """Open an object's file; None where there is none."""
    try:
        return Reader(path, key, span)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def head(path: Path, key: str) -> ObjectInfo | None:
    """Describe an object's file; None where there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return describe(key, status) if stat.S_ISREG(status.st_mode) else None


def describe(key: str, status: os.stat_result) -> ObjectInfo:
    """Return what a stat says of an object. A replaced object is a new file, so its ETag changes."""
    etag = f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'
    return ObjectInfo(key, status.st_size, etag, status.st_mtime)


def walk(root: Path, prefix: str) -> Iterator[ObjectInfo]:
    """Yield the objects whose key starts with `prefix`, in key order."""
    above, _, _ = prefix.rpartition("/")
    yield from _walk(root / above, f"{above}/" if above else "", prefix)


def _walk(folder: Path, key: str, prefix: str) -> Iterator[ObjectInfo]:
    try:
        with os.scandir(folder) as entries:
            # A folder sorts as its keys do: with the slash behind its name.
            names = sorted(entry.name + "/" * entry.is_dir(follow_symlinks=False) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        below = key + name
        if name == f"{INCOMING}/" and not key:
            continue
        if name.endswith("/"):
            if below.startswith(prefix) or prefix.startswith(below):
                yield from _walk(folder / name, below, prefix)
        elif below.startswith(prefix) and (info := head(folder / name, below)):
            yield info


def delete(root: Path, paths: Iterable[Path]) -> None:
    """Remove files, then the folders that this emptied."""
    folders: set[Path] = set()
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            path.unlink()
            folders.add(path.parent)
    for folder in folders:
        while folder != root:
            try:
                folder.rmdir()
            except OSError:
                break  # not empty, or already gone
            folder = folder.parent
