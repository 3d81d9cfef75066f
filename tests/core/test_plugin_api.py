"""The root of vclone_core: every public name is there, and naming an error loads no plugin machinery."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vclone_core


@pytest.mark.parametrize("name", vclone_core.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(vclone_core, name) is not None


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'settings_'"):
        _ = vclone_core.settings_


def test_the_errors_alone_load_neither_plugins_nor_logging() -> None:
    program = (
        "import sys, vclone_core.errors; print([m for m in ('pluggy', 'structlog', 'asyncio') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
