"""The `process` build runner: ordinary processes, watched and ended whole, not isolated."""

from __future__ import annotations

from collections.abc import Mapping

from vclone_core import BuildRunnerFactory, hookimpl
from vclone_runner_process.runner import ProcessRunner


@hookimpl
def register_build_runners() -> Mapping[str, BuildRunnerFactory]:
    return {"process": ProcessRunner}
