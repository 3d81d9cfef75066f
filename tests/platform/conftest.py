"""How platform tests run programs: on free ports, in closed folders, as another user where the suite runs as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vclone_core.embedded.rundirs import make_run_dir, remove_run_dir

NOBODY = 65534


@pytest.fixture
def run_dir() -> Iterator[Path]:
    path = make_run_dir(os.environ)
    yield path
    remove_run_dir(path)


@pytest.fixture
def closed_dir() -> Iterator[Path]:
    """A folder with a name of 100 characters below one that only its owner can pass."""
    with tempfile.TemporaryDirectory() as parent:
        path = Path(parent) / ("d" * 100)
        path.mkdir(mode=0o700)
        yield path


@pytest.fixture
def ordinary_user() -> list[str]:
    """The words that start a command as an ordinary user; skips where this suite can't."""
    if os.geteuid() != 0:
        return []
    if (setpriv := shutil.which("setpriv")) is None:
        pytest.skip("setpriv is not installed")
    words = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    program = "import sys, vclone_core; print(sys.base_prefix)"
    answer = subprocess.run([*words, sys.executable, "-c", program], capture_output=True, text=True, cwd="/")
    if answer.stdout.strip() != sys.base_prefix:
        pytest.skip(f"{sys.executable} can't be run by another user")
    return words
