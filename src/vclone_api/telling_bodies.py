"""What clients may send about webhooks and events."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from vclone_core.rules.outgoing import EventName

from .bodies import Body, Line

Url = Annotated[str, StringConstraints(min_length=8, max_length=2000, pattern=r"^https?://[!-~]+$")]
Events = Annotated[list[EventName], Field(min_length=1, max_length=50)]


class NewWebhook(Body):
    """`project`: the name or id of the only project whose events are sent."""

    url: Url
    events: Events
    project: Line | None = None


class WebhookChange(Body):
    """Fields left out, or null, keep their values."""

    url: Url | None = None
    events: Events | None = None
    is_enabled: bool | None = None
