"""Deploy hooks: making, listing and removing them, and the one address that needs no more than the secret in it."""

from __future__ import annotations

from vclone_core.actions import hooks, projects

from ..bodies import NewHook
from ..guard import Call
from ..paging import slice_page
from .shapes import CalledHook, HookList, NewHookShape, shape_hook

CALLED_PATH = "/api/hooks/"


async def list_hooks(call: Call, project: str) -> HookList:
    """The deploy hooks of a project, without their secrets."""
    found = await projects.find_project(call.platform, call.actor, project)
    listed = await hooks.list_hooks(call.platform, call.actor, found)
    page, cursor = slice_page(call, listed, key=lambda hook: hook.id)
    return {"items": [shape_hook(hook) for hook in page], "next_cursor": cursor}


async def create_hook(call: Call, project: str) -> NewHookShape:
    """Make a deploy hook; answers its URL, this once."""
    body: NewHook = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    hook, token = await hooks.create_hook(call.platform, call.actor, found, name=body.name, branch=body.branch)
    return {**shape_hook(hook), "url": f"{call.platform.settings.api_url.rstrip('/')}{CALLED_PATH}{token}"}


async def delete_hook(call: Call, project: str, hook: str) -> None:
    """Take a deploy hook away: its URL answers 404 from now on."""
    found = await projects.find_project(call.platform, call.actor, project)
    await hooks.delete_hook(call.platform, call.actor, found, hook)


async def call_hook(call: Call, token: str) -> CalledHook:
    """Deploy the branch of the hook whose secret this is; whatever the request holds is left unread."""
    deployment, project = await hooks.call_hook(call.platform, token)
    call.change.team_id, call.change.subject = project.team_id, deployment.id
    return {"id": deployment.id, "project": project.name, "state": deployment.state.value}
