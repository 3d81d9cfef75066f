"""Tells the audit log of a request that changed something, once its view is through."""

from __future__ import annotations

from collections.abc import Mapping

from quart import g

from vclone_core.actions import audit
from vclone_core.actions.audit import Change
from vclone_core.actions.platform import Platform

from .auth import Caller


async def note_change(
    platform: Platform,
    change: Change,
    caller: Caller,
    *,
    action: str,
    path: Mapping[str, str],
    result: object,
    address: str,
) -> None:
    """Write a change down. A request whose change can't be written down is answered with that failure."""
    actor = caller.actor
    team_id = change.team_id or (actor.team_id if actor else None)
    if team_id is None:
        return
    made = result.get("id") if isinstance(result, Mapping) else None
    subject = change.subject or "/".join(text for name, text in path.items() if name != "team") or str(made or "")
    entry = caller.entry
    via = {} if entry is None else {"via": entry.kind, "via_id": entry.id}
    await audit.note(
        platform,
        team_id=team_id,
        actor_id=change.actor_id or (actor.user_id if actor else None),
        action=action,
        subject=subject,
        facts={**via, **change.facts},
        request_id=g.request_id,
        address=address,
    )
