"""Projects, and the blobs a client brings before it asks for a deployment of them."""

from __future__ import annotations

from typing import Any

from vclone_core.actions import aliases, deployments, projects
from vclone_core.actions.uploads import receive_blobs
from vclone_core.errors import WrongMediaType
from vclone_core.models import ProjectSettings
from vclone_core.rules.blobframes import CONTENT_TYPE

from ..bodies import AliasChange, NewProject, ProjectChange, Rollback, WantedBlobs, read_pieces
from ..guard import Call
from ..paging import cut_page, position_of, slice_page
from .described import describe
from .domain_shapes import AliasSwitch
from .shapes import (
    AliasList,
    MissingBlobs,
    ProjectList,
    ProjectShape,
    StoredBlobs,
    Switch,
    shape_alias,
    shape_project,
    shape_receipts,
)


async def list_projects(call: Call) -> ProjectList:
    """Every project of the team, newest first."""
    found = await projects.list_projects(
        call.platform, call.actor, limit=call.query.limit + 1, before=position_of(call)
    )
    page, cursor = cut_page(call, found, key=lambda project: project.id)
    return {"items": [shape_project(project, call.platform.settings) for project in page], "next_cursor": cursor}


async def create_project(call: Call) -> ProjectShape:
    """Make a project."""
    body: NewProject = call.body
    settings = projects.change_settings(ProjectSettings(), body.settings.model_dump(exclude_unset=True))
    project = await projects.create_project(
        call.platform, call.actor, body.name, git_url=body.git_url, settings=settings
    )
    return shape_project(project, call.platform.settings)


async def show_project(call: Call, project: str) -> ProjectShape:
    """One project, by name or id."""
    found = await projects.find_project(call.platform, call.actor, project)
    return shape_project(found, call.platform.settings)


async def change_project(call: Call, project: str) -> ProjectShape:
    """Change what is given of a project."""
    body: ProjectChange = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    changes: dict[str, Any] = body.settings.model_dump(exclude_unset=True) if body.settings else {}
    changed = await projects.update_project(
        call.platform,
        call.actor,
        found,
        git_url=body.git_url,
        settings=changes,
        is_publishing_paused=body.is_publishing_paused,
    )
    return shape_project(changed, call.platform.settings)


async def delete_project(call: Call, project: str) -> None:
    """Delete a project: its hosts answer nothing from now on."""
    found = await projects.find_project(call.platform, call.actor, project)
    await projects.delete_project(call.platform, call.actor, found)


async def list_missing_blobs(call: Call, project: str) -> MissingBlobs:
    """Which of these blobs the project lacks; the others are kept for a deployment that follows."""
    body: WantedBlobs = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    return {"missing": await projects.missing_blobs(call.platform, call.actor, found, body.sha256)}


async def store_blobs(call: Call, project: str) -> StoredBlobs:
    """Store blobs: any number of frames of SHA-256 (32 bytes), size (8 bytes, big-endian) and content."""
    if call.request.mimetype != CONTENT_TYPE:
        raise WrongMediaType(needed=CONTENT_TYPE)
    found = await projects.find_project(call.platform, call.actor, project)
    return {"stored": await receive_blobs(call.platform, found, read_pieces(call.request))}


async def roll_back(call: Call, project: str) -> Switch:
    """Show an earlier deployment in production and pause publishing; answers what the edges said of it."""
    body: Rollback = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    receipts = await deployments.rollback(call.platform, call.actor, found, body.to)
    host = next(
        alias.deployment_id
        for alias in await deployments.list_aliases(call.platform, call.actor, found)
        if alias.kind == "production"
    )
    shown = await deployments.find_deployment(call.platform, call.actor, host)
    return {"deployment": await describe(call, shown, found), "receipts": shape_receipts(receipts)}


async def list_aliases(call: Call) -> AliasList:
    """Every host of a project and the deployment it shows."""
    found = await projects.find_project(call.platform, call.actor, call.query.project)
    listed = await deployments.list_aliases(call.platform, call.actor, found)
    page, cursor = slice_page(call, listed, key=lambda alias: alias.host)
    return {"items": [shape_alias(alias, call.platform.settings) for alias in page], "next_cursor": cursor}


async def set_alias(call: Call, host: str) -> AliasSwitch:
    """Point a host at a ready deployment: a free one below the base domain, or a proved domain of its project."""
    body: AliasChange = call.body
    alias, receipts = await aliases.set_alias(call.platform, call.actor, host, body.deployment)
    call.change.facts |= {"host": alias.host, "deployment": alias.deployment_id}
    return {"alias": shape_alias(alias, call.platform.settings), "receipts": shape_receipts(receipts)}


async def remove_alias(call: Call, host: str) -> None:
    """Take a host away that was pointed at a deployment by hand: it shows nothing from now on."""
    gone = await aliases.remove_alias(call.platform, call.actor, host)
    call.change.facts |= {"host": gone.host, "deployment": gone.deployment_id}
