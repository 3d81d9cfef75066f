"""Small files that must be whole or not there: written beside their name, synced, renamed, and checked when read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path
from typing import Final

from vclone_core.log import get_log

_DIGEST: Final = 65  # 64 hexadecimal digits and a line end, before the content.

log = get_log(__name__)


def write_checked(path: Path, content: bytes) -> None:
    """Put `content` at `path` at once, with its checksum; raises `OSError` and leaves what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with draft.open("xb") as file:
            file.write(hashlib.sha256(content).hexdigest().encode() + b"\n")
            file.write(content)
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
    """A folder of checked files by key, bounded in bytes: the least recently used go first."""

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._written_bytes = limit_bytes  # Unknown until the first sweep, which the first write brings.

    def path_of(self, key: str) -> Path:
        return self.folder / hashlib.sha256(key.encode()).hexdigest()

    def get(self, key: str) -> bytes | None:
        """Return what is kept for `key`. Blocking."""
        path = self.path_of(key)
        content = read_checked(path, limit_bytes=self.limit_bytes)
        if content is not None:
            with contextlib.suppress(OSError):
                os.utime(path)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep `content`, where the disk lets it: a cache that can't be written is no failure. Blocking."""
        if len(content) > self.limit_bytes:
            return
        try:
            write_checked(self.path_of(key), content)
            self._written_bytes += len(content)
            if self._written_bytes > self.limit_bytes:
                self._written_bytes = self.sweep()
        except OSError as error:
            log.warning("disk_cache.unwritable", folder=str(self.folder), why=error.strerror)

    def sweep(self) -> int:
        """Remove the least recently used files until 90 % of the limit is left; return the bytes in use."""
        files = []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                files.append((status.st_mtime, status.st_size, entry.path))
        used = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if used <= self.limit_bytes * 0.9:
                break
            Path(path).unlink(missing_ok=True)
            used -= size
        return used
