"""The API and the dashboard as one Quart app: two tables of routes, one guard in front of both.

request -> id -> calls.py -> answer
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Final
from urllib.parse import urlsplit

import structlog
from quart import Quart, Request, Response, g, request
from vclone_dashboard import make_blueprint
from vclone_dashboard.pages import PAGES

from vclone_core.actions.platform import Platform
from vclone_core.actions.protection import ENTER
from vclone_core.actions.sessions import signing_keys
from vclone_core.errors import BadTarget
from vclone_core.ids import build_id
from vclone_core.log import get_log

from .auth import Caller, is_secure
from .calls import answer_call
from .desk import GitDesk
from .errors import problem_response, to_vclone_error
from .feed import MoveFeed
from .guard import Live, Route, check_routes
from .keeper import Keeper
from .pacing import pace_bodies
from .pages import add_page, error_page
from .rates import Rates
from .routes import ROUTES
from .views.git import BODIES_AT_ONCE
from .views.hooks import CALLED_PATH

log = get_log(__name__)

LIVE: Final = "vclone_live"
URL_LIMIT_BYTES: Final = 8 * 1024
# Scripts, styles and requests come from here alone, and no other page may frame ours.
CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def create_app(platform: Platform) -> Quart:
    """Return the app that serves `platform`. A route that no table lists raises `RuntimeError` here.

    Raises `BadSettings` without a `secret_key` to sign with.
    """
    signing_keys(platform)  # a key that is too short is said now, not at the first sign-in
    app = Quart("vclone_api", static_folder=None)
    # Limits of bodies and their pace are ours, per route: bodies.py and pacing.py.
    app.config.update(MAX_CONTENT_LENGTH=None, BODY_TIMEOUT=None, PROVIDE_AUTOMATIC_OPTIONS=False)
    app.url_map.strict_slashes = False
    desk, bodies = GitDesk(platform), asyncio.Semaphore(BODIES_AT_ONCE)
    live = Live(asyncio.Event(), MoveFeed(platform), desk, bodies, Rates(platform))
    app.extensions[LIVE] = live
    # Quart's documented place for a wrapper.
    app.asgi_app = pace_bodies(app.asgi_app)  # type: ignore[method-assign, assignment, arg-type]

    for route in ROUTES:
        add_route(app, platform, live, route)
    app.register_blueprint(make_blueprint())
    for page in PAGES:
        add_page(app, platform, live, page)
    check_routes(app, (*ROUTES, *PAGES), open_endpoints={"dashboard.static"})

    keeper = Keeper(platform)

    @app.before_serving
    async def begin() -> None:
        live.moves.start()
        live.desk.start()
        keeper.start()

    @app.after_serving
    async def end() -> None:
        live.stopping.set()
        await keeper.stop()
        await live.moves.stop()
        await live.desk.stop()

    @app.before_request
    async def note_request() -> Response | None:
        g.request_id = build_id("request", unix_ms=time.time_ns() // 1_000_000, random=secrets.randbits(52))
        g.started = time.perf_counter()
        g.caller, g.quota = Caller(), None
        structlog.contextvars.bind_contextvars(id=g.request_id)
        if len(request.scope.get("raw_path") or b"") + len(request.query_string) > URL_LIMIT_BYTES:
            raise BadTarget()
        return None

    @app.after_request
    async def finish_response(response: Response) -> Response:
        return finish(response, platform)

    @app.errorhandler(Exception)
    async def answer_error(raised: Exception) -> Response:
        error = to_vclone_error(raised, request, g.request_id)
        if is_for_programs(request):
            return problem_response(error, g.request_id)
        return await error_page(error, platform)

    return app


def current_request() -> Request:
    """Return the request itself: the proxy `request` is of no use to an event stream, which runs later."""
    found: Request = request._get_current_object()  # type: ignore[attr-defined]
    return found


def begin_stop(app: Quart) -> None:
    """End every event stream, so that the server can close its connections."""
    live: Live = app.extensions[LIVE]
    live.stopping.set()


def add_route(app: Quart, platform: Platform, live: Live, route: Route) -> None:
    """Serve one route of the API."""

    async def answer(**path: str) -> Response:
        return await answer_call(platform, live, route, current_request(), path)

    app.add_url_rule(
        route.path,
        f"{route.method} {route.path}".replace(".", "_"),
        answer,
        methods=[route.method],
        provide_automatic_options=False,
    )


def is_for_programs(request: Request) -> bool:
    return request.path.startswith(("/api/", "/internal/"))


def content_policy() -> str:
    """Return what a page may load and send where; one of its forms may go to a site that its view has named."""
    address = urlsplit(g.get("form_action", ""))
    other = f" {address.scheme}://{address.netloc}" if address.netloc else ""
    return CONTENT_POLICY.replace("form-action 'self'", f"form-action 'self'{other}")


# What follows is a secret.
_SECRET_PATHS: Final = ("/sign-in/", "/invitations/", CALLED_PATH)


def tell_path(path: str) -> str:
    """Return a path as it may be logged."""
    return next((f"{start}…" for start in _SECRET_PATHS if path.startswith(start)), path[:200])


def finish(response: Response, platform: Platform) -> Response:
    """Add what every answer carries, and log it."""
    headers = response.headers
    headers["x-vclone-id"] = g.request_id
    headers["x-content-type-options"] = "nosniff"
    policy = "default-src 'none'; frame-ancestors 'none'" if is_for_programs(request) else content_policy()
    headers.setdefault("content-security-policy", policy)
    if g.quota is not None:
        headers.update(g.quota.fields)
    headers["referrer-policy"] = "no-referrer" if request.path.startswith((*_SECRET_PATHS, ENTER)) else "same-origin"
    if is_secure(platform.settings):
        headers["strict-transport-security"] = "max-age=31536000"
    if request.path.startswith("/static/") and response.status_code == 200 and request.query_string:
        headers["cache-control"] = "public, max-age=31536000, immutable"
    elif not request.path.startswith("/static/"):
        headers["cache-control"] = "no-store"
    note = log.debug if request.path in ("/api/health", "/api/ready") else log.info
    note(
        "request.answered",
        method=request.method,
        path=tell_path(request.path),
        status=response.status_code,
        ms=round((time.perf_counter() - g.started) * 1000, 1),
        actor=g.caller.actor.user_id if g.caller.actor else None,
    )
    return response
