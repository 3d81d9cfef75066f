"""The audit log: one entry for each change that was let in, chained by hash within its team. It can only grow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vclone_core.actions.platform import Platform
from vclone_core.models import Actor, AuditEntry
from vclone_core.rules.access import require
from vclone_core.rules.audit import FIRST, chain_hash, clean, moment

EXPORT_PAGE: Final = 1000


@dataclass(slots=True)
class Change:
    """One change. A view fills in what the request doesn't say: who it was (a sign-in), or what was made.

    `facts` hold what helps later to see what happened, never a secret.
    """

    team_id: str | None = None
    actor_id: str | None = None
    subject: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


async def note(
    platform: Platform,
    *,
    team_id: str,
    actor_id: str | None,
    action: str,
    subject: str,
    facts: Mapping[str, Any],
    request_id: str,
    address: str,
) -> None:
    """Add one entry to a team's log. Entries of one team wait for each other, those of two don't."""
    entry: dict[str, Any] = {
        "team_id": team_id,
        "actor_id": actor_id,
        "action": action,
        "subject": clean(subject),
        "facts": {name: clean(fact) for name, fact in facts.items()},
        "request_id": request_id,
        "address": clean(address),
    }
    async with platform.db.transaction() as tx:
        await tx.fetch_one("lock_audit_chain", team_id)
        end = await tx.fetch_one("fetch_audit_end", team_id)
        assert end is not None
        previous = end["hash"] or FIRST
        await tx.execute(
            "insert_audit_entry",
            end["now"],
            *entry.values(),
            previous,
            chain_hash(previous, {**entry, "at": moment(end["now"])}),
        )


async def list_entries(
    platform: Platform,
    actor: Actor,
    *,
    limit: int,
    before: int | None = None,
    action: str | None = None,
    by: str | None = None,
) -> list[AuditEntry]:
    """Return entries of the actor's team, newest first; `before` is the number of the last one of the page before."""
    require(actor, "see the audit log")
    rows = await platform.db.fetch("list_audit_entries", actor.team_id, before, action, by, limit)
    return [AuditEntry(**row) for row in rows]


async def read_all(platform: Platform, actor: Actor) -> AsyncIterator[AuditEntry]:
    """Yield every entry of the actor's team, oldest first."""
    require(actor, "see the audit log")
    after = 0
    while True:
        rows = await platform.db.fetch("read_audit_entries", actor.team_id, after, EXPORT_PAGE)
        for row in rows:
            yield AuditEntry(**row)
        if len(rows) < EXPORT_PAGE:
            return
        after = rows[-1]["number"]
