"""Webhooks that go out: which events there are, how a delivery is signed, and when a failed one is tried again."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

# What a team can be told of. The database writes the first seven by itself: 0008_api.sql.
EventName = Literal[
    "deployment.created",
    "deployment.building",
    "deployment.ready",
    "deployment.failed",
    "deployment.cancelled",
    "deployment.skipped",
    "deployment.promoted",
    "webhook.disabled",
]
EVENTS: Final[tuple[EventName, ...]] = get_args(EventName)
PING: Final = "ping"
DISABLED: Final = "webhook.disabled"
URL_LIMIT: Final = 2000
# After the first try and each that failed, seconds until the next: a restart, an outage, a night. Then it is given up.
RESTS_S: Final = (5.0, 30.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0)
# A webhook to which nothing could be delivered for this long is switched off.
FAILING_S: Final = 5 * 86_400.0


def decide_rest(attempt: int) -> float | None:
    """Return the seconds until a delivery is tried again after its try number `attempt` (from 1); None: given up.

    >>> decide_rest(1), decide_rest(9)
    (5.0, None)
    """
    return RESTS_S[attempt - 1] if attempt <= len(RESTS_S) else None


def has_arrived(status: int) -> bool:
    """Say whether an answer's status takes a delivery: 2xx alone, since redirects are not followed."""
    return 200 <= status < 300


def sign(secret: str, body: bytes, *, at: int) -> str:
    """Return the signature's field: the time of sending (Unix seconds), and HMAC-SHA256 over `TIME.BODY` in hex.

    >>> sign("whsec", b"{}", at=1)[:14]
    't=1,v1=6ab13b5'
    """
    digest = hmac.digest(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hex()
    return f"t={at},v1={digest}"


def check_url(url: str) -> str | None:
    """Return what is wrong with a webhook's address, None for nothing. Where it leads to is judged on each use."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not an address"
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or not url.isprintable():
        return "must be an http:// or https:// address"
    if " " in url or len(url) > URL_LIMIT or port == 0:
        return "is not an address"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user or a password"
    return None


def unknown_events(events: Iterable[str]) -> list[str]:
    """Return those of `events` that there are not."""
    return [event for event in events if event not in EVENTS]
