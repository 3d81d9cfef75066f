"""Deploy hooks: a secret URL for each, which deploys one branch of a project for whoever calls it."""

from __future__ import annotations

import math
import secrets
from typing import Final

from vclone_core.actions.deployments import request_deployment
from vclone_core.actions.newids import new_id
from vclone_core.actions.platform import Platform
from vclone_core.errors import Conflict, FieldProblem, InvalidFields, Limited, NotFound, TooManyRequests
from vclone_core.models import Actor, DeployHook, Deployment, Project, Source, Trigger
from vclone_core.rules.access import require
from vclone_core.rules.clones import check_git_ref
from vclone_core.rules.tokens import SPACE, build_token, hash_token, is_token
from vclone_core.stores import records

HOOKS_LIMIT: Final = 25
# A burst of edits in a CMS is a burst of calls; the older builds of the branch are called off anyway.
CALLS_LIMIT: Final = 10
WINDOW_S: Final = 60.0


async def create_hook(
    platform: Platform, actor: Actor, project: Project, *, name: str, branch: str | None = None
) -> tuple[DeployHook, str]:
    """Return a new hook of a git project, and the secret of its URL, which is shown this once and stored as a hash."""
    require(actor, "change a project")
    if project.git_url is None:
        raise Conflict(what="the project has no git repository to deploy", hint="Set the project's git_url first.")
    branch = branch or project.settings.production_branch
    if problem := check_git_ref(branch):
        raise InvalidFields((FieldProblem("branch", problem),))
    counted = await platform.db.fetch_one("count_hooks", project.id)
    if counted is not None and counted["hooks"] >= HOOKS_LIMIT:
        raise Limited(what=f"a project has at most {HOOKS_LIMIT} deploy hooks")
    token = build_token("hook", random=secrets.randbelow(SPACE))
    row = await platform.db.fetch_one(
        "insert_hook", new_id("hook"), project.id, name, branch, hash_token(token), actor.user_id or None
    )
    assert row is not None
    return records.hook_from(row), token


async def list_hooks(platform: Platform, actor: Actor, project: Project) -> list[DeployHook]:
    """Return a project's hooks, the oldest first."""
    require(actor, "see a project")
    return [records.hook_from(row) for row in await platform.db.fetch("list_hooks", project.id)]


async def delete_hook(platform: Platform, actor: Actor, project: Project, hook_id: str) -> None:
    """Take a hook away: its URL answers 404 from now on."""
    require(actor, "change a project")
    if not await platform.db.execute("delete_hook", hook_id, project.id):
        raise NotFound(what="deploy hook")


async def call_hook(platform: Platform, token: str) -> tuple[Deployment, Project]:
    """Deploy the tip of a hook's branch, in place of those of it that wait or are being built.

    Raises `NotFound`, the same for whatever is no hook, and `TooManyRequests` for more than `CALLS_LIMIT` in a minute.
    """
    if not is_token("hook", token):
        raise NotFound(what="deploy hook")
    row = await platform.db.fetch_one("use_hook", hash_token(token), WINDOW_S)
    if row is None:
        raise NotFound(what="deploy hook")
    if row["window_calls"] > CALLS_LIMIT:
        raise TooManyRequests(retry_after_s=max(1, math.ceil(row["window_left_s"])))
    project = await records.fetch_project_by_id(platform.db, row["project_id"])
    if project is None or project.git_url is None:
        raise NotFound(what="deploy hook")
    # Whoever knows the URL may do this one thing, whatever has become of the one who made it.
    caller = Actor(user_id=row["created_by"] or "", team_id=row["team_id"], role="developer")
    source = Source("git", url=project.git_url, ref=row["branch"])
    deployment = await request_deployment(platform, caller, project, source, trigger=Trigger.HOOK)
    return deployment, project
