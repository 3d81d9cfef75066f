"""What a push changes: brings an earlier commit into the build's shallow clone and compares. Asked by `skip`."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from vclone_core.build.context import Work
from vclone_core.build.gitaccess import git_access
from vclone_core.rules.clones import parse_changes, plan_changes, plan_fetch, plan_git_env

FETCH_S: Final = 120.0
GIT_S: Final = 60.0
# As many commits as an ignore command can look back, which is Vercel's depth.
DEPTH: Final = 10


async def list_changes(work: Work, since: str) -> tuple[str, ...] | None:
    """Return the paths that differ between the commit `since` and the one that is built; None where that is unknown."""
    if since != work.source.sha and not await _fetch(work, since, depth=1):
        return None
    env = plan_git_env(is_insecure_allowed=False)
    status, said = await work.read(plan_changes(since), cwd=work.folder, env=env, timeout_s=GIT_S)
    return parse_changes(said) if status.is_ok else None


async def deepen(work: Work, since: str | None) -> None:
    """Bring the commits that an ignore command may compare with: the last few, and `since`. Best effort."""
    if work.source.sha:
        await _fetch(work, work.source.sha, depth=DEPTH)
    if since and since != work.source.sha:
        await _fetch(work, since, depth=1)


async def _fetch(work: Work, sha: str, *, depth: int) -> bool:
    # Only by its name: the commit may be of another branch.
    command = plan_fetch(replace(work.source, sha=sha), depth=depth)[0]
    async with git_access(work) as env:
        status, _ = await work.read(command, cwd=work.folder, env=env, timeout_s=FETCH_S)
    return status.is_ok
