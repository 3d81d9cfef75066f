"""The first part of *detect*: a push that needs no build is skipped before anything is installed.

commit message -> branches of vercel.json -> changed paths (watch paths, or packages of a workspace) -> ignore command
"""

from __future__ import annotations

import asyncio
from typing import Final

from vclone_core.build.context import Work
from vclone_core.build.steps.changes import deepen, list_changes
from vclone_core.build.steps.commands import plan_environment
from vclone_core.errors import Skipped
from vclone_core.models import ProjectSettings, Trigger
from vclone_core.rules.commands import PREVIOUS_SHA, plan_user_command
from vclone_core.rules.skips import decide_unaffected, decide_watched, find_marker
from vclone_core.rules.vercel_config import is_branch_deployed
from vclone_core.stores.workspaces import read_packages

IGNORE_S: Final = 120.0


async def skip_unneeded(work: Work, settings: ProjectSettings) -> None:
    """Raise `Skipped` where a push needs no build. What was asked for otherwise is always built.

    Where it can't be known what a push changes, it is built.
    """
    deployment = work.build.claim.deployment
    if deployment.trigger is not Trigger.PUSH or work.source.kind != "git":
        return
    if reason := find_marker(work.source.message):
        raise Skipped(reason=reason)
    if not is_branch_deployed(work.vercel, work.source.ref):
        raise Skipped(reason=f"vercel.json turns deployments of {work.source.ref} off")
    asks_paths = settings.watch_paths or (settings.skip_unaffected and work.workspace)
    if not asks_paths and not settings.ignore_command:
        return
    previous = await work.build.previous_sha()
    if asks_paths and previous and (reason := await _compare(work, settings, previous)):
        raise Skipped(reason=reason)
    if settings.ignore_command and (reason := await _ask_command(work, settings.ignore_command, previous)):
        raise Skipped(reason=reason)


async def _compare(work: Work, settings: ProjectSettings, previous: str) -> str | None:
    changed = await list_changes(work, previous)
    if changed is None:
        await work.build.log.line(f"What changed since {previous[:12]} can't be told: it is built")
        return None
    await work.build.log.line(f"{len(changed):,} files changed since {previous[:12]}")
    if settings.watch_paths:
        return decide_watched(settings.watch_paths, changed)
    if work.workspace is None:
        return None
    root = work.root.relative_to(work.folder).as_posix()
    return decide_unaffected(changed, root, await asyncio.to_thread(read_packages, work.folder, work.workspace))


async def _ask_command(work: Work, command: str, previous: str | None) -> str | None:
    """Return why the project's ignore command skips this push; None: it ended with another code than 0."""
    log = work.build.log
    await deepen(work, previous)
    await log.line(f"$ {command}")
    depth = len(work.root.relative_to(work.folder).parts)
    env = {**plan_environment(work), PREVIOUS_SHA: previous or ""}
    status = await work.run(plan_user_command(command, depth=depth), cwd=work.root, env=env, timeout_s=IGNORE_S)
    if status.is_ok:
        return f"the ignore command `{command[:100]}` ended with 0"
    await log.line(f"The ignore command ended with {status.code}: it is built")
    return None
