"""The first arrow of a deploy: a webhook's request is judged, kept, and answered; what it asks for is done behind that.

receive: receivers (by the address) -> signature over the raw body -> one row for each project -> answer
handle:  a connection's oldest row -> what it asks for (`pushes`, `pullrequests`) -> the row says what came of it

PostgreSQL has the row before the host has the answer, so a restart loses nothing; a deployment is committed together
with the row's end, so none is made twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from vclone_core.actions import pullrequests, pushes
from vclone_core.actions.gitconnections import connection_from, unseal_secret
from vclone_core.actions.gitreports import HostDesk
from vclone_core.actions.platform import Platform
from vclone_core.actions.pushes import Handled, Job
from vclone_core.errors import BadSignature, Invalid, NotFound, StaleAttempt, Unavailable, VcloneError
from vclone_core.log import get_log
from vclone_core.models import (
    BranchDeleted,
    Delivery,
    GitConnection,
    GitEvent,
    Ignored,
    Ping,
    PullRequestChanged,
    Push,
)
from vclone_core.protocols import GitHost
from vclone_core.rules.githosts import Outcome, decide_rest, is_of_repository, is_whole
from vclone_core.stores import records
from vclone_core.stores.postgres import Queries, Record

log = get_log(__name__)

BODY_LIMIT_BYTES: Final = 25 * 1024**2  # GitHub's own limit: it sends nothing larger
# Larger bodies are read beside the event loop.
LARGE_BYTES: Final = 256 * 1024
# Hosts send a delivery again for three days at most. What is older was captured, and outlives what is known of it here.
OLDEST_S: Final = 7 * 86_400
HANDLE_S: Final = 30.0
LEASE_S: Final = 60.0

KINDS: Final[Mapping[str, type[Any]]] = {
    "push": Push,
    "branch_deleted": BranchDeleted,
    "pull_request": PullRequestChanged,
    "ping": Ping,
    "ignored": Ignored,
}
_NAMES: Final = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True, repr=False)
class Receiver:
    """Whom a request may be for, told by address and header fields alone: a connection, or an App's projects."""

    host: GitHost
    secret: str
    connection: GitConnection | None = None
    git_app_id: str | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a delivery: how many projects follow its repository, and for how many of them it is new."""

    delivery_id: str
    projects: int
    new: int


async def find_receivers(
    platform: Platform, host_name: str, headers: Sequence[tuple[str, str]], connection_id: str | None
) -> list[Receiver]:
    """Return whose secret a request may be signed with, before anything of its body is read.

    Raises `NotFound` for a host that no plugin knows. For none there is `BadSignature`: as if the secret were wrong.
    """
    host = platform.git_hosts.get(host_name)
    if host is None:
        raise NotFound(what="git host")
    if connection_id is not None:
        row = await platform.db.fetch_one("fetch_webhook_connection", connection_id, host_name)
        if row is None:
            raise BadSignature()
        secret = unseal_secret(platform, row["secret_id"], row["value"])
        return [Receiver(host, secret, connection=connection_from(row))]
    app_id = host.apps.app_of(headers) if host.apps is not None else ""
    rows = await platform.db.fetch("list_git_apps_of_host", host_name, app_id) if app_id else []
    if not rows:
        raise BadSignature()
    return [
        Receiver(host, unseal_secret(platform, one["secret_id"], one["value"]), git_app_id=one["id"]) for one in rows
    ]


async def receive(
    platform: Platform, receivers: Sequence[Receiver], headers: Sequence[tuple[str, str]], body: bytes
) -> Received:
    """Keep a delivery for each project that it is for, and return once it is kept.

    Raises `BadSignature` before anything of the body is understood, `Invalid` where it can't be.
    """
    receiver, read = await _read(receivers, headers, body)
    happened_at_s = read[0].happened_at_s
    if happened_at_s is not None and happened_at_s < time.time() - OLDEST_S:
        raise Invalid(what="it tells of something that is more than seven days old")
    repository = read[0].event.repository
    if receiver.connection is not None:
        connections = [receiver.connection]
    else:
        rows = await platform.db.fetch("list_app_connections", receiver.git_app_id, repository)
        connections = [connection_from(row) for row in rows]
    digest = hashlib.sha256(body).hexdigest()
    if len(connections) == len(read) == 1:
        # The usual case, in one round trip instead of three.
        new = int(await _insert(platform.db, receiver, connections[0], read[0], digest))
    else:
        async with platform.db.transaction() as tx:
            known = [
                any([await _insert(tx, receiver, connection, delivery, digest) for delivery in read])
                for connection in connections
            ]
        new = sum(known)
    log.info("webhook.received", delivery=read[0].id, name=read[0].name, projects=len(connections), new=new)
    return Received(read[0].id, len(connections), new)


async def _insert(db: Queries, receiver: Receiver, connection: GitConnection, delivery: Delivery, digest: str) -> bool:
    data = {"kind": _NAMES[type(delivery.event)], **asdict(delivery.event)}
    values = (connection.host, delivery.id, delivery.name, connection.project_id, digest, data, data.get("ref"))
    is_same_by_body = receiver.host.has_dated_bodies
    return await db.fetch_one("insert_delivery", connection.id, *values, is_same_by_body) is not None


async def _read(
    receivers: Sequence[Receiver], headers: Sequence[tuple[str, str]], body: bytes
) -> tuple[Receiver, Sequence[Delivery]]:
    for receiver in receivers:
        read = receiver.host.read_deliveries
        try:
            if len(body) > LARGE_BYTES:
                return receiver, await asyncio.to_thread(read, headers, body, receiver.secret)
            return receiver, read(headers, body, receiver.secret)
        except BadSignature as error:
            refused = error
    raise refused


async def handle_next(desk: HostDesk) -> bool:
    """Do what the oldest waiting delivery of some connection asks for; False where none waits.

    A failure of the platform is tried again with growing rests, and keeps later deliveries of the same connection
    waiting: their order is the order of the commits. A failure that stays is the delivery's outcome.
    """
    platform = desk.platform
    row = await platform.db.fetch_one("claim_delivery", LEASE_S)
    if row is None:
        return False
    key = (row["number"], row["attempt"])
    try:
        async with asyncio.timeout(HANDLE_S):
            handled = await _handle(desk, row)
    except StaleAttempt:
        return True
    except Exception as error:
        why = error.sentence if isinstance(error, VcloneError) else f"{type(error).__name__} while it was handled"
        is_ours = not isinstance(error, VcloneError) or isinstance(error, Unavailable)
        if not isinstance(error, VcloneError | TimeoutError):
            log.exception("delivery.crashed", delivery=row["delivery_id"])
        rest_s = decide_rest(row["attempt"]) if is_ours else None
        log.warning("delivery.missed", delivery=row["delivery_id"], why=why, rest_s=rest_s)
        if rest_s is not None:
            await platform.db.execute("postpone_delivery", *key, rest_s, why)
        else:
            await platform.db.fetch_one("finish_delivery", *key, "failed", Outcome.FAILED.value, why, None)
        return True
    if not handled.is_written:
        values = ("done", handled.outcome.value, handled.detail, handled.deployment_id)
        await platform.db.fetch_one("finish_delivery", *key, *values)
    log.info("delivery.handled", delivery=row["delivery_id"], outcome=handled.outcome.value, detail=handled.detail)
    return True


async def _handle(desk: HostDesk, row: Record) -> Handled:
    platform = desk.platform
    event = event_from(row["data"])
    if isinstance(event, Ping):
        return Handled(Outcome.NOTED, "the webhook works")
    if event.repository.lower() != row["repository"].lower():
        return Handled(Outcome.IGNORED, f"it is of {event.repository}, and this project follows {row['repository']}")
    if isinstance(event, Ignored):
        return Handled(Outcome.IGNORED, event.reason)
    project = await records.fetch_project_by_id(platform.db, row["of_project"])
    if project is None:
        return Handled(Outcome.IGNORED, "the project is gone")
    if not is_of_repository(project.git_url, row["repository"]):
        return Handled(Outcome.IGNORED, "the project's git_url is of another repository by now: connect it again")
    job = Job(platform, project, row["connection_id"], row["number"], row["attempt"])
    match event:
        case Push():
            return await pushes.handle_push(job, event)
        case BranchDeleted():
            return await pushes.handle_deletion(job, event)
        case PullRequestChanged():
            return await pullrequests.handle_change(job, await _complete(desk, row, event))


async def _complete(desk: HostDesk, row: Record, event: PullRequestChanged) -> PullRequestChanged:
    if is_whole(event.head_sha):
        return event
    host = desk.platform.git_hosts[row["host"]]
    found = await desk.platform.db.fetch_one("fetch_git_connection", row["of_project"])
    if found is None:
        raise NotFound(what="git connection")
    return await host.complete(await desk.open(host, connection_from(found)), event)


def event_from(data: Mapping[str, Any]) -> GitEvent:
    """Return the event that a delivery's row holds."""
    made: GitEvent = KINDS[data["kind"]](**{name: value for name, value in data.items() if name != "kind"})
    return made


async def forget_old(platform: Platform) -> None:
    """Forget deliveries that no host sends again."""
    await platform.db.execute("delete_old_deliveries")
