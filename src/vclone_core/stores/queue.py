"""The build queue. A row of `deployments` is the truth; a worker holds it by a lease, and every write of that hold
carries the attempt's number, so that a worker that lost its hold writes nothing.

    request -> queued --claim--> building --heartbeat …--> leave (ready, failed, cancelled)
                  ^------------------'  reap: the lease ran out
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from vclone_core.errors import (
    AttemptsExhausted,
    Duplicate,
    StaleAttempt,
    VcloneError,
    WrongState,
)
from vclone_core.models import Claim, Deployment, Failure, Fence, QueuePlace, Source, State
from vclone_core.renderings import render_log_line
from vclone_core.rules.lifecycle import FINAL, Event, Loss, decide_loss, decide_state, decide_wait
from vclone_core.stores import buildlogs, records
from vclone_core.stores.postgres import Database, Queries, Record

# A preview that waited this long is as urgent as production: no stream of pushes can starve it.
AGED_S: Final = 120.0
# A queued deployment that nobody was woken for in this long is rung for again.
RERING_S: Final = 30.0
# Two claims of one project can want the same place; each loser looks again. More than a few in a row means that
# others are taking all there is.
CLAIM_TRIES: Final = 8


class Hold(StrEnum):
    """What a heartbeat found out about a claim."""

    HELD = "held"
    LOST = "lost"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Reaped:
    """A build that was taken from a worker that went silent. `workspace` is its `{deployment}-{attempt}`."""

    deployment: Deployment
    loss: Loss
    workspace: str


async def claim(db: Database, worker_id: str, *, lease_s: float, project_slots: int) -> Claim | None:
    """Take the most urgent deployment that may start now, for `lease_s` seconds; None when there is none."""
    for _ in range(CLAIM_TRIES):
        try:
            row = await db.fetch_one(
                "claim_deployment",
                worker_id,
                lease_s,
                project_slots,
                AGED_S,
                decide_state(State.QUEUED, Event.CLAIM).value,
            )
        except Duplicate:
            continue
        if row is None:
            return None
        project = records.project_from(
            {**row, "id": row["project_id"], "created_at": row["project_created_at"]},
        )
        return Claim(
            deployment=records.deployment_from(row),
            project=records.with_overrides(project, row["overrides"]),
            worker_id=worker_id,
            attempt=row["attempt"],
        )
    return None


async def heartbeat(db: Queries, claim: Claim, *, lease_s: float) -> Hold:
    """Renew a claim's lease; say whether it still holds, and whether somebody wants the build to end."""
    row = await db.fetch_one("extend_lease", *claim.fence, lease_s)
    if row is None:
        return Hold.LOST
    return Hold.CANCELLED if row["is_cancel_requested"] else Hold.HELD


async def finish(
    db: Queries, claim: Claim, event: Event, *, failure: Failure | None = None, reason: str | None = None
) -> Deployment | None:
    """End a claim by `event` (fail, cancel, skip with its `reason`, give_back); None when the claim no longer holds.

    A build that somebody wants to end isn't given back: None too, and the caller ends it with `cancel`.
    """
    return await _leave(db, claim.fence, Loss(event), failure=failure, counts=False, reason=reason)


async def retry(db: Queries, claim: Claim, *, max_attempts: int, failure: Failure) -> Deployment | None:
    """End an attempt that failed through the platform: queue it again after a rest, or fail with `failure`.

    None when the claim no longer holds, or when somebody wants the build to end.
    """
    row = await db.fetch_one("fetch_deployment_by_id", claim.deployment.id)
    lost = 1 + (row["lost_attempts"] if row is not None else 0)
    loss = decide_loss(lost_attempts=lost, max_attempts=max_attempts, is_cancel_requested=False)
    return await _leave(db, claim.fence, loss, failure=failure if loss.event is Event.EXHAUST else None, counts=True)


async def reap(db: Database, *, max_attempts: int) -> list[Reaped]:
    """Take every build whose lease ran out from its worker: it is queued again, or failed, or cancelled."""
    found = [await _reap_one(db, row, max_attempts) for row in await db.fetch("list_expired")]
    return [reaped for reaped in found if reaped is not None]


async def _reap_one(db: Database, row: Record, max_attempts: int) -> Reaped | None:
    fence = Fence(row["id"], row["attempt"], row["worker_id"])
    loss = decide_loss(
        lost_attempts=row["lost_attempts"] + 1,
        max_attempts=max_attempts,
        is_cancel_requested=row["cancel_requested_at"] is not None,
    )
    error = AttemptsExhausted(attempts=row["lost_attempts"] + 1)
    is_over = loss.event is Event.EXHAUST
    text = render_log_line(error) if is_over else "The worker of this build went silent; another one takes over."
    try:
        async with db.transaction() as tx:
            line = buildlogs.platform_line(row["step"] or "", text)
            await buildlogs.append(tx, fence, [line], cap_bytes=0)
            deployment = await _leave(
                tx, fence, loss, failure=to_failure(error) if is_over else None, counts=True, only_expired=True
            )
            if deployment is None:
                # It gave a sign of life after all: the line above goes with the transaction.
                raise StaleAttempt
    except StaleAttempt:
        return None
    return Reaped(deployment, loss, workspace_name(fence.deployment_id, fence.attempt))


