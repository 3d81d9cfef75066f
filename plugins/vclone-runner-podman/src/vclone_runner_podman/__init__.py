"""The `podman` build runner: each build in a container of its own, with no network but a proxy that checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vclone_core import BuildRunnerFactory, RunnerConfig, hookimpl


def _make(config: RunnerConfig) -> Any:
    # podman-py and requests are loaded by who uses the runner, not by who lists the plugins.
    from vclone_runner_podman.runner import PodmanRunner

    return PodmanRunner(config)


@hookimpl
def register_commands(cli: Any) -> None:
    from vclone_runner_podman.commands import runner

    cli.add_command(runner)


@hookimpl
def register_build_runners() -> Mapping[str, BuildRunnerFactory]:
    return {"podman": _make}
