"""Progress of long work on stderr: one line that moves on a terminal, two plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Final

import click

# A terminal line is drawn anew at most ten times a second.
REDRAW_S: Final = 0.1


def say(text: str) -> None:
    """Print one line for the person, never for a pipe."""
    click.echo(text, err=True)


def format_size(size_bytes: int) -> str:
    """Return a size as people say it.

    >>> format_size(999), format_size(10_240), format_size(3_500_000)
    ('999 B', '10.0 KiB', '3.3 MiB')
    """
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


@dataclass(slots=True)
class UploadProgress:
    """How far an upload is. Call `add` for every piece sent and `finish` once."""

    files: int
    size_bytes: int
    _sent_bytes: int = 0
    _started_s: float = field(default_factory=time.monotonic)
    _drawn_s: float = 0.0
    _is_terminal: bool = field(default_factory=lambda: sys.stderr.isatty())

    def __post_init__(self) -> None:
        if not self._is_terminal:
            say(f"Uploading {self.files} files ({format_size(self.size_bytes)})")

    def add(self, size_bytes: int) -> None:
        """Count bytes as sent."""
        self._sent_bytes += size_bytes
        now = time.monotonic()
        if self._is_terminal and now - self._drawn_s > REDRAW_S:
            self._drawn_s = now
            share = self._sent_bytes / max(self.size_bytes, 1)
            bar = "█" * int(share * 24)
            sent = f"{format_size(self._sent_bytes)} of {format_size(self.size_bytes)}"
            click.echo(f"\rUploading {bar:░<24} {share:4.0%}  {sent} \x1b[K", nl=False, err=True)

    def finish(self) -> None:
        """Say that everything has arrived."""
        start = "\r" if self._is_terminal else ""
        end = "\x1b[K" if self._is_terminal else ""
        seconds = time.monotonic() - self._started_s
        say(f"{start}Uploaded {self.files} files ({format_size(self.size_bytes)}) in {seconds:.1f} s{end}")
