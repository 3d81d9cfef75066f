"""The JSON of a team's events, its webhooks and their deliveries."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from vclone_core.models import Send, TeamEvent, Webhook

from .shapes import Moment, moment, optional_moment


class EventShape(TypedDict):
    """`data` as the documentation of webhooks lists it; `id` orders a team's events."""

    id: int
    type: str
    at: Moment
    data: dict[str, Any]


class EventList(TypedDict):
    items: list[EventShape]
    next_cursor: str | None


class WebhookShape(TypedDict):
    """`failing_since`: nothing has arrived since then. `project_id` null: all of the team's events."""

    id: str
    url: str
    events: list[str]
    project_id: str | None
    is_enabled: bool
    disabled_reason: str | None
    failing_since: Moment | None
    created_at: Moment


class NewWebhookShape(WebhookShape):
    """The secret that signs deliveries is shown this once."""

    secret: str


class WebhookList(TypedDict):
    items: list[WebhookShape]
    next_cursor: str | None


class TryShape(TypedDict):
    at: Moment
    status: int | None
    problem: str | None
    ms: int


class DeliveryShape(TypedDict):
    """`state`: `waiting`, `delivered` or `failed`; `next_try_at` while it waits."""

    id: str
    type: str
    state: str
    body: dict[str, Any]
    tries: list[TryShape]
    created_at: Moment
    next_try_at: Moment | None
    finished_at: Moment | None


class DeliveryList(TypedDict):
    items: list[DeliveryShape]
    next_cursor: str | None


def shape_event(event: TeamEvent) -> EventShape:
    return {"id": event.number, "type": event.kind, "at": moment(event.at), "data": dict(event.facts)}


def shape_webhook(hook: Webhook) -> WebhookShape:
    return {
        "id": hook.id,
        "url": hook.url,
        "events": [*hook.events],
        "project_id": hook.project_id,
        "is_enabled": hook.disabled_at is None,
        "disabled_reason": hook.disabled_reason,
        "failing_since": optional_moment(hook.failing_since),
        "created_at": moment(hook.created_at),
    }


def shape_send(send: Send) -> DeliveryShape:
    tries: Any = [dict(one) for one in send.tries]
    return {
        "id": str(send.id),
        "type": send.kind,
        "state": send.state,
        "body": dict(send.body),
        "tries": tries,
        "created_at": moment(send.created_at),
        "next_try_at": moment(send.not_before) if send.state == "waiting" else None,
        "finished_at": optional_moment(send.finished_at),
    }
