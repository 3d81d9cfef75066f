"""A team's webhooks and their deliveries, and the stream of what happens in the team."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from quart import Response

from vclone_core.actions import telling, webhooks
from vclone_core.errors import NotFound, Unauthorised, Unavailable

from ..auth import find_caller
from ..guard import Call
from ..paging import cut_page, position_of, slice_page
from ..sse import Events, encode_event, last_event_id, stream_events
from ..telling_bodies import NewWebhook, WebhookChange
from .telling_shapes import (
    DeliveryList,
    DeliveryShape,
    EventList,
    NewWebhookShape,
    WebhookList,
    WebhookShape,
    shape_event,
    shape_send,
    shape_webhook,
)

HEARTBEAT_S: Final = 15.0
POLL_S: Final = 1.0


async def list_webhooks(call: Call, team: str) -> WebhookList:
    """The webhooks of a team, without their secrets."""
    found = await webhooks.list_webhooks(call.platform, call.actor)
    page, cursor = slice_page(call, found, key=lambda hook: hook.id)
    return {"items": [shape_webhook(hook) for hook in page], "next_cursor": cursor}


async def create_webhook(call: Call, team: str) -> NewWebhookShape:
    """Make a webhook; answers the secret that signs its deliveries, this once."""
    body: NewWebhook = call.body
    hook, secret = await webhooks.create_webhook(
        call.platform, call.actor, url=body.url, events=body.events, project=body.project
    )
    call.change.subject, call.change.facts = hook.id, {"events": list(hook.events)}
    return {**shape_webhook(hook), "secret": secret}


async def show_webhook(call: Call, team: str, webhook: str) -> WebhookShape:
    """One webhook."""
    return shape_webhook(await webhooks.find_webhook(call.platform, call.actor, webhook))


async def change_webhook(call: Call, team: str, webhook: str) -> WebhookShape:
    """Change what is given of a webhook; one that was switched off may be switched on again."""
    body: WebhookChange = call.body
    changed = await webhooks.change_webhook(
        call.platform, call.actor, webhook, url=body.url, events=body.events, is_enabled=body.is_enabled
    )
    call.change.facts = {"changed": sorted(body.model_dump(exclude_none=True))}
    return shape_webhook(changed)


async def delete_webhook(call: Call, team: str, webhook: str) -> None:
    """Take a webhook away, with the log of its deliveries."""
    await webhooks.delete_webhook(call.platform, call.actor, webhook)


async def ping_webhook(call: Call, team: str, webhook: str) -> DeliveryShape:
    """Send a webhook the event `ping`, which means nothing."""
    return shape_send(await webhooks.send_ping(call.platform, call.actor, webhook))


async def list_deliveries(call: Call, team: str, webhook: str) -> DeliveryList:
    """What a webhook was sent within 30 days, newest first, with every try."""
    found = await webhooks.list_sends(
        call.platform, call.actor, webhook, limit=call.query.limit + 1, before=position_of(call)
    )
    page, cursor = cut_page(call, found, key=lambda send: send.id)
    return {"items": [shape_send(send) for send in page], "next_cursor": cursor}


async def redeliver(call: Call, team: str, webhook: str, delivery: str) -> DeliveryShape:
    """Send the event of a delivery again, as a delivery of its own."""
    return shape_send(await webhooks.redeliver(call.platform, call.actor, webhook, delivery))


async def show_events(call: Call) -> EventList | Response:
    """What happened in the team within 7 days, newest first; with `Accept: text/event-stream` also all that is to come.

    A stream resumes behind its `Last-Event-ID`; a new one begins with what happens next.
    """
    if "text/event-stream" not in call.request.headers.get("Accept", ""):
        found = await telling.list_events(
            call.platform, call.actor, limit=call.query.limit + 1, before=position_of(call)
        )
        page, cursor = cut_page(call, found, key=lambda event: event.number)
        return {"items": [shape_event(event) for event in page], "next_cursor": cursor}
    resumed = last_event_id(call.request)
    after = await telling.last_number(call.platform, call.actor) if resumed is None else resumed
    # Whoever loses their access loses the stream with the next heartbeat.
    held = asyncio.Event()

    async def check() -> None:
        with suppress(Unavailable):
            try:
                await find_caller(call.platform, call.request, team=call.actor.team_id)
            except (Unauthorised, NotFound):
                held.set()

    return stream_events(
        call.request,
        tell_events(call, after, held),
        stopping=call.live.stopping,
        heartbeat_s=HEARTBEAT_S,
        on_heartbeat=check,
    )


async def tell_events(call: Call, after: int, held: asyncio.Event) -> Events:
    """Yield the team's events behind `after`, as they are committed, until `held`."""
    while not held.is_set():
        found = await telling.read_events(call.platform, call.actor, after=after)
        for event in found:
            after = event.number
            yield encode_event(event.kind, shape_event(event), number=event.number)
        if not found:
            with suppress(TimeoutError):
                await asyncio.wait_for(held.wait(), POLL_S)
