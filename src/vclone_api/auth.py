"""Finds out who is calling, within which team: an API or access token in `Authorization`, else the cookie."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from quart import Request, Response

from vclone_core.actions import accounts, sessions
from vclone_core.actions.accounts import DAY_S, Entry
from vclone_core.actions.platform import Platform
from vclone_core.errors import NotFound, Unauthorised
from vclone_core.models import Actor
from vclone_core.rules.clients import client_address, parse_networks
from vclone_core.settings import Settings

TEAM_HEADER: Final = "X-Vclone-Team"
TEAM_LENGTH: Final = 64
ATTEMPT_S: Final = 600


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling and how we know; `session` is the cookie's text, None where it wasn't the cookie."""

    entry: Entry | None = None
    session: str | None = None

    @property
    def actor(self) -> Actor | None:
        return None if self.entry is None else self.entry.actor

    @property
    def is_by_cookie(self) -> bool:
        return self.session is not None


async def find_caller(platform: Platform, request: Request, *, team: str | None = None) -> Caller:
    """Return who is calling. A token that is not valid raises `Unauthorised`; a stale cookie counts as nobody.

    The acting team is `team` (of the path), else `X-Vclone-Team` or `?team=`, else the token's or session's own; one
    that is none of the caller's raises `NotFound`.
    """
    team = team or request.headers.get(TEAM_HEADER) or request.args.get("team") or None
    if team is not None and (len(team) > TEAM_LENGTH or not team.isprintable()):
        raise NotFound(what="team")
    if authorization := request.headers.get("Authorization"):
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorised()
        text = text.strip()
        enter = sessions.enter_by_access if sessions.is_access_token(text) else accounts.enter_by_token
        return Caller(await enter(platform, text, team=team))
    session = request.cookies.get(cookie_name(platform.settings))
    if not session:
        return Caller()
    try:
        return Caller(await accounts.enter_by_session(platform, session, team=team), session)
    except Unauthorised:
        return Caller()


def address_of(request: Request, settings: Settings) -> str:
    """Return the client's address, behind the operator's own proxies where there are some."""
    forwarded = ", ".join(request.headers.getlist("X-Forwarded-For"))
    return client_address(request.remote_addr or "", forwarded, _networks(settings.api_trusted_proxies))


_networks = lru_cache(maxsize=8)(parse_networks)


def is_secure(settings: Settings) -> bool:
    """Say whether browsers reach the API over TLS."""
    return settings.api_url.startswith("https://")


def cookie_name(settings: Settings, *, of: str = "session") -> str:
    """Return the name of a cookie: with TLS one that a browser accepts only from this very host.

    `of`: `session`, or `attempt` while somebody signs in with a provider.
    """
    return f"__Host-vclone_{of}" if is_secure(settings) else f"vclone_{of}"


def set_session(response: Response, settings: Settings, session: str) -> None:
    """Sign the browser in. The server decides when the session ends; the cookie only outlives it."""
    _set_cookie(response, settings, "session", session, max_age_s=int(settings.session_max_days * DAY_S))


def clear_session(response: Response, settings: Settings) -> None:
    """Sign the browser out."""
    _clear_cookie(response, settings, "session")


def set_attempt(response: Response, settings: Settings, attempt: str) -> None:
    """Bind a try to sign in with a provider to this browser; an empty one is done with."""
    if attempt:
        _set_cookie(response, settings, "attempt", attempt, max_age_s=ATTEMPT_S)
    else:
        _clear_cookie(response, settings, "attempt")


def _set_cookie(response: Response, settings: Settings, of: str, value: str, *, max_age_s: int) -> None:
    response.set_cookie(cookie_name(settings, of=of), value, max_age=max_age_s, **_flags(settings))


def _clear_cookie(response: Response, settings: Settings, of: str) -> None:
    response.delete_cookie(cookie_name(settings, of=of), **_flags(settings))


def _flags(settings: Settings) -> dict[str, Any]:
    return {"path": "/", "httponly": True, "samesite": "Lax", "secure": is_secure(settings)}


def form_tokens(settings: Settings, session: str) -> tuple[str, ...]:
    """Return the tokens that a session's forms may carry: another site can send a form, but can't read these.

    The first is what new pages get; the others were signed with the key before.
    """
    subject = b"form:" + hashlib.sha256(session.encode()).digest()
    secrets = (settings.secret_key.get_secret_value(), settings.secret_key_previous.get_secret_value())
    keys = [secret.encode() for index, secret in enumerate(secrets) if secret or index == 0]
    return tuple(hmac.new(key, subject, hashlib.sha256).hexdigest() for key in keys)
