"""Build runners for tests: the podman one is there where the machine has Podman and the build image."""

from __future__ import annotations

import os

import pytest

from vclone_core.plugins import load_plugins
from vclone_core.protocols import BuildRunner, RunnerConfig

PLUGINS = load_plugins()
_looked: list[str | None] = []  # what `check` said, once


def make_runner(name: str, **options: str) -> BuildRunner:
    """Return a runner with the operator's options."""
    made: BuildRunner = PLUGINS.provider("build_runners", name)(RunnerConfig(options=options))
    return made


async def make_podman(**options: str) -> BuildRunner:
    """Return the podman runner; skip the test, or fail it with VCLONE_REQUIRE=1, where it can't run."""
    if not _looked:
        _looked.append(await make_runner("podman").check())
    if (why := _looked[0]) is not None:
        if os.environ.get("VCLONE_REQUIRE") == "1":
            pytest.fail(why)
        pytest.skip(why)
    return make_runner("podman", **options)
