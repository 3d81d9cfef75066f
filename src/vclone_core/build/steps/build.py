"""*build*, the fourth step: the project's build command."""

from __future__ import annotations

from vclone_core.build.context import Work
from vclone_core.build.steps.commands import run_command
from vclone_core.errors import BuildFailed


async def build_output(work: Work) -> None:
    """Run the build command, if the plan has one; raise `BuildFailed`, `OutOfMemory` or `BuildTimeout`."""
    if work.plan is not None and work.plan.build_command is not None:
        network = work.build.project_settings.build_network != "none"
        await run_command(work, work.plan.build_command, failed=BuildFailed, network=network)
    if work.caches is not None:
        work.caches.start_packing()
