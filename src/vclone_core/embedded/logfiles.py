"""Log files that children write to by themselves: opened for appending, read from their end, kept small.

The child holds the file, not a pipe: its last words are kept even when this process is killed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import IO, Final

LIMIT_BYTES: Final = 5 * 1024**2


def open_log(path: Path) -> IO[bytes]:
    """Open a log for appending, readable by its owner alone. Every writer appends, so it may be cut at any time."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab", buffering=0)


def read_tail(path: Path, *, lines: int, after: int = 0) -> str:
    """Return the last `lines` of a log, looking at no more than 16 KiB and nothing before byte `after`."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(size - 16_384, after if after <= size else 0)
            file.seek(start)
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def cut_log(path: Path, *, limit_bytes: int = LIMIT_BYTES) -> bool:
    """Move what a log over its limit holds to `<name>.1` and empty it; say whether that was needed.

    Lines written between the copy and the cut are lost.
    """
    try:
        if path.stat().st_size <= limit_bytes:
            return False
    except FileNotFoundError:
        return False
    shutil.copyfile(path, path.with_name(path.name + ".1"))
    os.truncate(path, 0)
    return True
