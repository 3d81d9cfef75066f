"""Tells followers, edges and plugins of what was committed. Called after the commit, and nothing here can fail it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vclone_core.actions.gitnotes import note_change
from vclone_core.actions.platform import Platform
from vclone_core.errors import Unavailable
from vclone_core.log import get_log
from vclone_core.models import Alias, Deployment, Project
from vclone_core.stores import events, records
from vclone_core.stores.redis import deployment_channel

log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class Moved:
    """One alias that points somewhere else now; `previous_deployment_id` None: the host is new."""

    alias: Alias
    previous_deployment_id: str | None


async def announce_change(platform: Platform, deployment: Deployment, project: Project | None = None) -> None:
    """Tell that a deployment came into a new state."""
    await platform.redis.publish(deployment_channel(deployment.id), deployment.state.value)
    await note_change(platform, deployment)
    if project is None:
        try:
            project = await records.fetch_project_by_id(platform.db, deployment.project_id)
        except Unavailable as error:
            log.warning("change.untold", deployment=deployment.id, why=error.sentence)
    if project is not None:
        platform.announce("deployment_changed", project=project, deployment=deployment)


async def announce_moves(platform: Platform, project: Project, moves: Sequence[Moved]) -> None:
    """Tell the edges, then the plugins, that aliases moved."""
    if not moves:
        return
    await events.announce_moves(platform.redis, moves[-1].alias.version)
    for move in moves:
        platform.announce(
            "alias_moved", project=project, alias=move.alias, previous_deployment_id=move.previous_deployment_id
        )
