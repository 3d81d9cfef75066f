"""Webhooks that go out, and the events they tell of."""

from __future__ import annotations

from typing import Final

from .. import telling_bodies as bodies
from ..bodies import PagedQuery
from ..guard import Route
from ..views import telling_shapes as shapes
from ..views import webhooks

SEE: Final = "see webhooks"
CHANGE: Final = "change webhooks"
ONE: Final = "/api/teams/<team>/webhooks/<webhook>"

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/api/events", webhooks.show_events, "see events", shapes.EventList, query=PagedQuery, streams=True),
    Route("GET", "/api/teams/<team>/webhooks", webhooks.list_webhooks, SEE, shapes.WebhookList, query=PagedQuery),
    Route(
        "POST",
        "/api/teams/<team>/webhooks",
        webhooks.create_webhook,
        CHANGE,
        shapes.NewWebhookShape,
        status=201,
        body=bodies.NewWebhook,
    ),
    Route("GET", ONE, webhooks.show_webhook, SEE, shapes.WebhookShape),
    Route("PATCH", ONE, webhooks.change_webhook, CHANGE, shapes.WebhookShape, body=bodies.WebhookChange),
    Route("DELETE", ONE, webhooks.delete_webhook, CHANGE, status=204),
    Route("POST", f"{ONE}/ping", webhooks.ping_webhook, CHANGE, shapes.DeliveryShape, status=201),
    Route("GET", f"{ONE}/deliveries", webhooks.list_deliveries, SEE, shapes.DeliveryList, query=PagedQuery),
    Route(
        "POST",
        f"{ONE}/deliveries/<delivery>/redeliver",
        webhooks.redeliver,
        CHANGE,
        shapes.DeliveryShape,
        status=201,
    ),
)
