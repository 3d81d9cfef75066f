"""Disks that are really small: a tmpfs of a few MiB, where root may mount one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.needs import lacks


@contextmanager
def small_disk(folder: Path, *, mib: int, mode: str = "0700") -> Iterator[Path]:
    """A disk of so many MiB at `folder`, made where it is missing; skips the test where none can be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode={mode}", "tmpfs", folder]
    done = subprocess.run(words, check=False, capture_output=True)
    if done.returncode != 0:
        lacks(f"a small disk can't be mounted, which takes root: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Take what is left of a disk; return the file that does."""
    ballast = folder / "ballast"
    with ballast.open("wb", 0) as file:
        for piece_bytes in (1024**2, 4096):
            try:
                while True:
                    file.write(b"\0" * piece_bytes)
            except OSError:
                continue
    return ballast
