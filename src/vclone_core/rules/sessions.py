"""What is signed: access tokens (JWT, RFC 9068's shape), their keys, and what a refresh token that comes back means."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

# A client that lost our answer, or two of its tabs, may use a refresh token again for this long. Later it is a theft.
REUSE_GRACE_S: Final = 10.0
ALGORITHM: Final = "HS256"
ACCESS_TYPE: Final = "at+jwt"
AUDIENCE: Final = "vclone-api"
LEEWAY_S: Final = 30.0
REQUIRED_CLAIMS: Final = ("iss", "aud", "exp", "iat", "jti", "sub", "sid")
KEY_LENGTH: Final = 32


class Refresh(StrEnum):
    """What to do about a refresh token: give a new one, end its session, or refuse it."""

    ROTATE = "rotate"
    REUSED = "reused"
    REFUSE = "refuse"


def judge_refresh(
    *, now: datetime, expires_at: datetime, used_at: datetime | None, session_ends_at: datetime, is_revoked: bool
) -> Refresh:
    """Return what a refresh token that was presented at `now` gets (RFC 9700 §4.14.2)."""
    if is_revoked or now >= session_ends_at or now >= expires_at:
        return Refresh.REFUSE
    if used_at is not None and now - used_at > timedelta(seconds=REUSE_GRACE_S):
        return Refresh.REUSED
    return Refresh.ROTATE


def derive_keys(*secrets: str) -> Mapping[str, bytes]:
    """Return the signing keys by their ids, the newest first; empty secrets are left out.

    The id is made from the key, so that every process knows it without being told.
    """
    keys = [hmac.new(secret.encode(), b"vclone access tokens", hashlib.sha256).digest() for secret in secrets if secret]
    return {hashlib.sha256(b"kid:" + key).hexdigest()[:12]: key for key in keys}


def sliding_end(now: datetime, *, made_at: datetime, days: float, max_days: float) -> datetime:
    """Return when a session that is used at `now` ends: `days` later, but never `max_days` after it was made."""
    return min(now + timedelta(days=days), made_at + timedelta(days=max_days))
