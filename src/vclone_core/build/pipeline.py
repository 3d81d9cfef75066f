"""One deploy, step by step:

webhook -> deployment -> queue -> clone -> detect -> install -> build -> collect -> optimise -> upload -> publish

This module runs the steps from *clone* to *upload*, each its own file under `steps/`. The worker that claimed the build
calls it, and publishes the manifest it returns.
"""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

from vclone_core.build.context import Build, Work
from vclone_core.build.steps.build import build_output
from vclone_core.build.steps.clone import clone_source
from vclone_core.build.steps.collect import collect_output
from vclone_core.build.steps.detect import detect_framework
from vclone_core.build.steps.install import install_packages
from vclone_core.build.steps.optimise import optimise_files
from vclone_core.build.steps.upload import upload_files
from vclone_core.errors import DiskFull, VcloneError
from vclone_core.models import Manifest, Step
from vclone_core.rules.masking import list_secrets
from vclone_core.rules.output import format_size

STEPS: Final[tuple[tuple[Step, Callable[[Work], Awaitable[None]]], ...]] = (
    (Step.CLONE, clone_source),
    (Step.DETECT, detect_framework),
    (Step.INSTALL, install_packages),
    (Step.BUILD, build_output),
    (Step.COLLECT, collect_output),
    (Step.OPTIMISE, optimise_files),
    (Step.UPLOAD, upload_files),
)

__all__ = ["STEPS", "Build", "run_build"]


async def run_build(build: Build) -> Manifest:
    """Make a deployment of a source: run the steps in their order, and return its manifest, whose blobs are all stored.

    Raises a `StepFailed` for what the project's owner can mend, `StaleAttempt` when another worker has the build,
    `DiskFull` when the workspace has no room.
    However it ends, no process of it is left, and what was said is in the log, without the secrets of project and
    platform.
    """
    source = build.workspace / "source"
    async with AsyncExitStack() as stack:
        work = Work(build, time.monotonic(), stack, build.claim.deployment.source, source, source)
        stack.push_async_callback(build.log.close)
        await build.log.hide(list_secrets(environment=build.environment, settings=build.settings.list_secrets()))
        try:
            if build.environment:
                await build.log.line(f"Variables of the project: {', '.join(build.environment)}")
            for step, run_step in STEPS:
                async with build.log.step(step):
                    await run_step(work)
                    if step is Step.UPLOAD and work.caches is not None:
                        await work.caches.store()
        except VcloneError as error:
            build.log.mask_error(error)
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                free = format_size(shutil.disk_usage(build.workspace).free)
                raise DiskFull(free=free, path=build.workspace.parent, needed="more") from error
            raise
        await build.log.reach(Step.PUBLISH)
    assert work.manifest is not None
    return work.manifest
