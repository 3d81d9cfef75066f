"""Small files that must be whole or not there: written beside their name, renamed, and checked when read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from vclone_core.log import get_log

_DIGEST: Final = 65  # 64 hexadecimal digits and a line end, before the content.

log = get_log(__name__)


def write_checked(path: Path, content: bytes, *, is_synced: bool = True) -> None:
    """Put `content` at `path` at once, with its checksum; raises `OSError` and leaves what was there.

    Not synced, it may be lost with the machine's power; what is left of it then is told by its checksum.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with draft.open("xb") as file:
            file.write(hashlib.sha256(content).hexdigest().encode() + b"\n")
            file.write(content)
            if is_synced:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def read_checked(path: Path, *, limit_bytes: int) -> bytes | None:
    """Return what `write_checked` wrote; None when it is not there, or, with an alarm in the log, not whole."""
    try:
        if path.stat().st_size > limit_bytes:
            log.error("disk_file.ignored", file=path.name, why=f"it is larger than {limit_bytes} bytes")
            return None
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.error("disk_file.ignored", file=path.name, why=str(error.strerror))
        return None
    content = raw[_DIGEST:]
    if raw[:_DIGEST] != hashlib.sha256(content).hexdigest().encode() + b"\n":
        log.error("disk_file.ignored", file=path.name, why="its checksum is wrong")
        return None
    return content


class DiskCache:
    """A folder of checked files by key, bounded in bytes: the least recently used go first. Every call blocks.

    Several processes may share a folder. Each looks at all of it often enough that together they stay within the
    limit and a sixteenth of it per process.
    """

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        """As of the last sweep, and what this process wrote since."""
        self._unswept_bytes = limit_bytes  # What is there is unknown until the first sweep.

    def path_of(self, key: str) -> Path:
        return self.folder / hashlib.sha256(key.encode()).hexdigest()

    def get(self, key: str) -> bytes | None:
        """Return what is kept for `key`; a damaged file is removed, with an alarm in the log."""
        path = self.path_of(key)
        content = read_checked(path, limit_bytes=self.limit_bytes + _DIGEST)
        with contextlib.suppress(OSError):
            if content is None:
                path.unlink(missing_ok=True)
            else:
                os.utime(path)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep `content`, unless it is larger than the whole limit; raises `OSError` where the disk refuses it."""
        size = len(content) + _DIGEST
        if size > self.limit_bytes:
            return
        if self._unswept_bytes + size > self.limit_bytes / 16 or self.used_bytes + size > self.limit_bytes:
            self.sweep(room_bytes=size)
        write_checked(self.path_of(key), content, is_synced=False)
        self.used_bytes += size
        self._unswept_bytes += size

    def touch(self, keys: Iterable[str]) -> None:
        """Count these keys as used now, in their order; those that are not there are passed over."""
        for key in keys:
            with contextlib.suppress(OSError):
                os.utime(self.path_of(key))

    def sweep(self, *, room_bytes: int = 0) -> None:
        """Where there is no such room left, remove the least recently used files until a tenth of the limit is free."""
        files = []
        try:
            entries = [*os.scandir(self.folder)]
        except FileNotFoundError:
            entries = []
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                files.append((status.st_mtime_ns, status.st_size, entry.path))
        used_bytes = sum(size for _, size, _ in files)
        if used_bytes + room_bytes > self.limit_bytes:
            for _, size, path in sorted(files):
                if used_bytes <= self.limit_bytes * 0.9 - room_bytes:
                    break
                Path(path).unlink(missing_ok=True)
                used_bytes -= size
        self.used_bytes, self._unswept_bytes = used_bytes, 0
