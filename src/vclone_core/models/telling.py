"""What a team is told of, and the webhooks that are sent it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class TeamEvent:
    """Something that happened in a team. Numbers are in the order of commits."""

    number: int
    at: datetime
    project_id: str | None
    kind: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is sent a team's events, or one project's; without its secret."""

    id: str
    team_id: str
    project_id: str | None
    url: str
    events: tuple[str, ...]
    created_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None
    failing_since: datetime | None


@dataclass(frozen=True, slots=True)
class Send:
    """One event for one webhook. `state`: `waiting`, `delivered`, `failed`; `tries` hold at, status, problem, ms."""

    id: int
    webhook_id: str
    kind: str
    body: Mapping[str, Any]
    state: str
    attempt: int
    tries: tuple[Mapping[str, Any], ...]
    created_at: datetime
    not_before: datetime
    finished_at: datetime | None
