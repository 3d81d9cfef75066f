"""Serves the dashboard's pages: visit -> view -> template or redirect; and errors as pages."""

from __future__ import annotations

from typing import Any, Final

from quart import Quart, Response, g, redirect, render_template, request
from vclone_dashboard.visit import Go, Page, Show, Visit

from vclone_core.actions.accounts import find_user
from vclone_core.actions.audit import Change
from vclone_core.actions.platform import Platform
from vclone_core.errors import VcloneError

from .auth import Caller, address_of, clear_session, cookie_name, form_tokens, set_attempt, set_session
from .bodies import read_form
from .calls import CALLER_TIME_LIMIT_S, Deed, enter
from .errors import add_retry_after
from .guard import SAFE_METHODS, Live, check_form
from .patience import within

PAGE_TIME_LIMIT_S: Final = 20.0


def add_page(app: Quart, platform: Platform, live: Live, page: Page) -> None:
    """Serve one page of the dashboard."""

    async def answer(**path: str) -> Any:
        asked: Any = request._get_current_object()  # type: ignore[attr-defined]
        caller = await enter(platform, live, page, asked, path, looks_always=True)
        form: dict[str, str] = {}
        if page.method not in SAFE_METHODS:
            form = await read_form(request)
            tokens = form_tokens(platform.settings, caller.session) if caller.session else None
            check_form(form, tokens, request)
        visit = await make_visit(platform, caller, query=request.args.to_dict(), form=form)
        is_audited = page.method not in SAFE_METHODS if page.is_audited is None else page.is_audited
        if not is_audited:
            result = await within(PAGE_TIME_LIMIT_S, page.view(visit, **path))
        else:
            deed = Deed(
                platform,
                caller,
                visit.change,
                action=page.action or page.view.__name__,
                path=path,
                address=visit.address,
            )
            result = await deed.carry_out(
                lambda: page.view(visit, **path),
                time_limit_s=PAGE_TIME_LIMIT_S,
                has_failed=lambda shown: isinstance(shown, Show) and shown.error is not None,
            )
        if isinstance(result, Show):
            return await show(result, visit)
        return go(result, platform)

    app.add_url_rule(
        page.path,
        f"{page.method} {page.path}",
        answer,
        methods=[page.method],
        provide_automatic_options=False,
    )


async def show(result: Show, visit: Visit) -> Response:
    """Return a page; one that shows an error has the error's status."""
    error = result.error
    g.form_action = result.form_action
    text = await render_template(result.template, visit=visit, error=error, **result.facts)
    response = Response(text, status=error.status if error else 200, content_type="text/html; charset=utf-8")
    if error is not None:
        add_retry_after(response, error)
    return response


async def make_visit(platform: Platform, caller: Caller, *, query: dict[str, str], form: dict[str, str]) -> Visit:
    user = team = None
    if caller.actor is not None:
        user, team = await within(CALLER_TIME_LIMIT_S, find_user(platform, caller.actor))
    return Visit(
        platform,
        caller.actor,
        form_tokens(platform.settings, caller.session)[0] if caller.session else "",
        caller.session,
        query,
        form,
        user_agent=request.headers.get("User-Agent", "")[:300],
        address=address_of(request, platform.settings),
        attempt=request.cookies.get(cookie_name(platform.settings, of="attempt"), ""),
        user=user,
        team=team,
        entry_id=caller.entry.id if caller.entry else "",
        change=Change(),
    )


def go(result: Go, platform: Platform) -> Response:
    """Return the redirect a page asked for."""
    response: Any = redirect(result.path, 303)
    if result.session is not None:
        set_session(response, platform.settings, result.session)
    if result.signs_out:
        clear_session(response, platform.settings)
    if result.attempt is not None:
        set_attempt(response, platform.settings, result.attempt)
    return response  # type: ignore[no-any-return]


async def error_page(error: VcloneError, platform: Platform) -> Response:
    """Return the error as a page: the sign-in page where nobody is signed in."""
    if error.status == 401:
        # Why a link did not work belongs on the page; that nobody is signed in is what the page itself says.
        note = error.advice if request.path.startswith("/sign-in/") else None
        next_path = request.full_path.rstrip("?") if request.method == "GET" and request.path != "/" else ""
        page = await render_template(
            "sign_in.html",
            visit=None,
            note=note,
            error=None,
            next_path="" if note else next_path,
            providers=platform.auth_providers,
            can_sign_up=platform.settings.sign_up == "open",
        )
    else:
        try:
            visit: Visit | None = await make_visit(platform, g.caller, query={}, form={})
        except VcloneError:
            visit = None  # the page of an outage needs no database
        page = await render_template("error.html", visit=visit, error=error, request_id=g.request_id)
    # The front page greets whoever comes; anything else says that it was not shown.
    is_greeting = error.status == 401 and request.path == "/"
    status = 200 if is_greeting else error.status
    response = Response(page, status=status, content_type="text/html; charset=utf-8")
    add_retry_after(response, error)
    return response
