"""What a test needs of the machine: CI installs it all, a user's machine may lack some."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacks(why: str) -> NoReturn:
    """Skip the test for what the machine lacks; fail it with VCLONE_REQUIRE=1, where everything has to be there."""
    if os.environ.get("VCLONE_REQUIRE") == "1":
        pytest.fail(why)
    pytest.skip(why)
