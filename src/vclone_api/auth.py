"""Finds out who is calling: an API token in `Authorization`, else the session cookie of the dashboard."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from quart import Request, Response

from vclone_core.actions import accounts
from vclone_core.actions.platform import Platform
from vclone_core.errors import Unauthorised
from vclone_core.models import Actor
from vclone_core.settings import Settings

SESSION_S: Final = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling and how we know; `session` is the cookie's text."""

    actor: Actor | None = None
    session: str | None = None

    @property
    def is_by_cookie(self) -> bool:
        return self.session is not None


async def find_caller(platform: Platform, request: Request) -> Caller:
    """Return who is calling. A token that is not valid raises `Unauthorised`; a stale cookie counts as nobody."""
    if authorization := request.headers.get("Authorization"):
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorised()
        return Caller(await accounts.actor_from_token(platform, text.strip()))
    session = request.cookies.get(cookie_name(platform.settings))
    if not session:
        return Caller()
    try:
        return Caller(await accounts.actor_from_session(platform, session), session)
    except Unauthorised:
        return Caller()


def is_secure(settings: Settings) -> bool:
    """Say whether browsers reach the API over TLS."""
    return settings.api_url.startswith("https://")


def cookie_name(settings: Settings) -> str:
    """Return the session cookie's name: with TLS one that a browser accepts only from this very host."""
    return "__Host-vclone_session" if is_secure(settings) else "vclone_session"


def set_session(response: Response, settings: Settings, session: str) -> None:
    """Sign the browser in."""
    response.set_cookie(
        cookie_name(settings),
        session,
        max_age=SESSION_S,
        path="/",
        httponly=True,
        samesite="Lax",
        secure=is_secure(settings),
    )


def clear_session(response: Response, settings: Settings) -> None:
    """Sign the browser out."""
    response.delete_cookie(cookie_name(settings), path="/", httponly=True, samesite="Lax", secure=is_secure(settings))


def form_token(settings: Settings, session: str) -> str:
    """Return the token that a session's forms carry: another site can send a form, but can't read this."""
    key = settings.secret_key.get_secret_value().encode()
    return hmac.new(key, b"form:" + hashlib.sha256(session.encode()).digest(), hashlib.sha256).hexdigest()
