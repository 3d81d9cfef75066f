"""Who may see a project's sites, besides everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Covers(StrEnum):
    """Which of a project's hosts are protected."""

    OFF = "off"
    PREVIEWS = "previews"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Policy:
    """How a project's sites are protected. Passes of an earlier generation have ended.

    `links` are the ids of the share links by host; `key` verifies passes, `enter_url` is where visitors are asked who
    they are, `bypass` is the doubly hashed secret of automation.
    """

    covers: Covers
    key: str
    enter_url: str
    members_generation: int
    password_generation: int
    has_password: bool
    bypass: str | None = None
    bypass_made_at: datetime | None = None
    links: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShareLink:
    """A link that opens one protected host for whoever has it, until `expires_at` or until it is revoked."""

    id: str
    project_id: str
    host: str
    name: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Protection:
    """What opens a protected site. An edge can check with it what others made; nothing in it opens anything.

    `key` (Ed25519, Base64) verifies the project's passes; `enter_url` is where a visitor is asked who it is. Passes of
    members and by password count in one generation each (None: not at all); `links` are the ids of the share links that
    hold for this host, `bypass` the doubly hashed secret of automation.
    """

    key: str
    enter_url: str
    members: int | None = None
    password: int | None = None
    links: tuple[str, ...] = ()
    bypass: str | None = None
