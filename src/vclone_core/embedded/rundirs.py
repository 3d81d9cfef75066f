"""The short, private folder for this run's sockets: a socket's path may have 107 bytes, a data folder's more."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SOCKET_PATH_BYTES: Final = 107
# `/pg/.s.PGSQL.5432`, the longest path made below a run folder, and the folder's own name.
_LONGEST_BELOW: Final = 40


def make_run_dir(environ: Mapping[str, str]) -> Path:
    """Make and return a new folder below XDG_RUNTIME_DIR or /tmp.

    Root's can be passed through (not listed) by the lesser user that the databases run as; each of them keeps its
    socket in a folder of its own below.
    """
    is_root = os.geteuid() == 0
    preferred = environ.get("XDG_RUNTIME_DIR", "")
    is_short = len(os.fsencode(preferred)) + _LONGEST_BELOW <= SOCKET_PATH_BYTES
    # Root's own runtime folder is closed to the lesser user.
    is_usable = preferred and is_short and not is_root and os.access(preferred, os.W_OK | os.X_OK)
    base = Path(preferred) if is_usable else Path("/tmp")  # noqa: S108 - mkdtemp makes a new, private folder
    run_dir = Path(tempfile.mkdtemp(prefix="vclone-", dir=base))
    if is_root:
        run_dir.chmod(0o711)
    return run_dir


def remove_run_dir(run_dir: Path) -> None:
    """Remove a run folder and the sockets in it; no error when it is gone."""
    shutil.rmtree(run_dir, ignore_errors=True)
