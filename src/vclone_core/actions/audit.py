"""The audit log: one entry for each change that was let in, chained by hash within its team. It can only grow.

A request's entry is written when the request is through, since only then all is known. What is known before goes into
the transaction of its first change (`begin`), so that nothing is committed which the log doesn't come to tell of:
`settle_stale` writes the entry of a request whose process was killed in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vclone_core.actions.platform import Platform
from vclone_core.log import get_log
from vclone_core.models import Actor, AuditEntry
from vclone_core.rules.access import require
from vclone_core.rules.audit import FIRST, chain_hash, clean, moment
from vclone_core.stores.postgres import Database, Queries

log = get_log(__name__)

EXPORT_PAGE: Final = 1000
# No request takes longer: uploads, which may, change nothing until they are whole.
STALE_S: Final = 900.0


@dataclass(slots=True)
class Change:
    """One change. A view fills in what the request doesn't say: who it was (a sign-in), or what was made.

    `facts` hold what helps later to see what happened, never a secret.
    """

    team_id: str | None = None
    actor_id: str | None = None
    subject: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Note:
    """What an entry says. `team_id` None: nobody's log tells of it, as of a sign-in that failed."""

    team_id: str | None
    actor_id: str | None
    action: str
    subject: str
    facts: Mapping[str, Any]
    request_id: str
    address: str

    def row(self) -> dict[str, Any]:
        return {
            "team_id": self.team_id,
            "actor_id": self.actor_id,
            "action": self.action,
            "subject": clean(self.subject),
            "facts": {name: clean(fact) for name, fact in self.facts.items()},
            "request_id": self.request_id,
            "address": clean(self.address),
        }


async def begin(tx: Queries, note: Note) -> None:
    """Keep what is known of a change, in the change's own transaction."""
    row = note.row()
    request_id = row.pop("request_id")
    await tx.execute("insert_pending_change", request_id, *row.values())


async def settle(tx: Queries, note: Note) -> None:
    """Add one entry to a team's log, in the place of what `begin` kept.

    Entries of one team wait for each other, those of two don't.
    """
    await tx.execute("delete_pending_change", note.request_id)
    if note.team_id is None:
        return
    entry = note.row()
    await tx.fetch_one("lock_audit_chain", note.team_id)
    end = await tx.fetch_one("fetch_audit_end", note.team_id)
    assert end is not None
    previous = end["hash"] or FIRST
    await tx.execute(
        "insert_audit_entry",
        end["now"],
        *entry.values(),
        previous,
        chain_hash(previous, {**entry, "at": moment(end["now"])}),
    )


async def settle_stale(db: Database, *, after_s: float = STALE_S) -> int:
    """Write the entries of requests whose process ended before it could; return how many."""
    count = 0
    while True:
        async with db.transaction() as tx:
            row = await tx.fetch_one("take_stale_change", after_s)
            if row is None:
                return count
            await settle(tx, Note(**{**row, "facts": {**row["facts"], "outcome": "unfinished"}}))
            log.warning("audit.unfinished", action=row["action"], request=row["request_id"], team=row["team_id"])
        count += 1


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
