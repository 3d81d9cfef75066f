"""Who may call what: every route names what it needs, and this is the one place that checks it.

A route that stands in no table is an error at start, so that nothing is reachable that nobody thought about.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import BaseModel
from quart import Quart, Request

from vclone_core.actions.accounts import Entry
from vclone_core.actions.audit import Change
from vclone_core.actions.platform import Platform
from vclone_core.errors import NotFound, NotFromHere, Unauthorised
from vclone_core.models import Actor
from vclone_core.rules.access import PERMISSIONS, require
from vclone_core.settings import Settings

from .auth import Caller
from .bodies import JSON_LIMIT_BYTES
from .desk import GitDesk
from .feed import MoveFeed

if TYPE_CHECKING:
    from .rates import Rates

OPEN: Final = "open"  # anybody
EDGE: Final = "edge"  # whoever knows the edge token
NAME_LENGTH: Final = 253  # the longest host name
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Live:
    """What all requests of a process share besides the platform."""

    stopping: asyncio.Event
    moves: MoveFeed
    desk: GitDesk
    webhook_bodies: asyncio.Semaphore
    rates: Rates


@dataclass(frozen=True, slots=True)
class Call:
    """One request, let in, with its body and query already checked against the route's models."""

    platform: Platform
    live: Live
    request: Request
    entry: Entry | None
    body: Any
    query: Any
    address: str
    change: Change

    @property
    def actor(self) -> Actor:
        """The one who asks; raises `Unauthorised` on an open route that nobody has signed in to."""
        return self.entered.actor

    @property
    def entered(self) -> Entry:
        """By what the one who asks was let in; raises as `actor` does."""
        if self.entry is None:
            raise Unauthorised()
        return self.entry

    @property
    def user_agent(self) -> str:
        return self.request.headers.get("User-Agent", "")[:300]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API. `needs` is a permission, `OPEN` or `EDGE`; `answer` is the shape of its JSON."""

    method: str
    path: str
    view: Callable[..., Coroutine[Any, Any, Any]]
    needs: str
    answer: Any = None
    status: int = 200
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    limit_bytes: int = JSON_LIMIT_BYTES
    time_limit_s: float | None = 20.0
    takes: str | None = None  # media type of a body that the view reads by itself
    streams: bool = False  # may also answer with text/event-stream
    media: tuple[str, ...] = ()  # what else than JSON it answers with
    is_audited: bool = True  # a route that changes nothing, in spite of its method, isn't
    made_at: str | None = None  # the address below which what it makes is found, by its id
    rate: str | None = None  # the class of rates.py, where its method and need don't say it

    @property
    def summary(self) -> str:
        return (self.view.__doc__ or "").strip().splitlines()[0]

    @property
    def action(self) -> str:
        """What the audit log calls it."""
        return self.view.__name__

    @property
    def changes(self) -> bool:
        """Whether a call of it may change something that the audit log tells of."""
        return self.is_audited and self.method not in SAFE_METHODS

    @property
    def takes_team(self) -> bool:
        """Whether a call says in which team it is by `?team=` or its header, rather than by its address."""
        return self.needs not in (OPEN, EDGE) and "<team>" not in self.path

    @property
    def takes_key(self) -> bool:
        """Whether an `Idempotency-Key` counts: for changes by POST, whose caller is known. See repeats.py."""
        return self.changes and self.method == "POST" and self.needs not in (OPEN, EDGE)


class Guarded(Protocol):
    """What the guard looks at: a route of the API or a page of the dashboard."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def needs(self) -> str: ...
    @property
    def rate(self) -> str | None: ...


def admit(needs: str, caller: Caller, request: Request, settings: Settings) -> None:
    """Let the request in or raise: the only check of who may do what."""
    if needs == OPEN:
        return
    if needs == EDGE:
        admit_edge(request, settings)
        return
    if caller.actor is None:
        raise Unauthorised()
    require(caller.actor, needs)


def check_origin(caller: Caller, request: Request) -> None:
    """Raise `NotFromHere` for a change that a browser makes with our cookie but not from one of our pages."""
    if request.method not in SAFE_METHODS and caller.is_by_cookie and not is_from_here(request):
        raise NotFromHere()


def check_form(form: Mapping[str, str], tokens: Sequence[str] | None, request: Request) -> None:
    """Raise `NotFromHere` for a form that none of our pages sent: the browser and the form must both say so.

    `tokens` are the form tokens of the session, None where there is no session. A browser too old to say where a form
    comes from is let off with the token alone.
    """
    says = request.headers.get("Sec-Fetch-Site") or request.headers.get("Origin")
    if says and not is_from_here(request):
        raise NotFromHere()
    given = form.get("form_token", "").encode()
    if tokens is not None and not any(hmac.compare_digest(given, token.encode()) for token in tokens):
        raise NotFromHere()


def admit_edge(request: Request, settings: Settings) -> None:
    """Raise `Unauthorised` unless the request carries the edge token. With no token set, nobody gets in."""
    expected = settings.edge_token.get_secret_value()
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    is_right = hmac.compare_digest(given.strip().encode(), expected.encode())
    if not expected or scheme.lower() != "bearer" or not is_right:
        raise Unauthorised(hint="Send the edge token: `Authorization: Bearer TOKEN`.")


def is_from_here(request: Request) -> bool:
    """Say whether a browser vouches that one of our own pages made this request.

    `Sec-Fetch-Site` where there is one, else `Origin` against `Host`; neither: no.
    """
    if site := request.headers.get("Sec-Fetch-Site"):
        return site == "same-origin"
    origin = request.headers.get("Origin", "")
    return bool(origin) and origin.partition("://")[2] == request.headers.get("Host")


def check_path(path: Mapping[str, str]) -> None:
    """Raise `NotFound` for a part of the path that can name nothing: too long, or with control characters."""
    if any(len(text) > NAME_LENGTH or not text.isprintable() for text in path.values()):
        raise NotFound(what="address")


def check_routes(app: Quart, listed: Iterable[Guarded], *, open_endpoints: Iterable[str] = ()) -> None:
    """Raise `RuntimeError` when `app` answers what no table lists, or a table names a need that doesn't exist."""
    known = set()
    for entry in listed:
        known.add((entry.method, entry.path))
        if entry.needs not in (OPEN, EDGE) and entry.needs not in PERMISSIONS:
            raise RuntimeError(f"{entry.method} {entry.path} needs {entry.needs!r}, which is no permission")
    for rule in app.url_map.iter_rules():
        if rule.endpoint in open_endpoints:
            continue
        for method in (rule.methods or set()) - {"HEAD"}:
            if (method, rule.rule) not in known:
                raise RuntimeError(f"{method} {rule.rule} stands in no table of routes")
