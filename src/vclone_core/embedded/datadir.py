"""The data folder of one machine: checked before anything is made, held by one `up` at a time, laid out here.

DIR/vclone.json    layout version, and what the first start has done
DIR/secrets.json   keys of this platform (0600)       DIR/cli.json   how this machine's CLI signs in (0600)
DIR/run.json       what runs just now                 DIR/logs       one file per process
DIR/postgres  DIR/valkey  DIR/objects  DIR/work       DIR/edge       the edge's snapshot
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vclone_core.errors import AlreadyRunning, DataDirUnusable, DiskFull, NewerData

LAYOUT: Final = 1
NEEDED_BYTES: Final = 200 * 1024**2
_FOLDERS: Final = ("logs", "objects")


@dataclass(frozen=True, slots=True)
class DataDir:
    """An opened data folder and the places in it."""

    path: Path

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def objects(self) -> Path:
        return self.path / "objects"

    @property
    def cli_file(self) -> Path:
        return self.path / "cli.json"

    @property
    def run_file(self) -> Path:
        return self.path / "run.json"

    def read_notes(self) -> dict[str, Any]:
        """Return what earlier starts noted: `layout`, `version`, `welcomed`."""
        return read_json(self.path / "vclone.json") or {}

    def write_notes(self, **notes: Any) -> None:
        """Add to the notes."""
        write_private(self.path / "vclone.json", {**self.read_notes(), **notes})

    def load_secrets(self) -> dict[str, str]:
        """Return `secret_key` and `edge_token` of this platform, made on the first call."""
        path = self.path / "secrets.json"
        kept = read_json(path)
        if kept is None and path.exists():
            raise DataDirUnusable(
                path=self.path,
                why=f"{path.name} is damaged",
                hint=f"Restore {path} from a backup; without it sessions and stored secrets are lost.",
            )
        if kept is None:
            kept = {"secret_key": secrets.token_urlsafe(48), "edge_token": secrets.token_urlsafe(32)}
            write_private(path, kept)
        return {name: str(value) for name, value in kept.items()}


@contextmanager
def open_data_dir(path: Path, *, version: str, needed_bytes: int = NEEDED_BYTES) -> Iterator[DataDir]:
    """Check, make and hold the data folder for one `up`.

    Raises `DataDirUnusable`, `DiskFull`, `NewerData` or `AlreadyRunning`; a folder that was not there before is then
    not there after.
    """
    path = path.absolute()
    check_place(path, needed_bytes)
    is_new = not path.exists()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if is_new:
            shutil.rmtree(path, ignore_errors=True)
        raise DataDirUnusable(path=path, why=error.strerror or str(error)) from error
    try:
        _hold(lock, path)
        folder = DataDir(path)
        seen = folder.read_notes()
        if seen.get("layout", 0) > LAYOUT:
            raise NewerData(path=path, seen=seen.get("version", "unknown"), known=version)
        for name in _FOLDERS:
            (path / name).mkdir(mode=0o700, exist_ok=True)
        # What a killed run left there must not be taken for this one.
        folder.run_file.unlink(missing_ok=True)
        folder.write_notes(layout=LAYOUT, version=version)
        yield folder
    finally:
        os.close(lock)  # gives the lock back


def _hold(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = (read_json(path / "run.json") or {}).get("pid", "unknown")
        raise AlreadyRunning(path=path, pid=holder) from error


def is_held(path: Path) -> bool:
    """Say whether an `up` runs on this data folder."""
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def check_place(path: Path, needed_bytes: int = NEEDED_BYTES) -> None:
    """Raise what speaks against keeping data at `path`; touches nothing."""
    there = nearest_existing(path)
    if not there.is_dir():
        raise DataDirUnusable(path=path, why=f"{there} is not a directory")
    if not os.access(there, os.W_OK | os.X_OK):
        raise DataDirUnusable(path=path, why=f"this user may not write to {there}")
    free = shutil.disk_usage(there).free
    if free < needed_bytes:
        raise DiskFull(path=path, free=f"{free // 1024**2} MiB", needed=f"{needed_bytes // 1024**2} MiB")


def nearest_existing(path: Path) -> Path:
    """Return `path` or its nearest parent that exists; raise `DataDirUnusable` when that can't be seen."""
    try:
        return next(place for place in (path, *path.parents) if place.exists())
    except OSError as error:
        raise DataDirUnusable(path=path, why=error.strerror or str(error)) from error


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a file; None when it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_private(path: Path, value: Mapping[str, Any], *, is_synced: bool = True) -> None:
    """Write an object to a file that only its owner may read, whole or not at all; `is_synced`: also on a power cut."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=2) + "\n")
        file.flush()
        if is_synced:
            os.fsync(file.fileno())
    draft.replace(path)
