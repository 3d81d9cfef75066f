"""What happened in a team, as the database itself has written it down beside each change (0008_api.sql)."""

from __future__ import annotations

from typing import Final

from vclone_core.actions.platform import Platform
from vclone_core.models import Actor, TeamEvent
from vclone_core.rules.access import require

KEPT_S: Final = 7 * 86_400.0
SENDS_KEPT_S: Final = 30 * 86_400.0
PAGE: Final = 200


async def list_events(platform: Platform, actor: Actor, *, limit: int, before: int | None = None) -> list[TeamEvent]:
    """Return events of the actor's team, newest first; `before` is the number of the last one of the page before."""
    require(actor, "see events")
    rows = await platform.db.fetch("list_events", actor.team_id, _projects(actor), before, limit)
    return [TeamEvent(**row) for row in rows]


async def read_events(platform: Platform, actor: Actor, *, after: int) -> list[TeamEvent]:
    """Return the next events behind number `after`, oldest first; none can appear before a returned one later."""
    require(actor, "see events")
    rows = await platform.db.fetch("read_events", actor.team_id, _projects(actor), after, PAGE)
    return [TeamEvent(**row) for row in rows]


async def last_number(platform: Platform, actor: Actor) -> int:
    """Return the number of the team's newest event; 0 before the first."""
    require(actor, "see events")
    row = await platform.db.fetch_one("last_event", actor.team_id)
    return 0 if row is None else int(row["number"])


async def forget_old(platform: Platform) -> None:
    """Remove what is too old: events, deliveries that are done, and answers to repeated requests."""
    await platform.db.execute("delete_old_events", KEPT_S)
    await platform.db.execute("delete_old_sends", SENDS_KEPT_S)
    await platform.db.execute("delete_old_repeats")


def _projects(actor: Actor) -> list[str] | None:
    return None if actor.projects is None else list(actor.projects)