def to_failure(error: VcloneError, step: str | None = None) -> Failure:
    """Return an error as it is kept with a deployment. Without a step it is the one the build was in."""
    return Failure(error.code, error.sentence, error.advice, step)


async def cancel(db: Database, deployment_id: str) -> Deployment:
    """Cancel a queued deployment at once, or ask the worker of a building one to end it; raise `WrongState` else."""
    cancelled = decide_state(State.QUEUED, Event.CANCEL)
    while True:
        row = await db.fetch_one("cancel_queued", deployment_id, cancelled.value)
        row = row or await db.fetch_one("request_cancel", deployment_id)
        if row is not None:
            return records.deployment_from(row)
        # It is final, or it moved between the two looks (a worker gave it back): then look again.
        current = await db.fetch_one("fetch_deployment_by_id", deployment_id)
        if current is None or State(current["state"]) in FINAL:
            state = "gone" if current is None else current["state"]
            raise WrongState(state=state, needed="queued or building")


async def cancel_superseded(db: Queries, newer: Deployment, *, production_branch: str) -> list[Deployment]:
    """Call off the older deployments of the same branch and target: a queued one is cancelled when this returns.

    A building one is returned as `building`: its worker ends it, within seconds of a wake.
    """
    rows = await db.fetch(
        "cancel_superseded",
        newer.project_id,
        newer.source.ref,
        production_branch,
        newer.target.value,
        newer.sequence,
        f"superseded by {newer.id}",
        decide_state(State.QUEUED, Event.CANCEL).value,
    )
    return [records.deployment_from(row) for row in rows]


async def skip(db: Queries, deployment: Deployment, *, reason: str) -> Deployment:
    """Skip a deployment that was just queued, in the same transaction."""
    row = await db.fetch_one("skip_queued", deployment.id, decide_state(State.QUEUED, Event.SKIP).value, reason)
    assert row is not None
    return records.deployment_from(row)


async def cancel_orphans(db: Queries) -> list[Deployment]:
    """Cancel what is queued for projects that were deleted."""
    rows = await db.fetch("cancel_orphans", decide_state(State.QUEUED, Event.CANCEL).value)
    return [records.deployment_from(row) for row in rows]


async def take_unrung(db: Queries) -> list[tuple[str, str, bool]]:
    """Return what has to be rung for again, as (deployment id, project id, is urgent); it counts as rung now."""
    rows = await db.fetch("list_unrung", RERING_S)
    return [(row["id"], row["project_id"], row["priority"] > 0) for row in rows]


async def fetch_place(db: Queries, deployment_id: str, *, project_slots: int) -> QueuePlace | None:
    """Return where a queued deployment stands and what it waits for; None when it isn't queued.

    The position is an estimate: it takes teams' turns into account, and not which builds will end first.
    """
    row = await db.fetch_one("fetch_queue_place", deployment_id, AGED_S)
    if row is None:
        return None
    reason = decide_wait(rest_s=row["rest_s"], project_builds=row["project_builds"], project_slots=project_slots)
    return QueuePlace(position=row["position"], reason=reason)


async def record_step(
    db: Queries, claim: Claim, *, step: str | None = None, step_seconds: Mapping[str, float] | None = None
) -> bool:
    """Note the step a build has reached and what earlier ones took; False when the claim no longer holds."""
    return await db.execute("record_step", *claim.fence, step, dict(step_seconds or {})) > 0


async def record_findings(
    db: Queries, claim: Claim, *, framework: str | None = None, source: Source | None = None
) -> bool:
    """Note what a build found out: its framework, and the commit that its ref stood for. False: it lost its hold."""
    known = {} if source is None else {name: value for name, value in asdict(source).items() if value is not None}
    return await db.execute("record_findings", *claim.fence, framework, known) > 0


async def list_workspaces(db: Queries) -> frozenset[str]:
    """Return the workspace names of every build that is held now."""
    return frozenset(workspace_name(row["id"], row["attempt"]) for row in await db.fetch("list_building"))


def workspace_name(deployment_id: str, attempt: int) -> str:
    """Return the name of the folder an attempt works in."""
    return f"{deployment_id}-{attempt}"


async def _leave(
    db: Queries,
    fence: Fence,
    loss: Loss,
    *,
    failure: Failure | None,
    counts: bool,
    only_expired: bool = False,
    reason: str | None = None,
) -> Deployment | None:
    state = decide_state(State.BUILDING, loss.event)
    row: Record | None = await db.fetch_one(
        "leave_building",
        *fence,
        state.value,
        state in FINAL,
        records.failure_row(failure),
        loss.rest_s,
        counts,
        loss.event in (Event.RETRY, Event.GIVE_BACK),
        only_expired,
        reason,
    )
    return None if row is None else records.deployment_from(row)
