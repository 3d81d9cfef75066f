"""Webhooks of a team: made with a secret that is shown once, listed, changed, tried out, and their deliveries."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from vclone_core.actions.keys import ring_of, webhook_identity
from vclone_core.actions.newids import new_id
from vclone_core.actions.platform import Platform
from vclone_core.actions.projects import find_project
from vclone_core.errors import FieldProblem, InvalidFields, Limited, NotFound, WebhookOff
from vclone_core.models import Actor, Send, Webhook
from vclone_core.rules.access import require
from vclone_core.rules.outgoing import EVENTS, PING, check_url, unknown_events
from vclone_core.rules.sealing import NONCE_BYTES, seal
from vclone_core.rules.tokens import SPACE, build_token

WEBHOOKS_LIMIT: Final = 25


async def create_webhook(
    platform: Platform, actor: Actor, *, url: str, events: Sequence[str], project: str | None = None
) -> tuple[Webhook, str]:
    """Return a new webhook and the secret its deliveries are signed with, which is shown this once.

    `project` (a name or an id): only that project's events. Raises `InvalidFields`, `NotFound` and `Limited`.
    """
    require(actor, "change webhooks")
    check_fields(url=url, events=events)
    project_id = None if project is None else (await find_project(platform, actor, project)).id
    counted = await platform.db.fetch_one("count_webhooks", actor.team_id)
    if counted is not None and counted["count"] >= WEBHOOKS_LIMIT:
        raise Limited(what=f"a team has at most {WEBHOOKS_LIMIT} webhooks")
    webhook_id, secret = new_id("webhook"), build_token("webhook", random=secrets.randbelow(SPACE))
    sealed = seal(
        ring_of(platform.settings), secret, identity=webhook_identity(webhook_id), nonce=os.urandom(NONCE_BYTES)
    )
    row = await platform.db.fetch_one(
        "insert_webhook",
        webhook_id,
        actor.team_id,
        project_id,
        url,
        list(dict.fromkeys(events)),
        sealed.encode(),
        actor.user_id or None,
    )
    assert row is not None
    return webhook_from(row), secret


def check_fields(*, url: str, events: Sequence[str]) -> None:
    """Raise `InvalidFields` with all that is wrong."""
    problems = []
    if problem := check_url(url):
        problems.append(FieldProblem("url", problem))
    if not events:
        problems.append(FieldProblem("events", "must name an event"))
    if unknown := unknown_events(events):
        problems.append(FieldProblem("events", f"{', '.join(unknown[:5])}: there are {', '.join(EVENTS)}"))
    if problems:
        raise InvalidFields(tuple(problems))


async def list_webhooks(platform: Platform, actor: Actor) -> list[Webhook]:
    """Return the team's webhooks, the oldest first."""
    require(actor, "see webhooks")
    return [webhook_from(row) for row in await platform.db.fetch("list_webhooks", actor.team_id)]


async def find_webhook(platform: Platform, actor: Actor, webhook_id: str) -> Webhook:
    """Return one webhook of the team's; raise `NotFound`."""
    require(actor, "see webhooks")
    row = await platform.db.fetch_one("fetch_webhook", actor.team_id, webhook_id)
    if row is None:
        raise NotFound(what="webhook")
    return webhook_from(row)


async def change_webhook(
    platform: Platform,
    actor: Actor,
    webhook_id: str,
    *,
    url: str | None = None,
    events: Sequence[str] | None = None,
    is_enabled: bool | None = None,
) -> Webhook:
    """Change what is given; what is None stays. Switched on again, a webhook is sent what happens from then on."""
    require(actor, "change webhooks")
    old = await find_webhook(platform, actor, webhook_id)
    url, events = old.url if url is None else url, old.events if events is None else events
    check_fields(url=url, events=events)
    is_on = old.disabled_at is None if is_enabled is None else is_enabled
    async with platform.db.transaction() as tx:
        row = await tx.fetch_one("update_webhook", actor.team_id, webhook_id, url, list(dict.fromkeys(events)), is_on)
        if row is None:
            raise NotFound(what="webhook")
        if not is_on:
            await tx.execute("drop_sends", webhook_id)
    return webhook_from(row)


async def delete_webhook(platform: Platform, actor: Actor, webhook_id: str) -> None:
    """Take a webhook away, with the log of its deliveries."""
    require(actor, "change webhooks")
    if not await platform.db.execute("delete_webhook", actor.team_id, webhook_id):
        raise NotFound(what="webhook")


async def send_ping(platform: Platform, actor: Actor, webhook_id: str) -> Send:
    """Send a webhook an event that means nothing, to see whether it arrives. Raises `WebhookOff`."""
    require(actor, "change webhooks")
    hook = await find_webhook(platform, actor, webhook_id)
    if hook.disabled_at is not None:
        raise WebhookOff()
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = {"id": 0, "type": PING, "at": at, "data": {"webhook_id": hook.id}}
    row = await platform.db.fetch_one("insert_send", actor.team_id, hook.id, PING, body)
    if row is None:
        raise NotFound(what="webhook")
    return send_from(row)


async def list_sends(
    platform: Platform, actor: Actor, webhook_id: str, *, limit: int, before: int | None = None
) -> list[Send]:
    """Return a webhook's deliveries, newest first; `before` is the last one of the page before."""
    hook = await find_webhook(platform, actor, webhook_id)
    rows = await platform.db.fetch("list_sends", actor.team_id, hook.id, before, limit)
    return [send_from(row) for row in rows]


async def redeliver(platform: Platform, actor: Actor, webhook_id: str, send_id: str) -> Send:
    """Send the same event again, as a delivery of its own. Raises `WebhookOff` and `NotFound`."""
    require(actor, "change webhooks")
    hook = await find_webhook(platform, actor, webhook_id)
    if hook.disabled_at is not None:
        raise WebhookOff()
    is_number = send_id.isascii() and send_id.isdigit() and len(send_id) < 19
    row = await platform.db.fetch_one("repeat_send", actor.team_id, hook.id, int(send_id)) if is_number else None
    if row is None:
        raise NotFound(what="delivery")
    return send_from(row)


def webhook_from(row: Mapping[str, Any]) -> Webhook:
    return Webhook(**{name: row[name] for name in Webhook.__slots__ if name != "events"}, events=tuple(row["events"]))


def send_from(row: Mapping[str, Any]) -> Send:
    return Send(**{name: row[name] for name in Send.__slots__ if name != "tries"}, tries=tuple(row["tries"]))
