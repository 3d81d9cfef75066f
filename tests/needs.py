"""What a test needs of the machine: CI installs it all, a user's machine may lack some."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def lacks(why: str) -> NoReturn:
    """Skip the test for what the machine lacks; fail it with VCLONE_REQUIRE=1, where everything has to be there."""
    if os.environ.get("VCLONE_REQUIRE") == "1":
        pytest.fail(why)
    pytest.skip(why)


def need_program(*names: str, package: str) -> str:
    """Return where the first of these programs lies; `package` is Debian's that brings one."""
    found = next(filter(None, map(shutil.which, names)), None)
    return found or lacks(f"{names[0]} is not installed (Debian: {package})")


def need_chromium() -> str:
    """Return where Chromium lies, or Chrome."""
    return need_program("chromium", "google-chrome", package="chromium")
