"""Pages for getting in and out, and for one's own account: password, sessions, connections, the CLI's sign-in."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from vclone_core.actions import accounts, invitations, providers, sessions, signing_in, tokens
from vclone_core.errors import Forbidden, Invalid, VcloneError
from vclone_core.rules.tokens import show_user_code

from .visit import Go, Page, Show, Visit

# A browser takes a cookie of 4,096 bytes; a third is added by its spelling.
COOKIE_PATH_BYTES: Final = 2000


async def show_sign_in(visit: Visit) -> Show | Go:
    """Sign in with a password, a provider, or a link from the machine itself."""
    if visit.signed_in is not None:
        return Go("/")
    return Show("sign_in.html", ways(visit))


async def sign_in(visit: Visit) -> Show | Go:
    """Sign this browser in with address and password."""
    email = visit.form.get("email", "")
    try:
        user = await signing_in.sign_in(
            visit.platform, email=email, password=visit.form.get("password", ""), address=visit.address
        )
    except VcloneError as error:
        return Show("sign_in.html", {**ways(visit), "email": email}, error)
    return await enter(visit, user.id, local_path(visit.form.get("next", "")))


async def enter(visit: Visit, user_id: str, path: str, *, attempt: str | None = None) -> Go:
    """Open a session for this browser and go on to `path`."""
    session = await accounts.open_session(
        visit.platform, visit.platform.db, user_id, user_agent=visit.user_agent, address=visit.address
    )
    entry = await accounts.enter_by_session(visit.platform, session)
    visit.change.actor_id, visit.change.team_id, visit.change.subject = user_id, entry.actor.team_id, entry.id
    return Go(path, session=session, attempt=attempt)


async def ask_to_redeem(visit: Visit, token: str) -> Show:
    """Ask before a sign-in link is used up: programs that look at links ahead of people must not spend it."""
    return Show("redeem.html")


async def redeem(visit: Visit, token: str) -> Go:
    """Use a sign-in link up and sign this browser in."""
    session = await accounts.redeem_sign_in_link(
        visit.platform, token, user_agent=visit.user_agent, address=visit.address
    )
    entry = await accounts.enter_by_session(visit.platform, session)
    visit.change.actor_id, visit.change.team_id = entry.actor.user_id, entry.actor.team_id
    visit.change.subject = entry.id  # the token is a secret
    return Go("/", session=session)


async def sign_out(visit: Visit) -> Go:
    """End the session, here and at the server."""
    if visit.session is not None:
        await accounts.end_session(visit.platform, visit.session)
    visit.change.subject = visit.entry_id
    return Go("/sign-in", signs_out=True)


async def show_sign_up(visit: Visit) -> Show:
    """Make an account, where the platform takes new ones."""
    signing_in.check_policy(visit.platform, has_invitation=False)
    return Show("sign_up.html", ways(visit))


async def sign_up(visit: Visit) -> Show | Go:
    """Make an account, join the team of the invitation where there is one, and sign this browser in."""
    form = visit.form
    invitation = form.get("invitation") or None
    try:
        made = await signing_in.sign_up(
            visit.platform,
            email=form.get("email", ""),
            password=form.get("password", ""),
            name=form.get("name", "").strip()[:100],
            invitation=invitation,
            address=visit.address,
        )
    except VcloneError as error:
        facts = {**ways(visit), "email": form.get("email", ""), "name": form.get("name", "")}
        if invitation is None:
            return Show("sign_up.html", facts, error)
        found = await invitations.find_invitation(visit.platform, invitation)
        return Show("invitation.html", {**facts, "invitation": found, "token": invitation}, error)
    entered = await enter(visit, made.user.id, "/")
    if made.invited is not None:  # whom the team has got is the team's to know
        visit.change.team_id, visit.change.facts["role"] = made.invited.team.id, made.invited.role
    visit.change.facts["email"] = made.user.email
    return entered


async def show_invitation(visit: Visit, token: str) -> Show:
    """An invitation: join at once when signed in with its address, else sign in or sign up first."""
    found = await invitations.find_invitation(visit.platform, token)
    return Show("invitation.html", {**ways(visit), "invitation": found, "token": token})


async def accept_invitation(visit: Visit, token: str) -> Go:
    """Join the team of an invitation, and stand in it."""
    team = await invitations.accept_invitation(visit.platform, visit.actor, token)
    visit.change.team_id, visit.change.subject = team.id, visit.actor.user_id
    if visit.session is not None:
        await sessions.choose_team(visit.platform, visit.entry_id, team.id)
    return Go("/")


async def begin_with_provider(visit: Visit, provider: str) -> Go:
    """Send the browser to a provider; `?invitation=` signs up with it, `?connect=1` adds it to one's account.

    `?next=` is the path of this host to go on to afterwards.
    """
    invitation = visit.query.get("invitation") or None
    user_id = None
    if visit.query.get("connect"):
        if not visit.may("change one's account"):
            raise Forbidden(what="connecting an account takes somebody who is signed in")
        user_id = visit.actor.user_id
    begun = await providers.begin(visit.platform, provider, invitation=invitation, user_id=user_id)
    return Go(
        begun.url, attempt=".".join((begun.browser_token, invitation or "", pack_path(visit.query.get("next", ""))))
    )


async def finish_with_provider(visit: Visit, provider: str) -> Go:
    """Take back who comes from a provider."""
    if visit.query.get("error"):
        raise Invalid(what="the provider was told no", hint="Go back to the sign-in page and try again.")
    browser, invitation, path = (*visit.attempt.split(".", 2), "", "")[:3]
    done = await providers.finish(
        visit.platform,
        provider,
        code=visit.query.get("code", ""),
        state=visit.query.get("state", ""),
        browser=browser,
        invitation=invitation or None,
    )
    if done.is_linked:
        return Go("/account", attempt="")
    entered = await enter(visit, done.user_id, unpack_path(path), attempt="")
    if done.invited is not None:
        visit.change.team_id, visit.change.facts["role"] = done.invited.team.id, done.invited.role
    return entered


async def show_account(visit: Visit) -> Show:
    """One's name, address and password, where one is signed in, and what is connected."""
    return Show("account.html", await account_facts(visit))


async def account_facts(visit: Visit) -> Mapping[str, Any]:
    connected = await providers.list_identities(visit.platform, visit.actor)
    return {
        "sessions": await sessions.list_sessions(visit.platform, visit.actor),
        "has_password": await signing_in.has_password(visit.platform, visit.actor),
        "providers": visit.platform.auth_providers,
        "connected": connected,
    }


async def change_account(visit: Visit) -> Show | Go:
    """Change one's name and address."""
    form = visit.form
    try:
        _, changed = await signing_in.change_account(
            visit.platform,
            visit.actor,
            name=form.get("name", "").strip()[:100],
            email=form.get("email", ""),
            current=form.get("current_password", ""),
        )
    except VcloneError as error:
        return Show("account.html", {**await account_facts(visit), "failed": "account"}, error)
    visit.change.facts |= changed
    return Go("/account")


async def change_password(visit: Visit) -> Show | Go:
    """Set a new password; every other session ends."""
    try:
        await signing_in.change_password(
            visit.platform,
            visit.actor,
            current=visit.form.get("current_password", ""),
            new=visit.form.get("password", ""),
            session_id=visit.entry_id,
        )
    except VcloneError as error:
        return Show("account.html", {**await account_facts(visit), "failed": "password"}, error)
    return Go("/account")


async def end_session(visit: Visit, session: str) -> Go:
    """End one of one's sessions."""
    await sessions.end_session_by_id(visit.platform, visit.actor, session)
    return Go("/account")


async def disconnect(visit: Visit, provider: str) -> Go:
    """Take a provider off one's account."""
    await providers.disconnect(visit.platform, visit.actor, provider)
    return Go("/account")


async def show_device(visit: Visit) -> Show:
    """Confirm what `vclone login` asked for: first the code, then what asks."""
    code = visit.query.get("code", "")
    if not code:
        return Show("device.html", {"login": None})
    try:
        await limit_codes(visit)
        login = await tokens.find_device_login(visit.platform, visit.actor, code)
    except VcloneError as error:
        return Show("device.html", {"login": None}, error)
    return Show("device.html", {"login": login, "code": show_user_code(login.user_code)})


async def decide_device(visit: Visit) -> Show:
    """Let a computer act as oneself, or refuse it."""
    is_approved = visit.form.get("decision") == "approve"
    try:
        await limit_codes(visit)
        await tokens.decide_device_login(
            visit.platform, visit.actor, visit.form.get("code", ""), is_approved=is_approved
        )
    except VcloneError as error:
        return Show("device.html", {"login": None}, error)
    visit.change.facts["decision"] = "approved" if is_approved else "refused"
    return Show("device.html", {"login": None, "is_done": True, "is_approved": is_approved})


async def limit_codes(visit: Visit) -> None:
    # Codes are short: who guesses them runs out of tries, and codes out of time, long before one is hit.
    await signing_in.check_rate(visit.platform, signing_in.TRIES_FROM_ADDRESS, f"device:{visit.actor.user_id}")


def ways(visit: Visit) -> dict[str, Any]:
    """Return what the pages for getting in offer."""
    return {
        "providers": visit.platform.auth_providers,
        "can_sign_up": visit.platform.settings.sign_up == "open",
        "next_path": local_path(visit.query.get("next") or visit.form.get("next", "")),
    }


def local_path(text: str) -> str:
    """Return where to go on to: a path of this host, never another's.

    >>> local_path("/device?code=BCDF"), local_path("//evil.example"), local_path("https://evil.example")
    ('/device?code=BCDF', '/', '/')
    """
    is_local = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable() and len(text) < 2000
    return quote(text, safe="/?&=:;,+@%-._~!$'()*") if is_local else "/"


def pack_path(text: str) -> str:
    """Return a path of this host as a cookie can hold it; nothing for the front page, and for what is too long.

    >>> unpack_path(pack_path("/enter?host=shop.example.com")), unpack_path(pack_path("//evil.example"))
    ('/enter?host=shop.example.com', '/')
    """
    path = local_path(text)
    return base64.urlsafe_b64encode(path.encode()).decode() if 1 < len(path) < COOKIE_PATH_BYTES else ""


def unpack_path(text: str) -> str:
    try:
        return local_path(base64.urlsafe_b64decode(text).decode())
    except ValueError:
        return "/"


OPEN: Final = "open"
SEE: Final = "see one's account"
CHANGE: Final = "change one's account"

PAGES: Final[tuple[Page, ...]] = (
    Page("GET", "/sign-in", show_sign_in, OPEN),
    Page("POST", "/sign-in", sign_in, OPEN),
    Page("GET", "/sign-in/<token>", ask_to_redeem, OPEN),
    Page("POST", "/sign-in/<token>", redeem, OPEN, "sign_in_by_link"),
    Page("GET", "/sign-in/with/<provider>", begin_with_provider, OPEN),
    Page(
        "GET", "/sign-in/with/<provider>/callback", finish_with_provider, OPEN, "sign_in_with_provider", is_audited=True
    ),
    Page("POST", "/sign-out", sign_out, SEE),
    Page("GET", "/sign-up", show_sign_up, OPEN),
    Page("POST", "/sign-up", sign_up, OPEN),
    Page("GET", "/invitations/<token>", show_invitation, OPEN),
    Page("POST", "/invitations/<token>", accept_invitation, CHANGE),
    Page("GET", "/account", show_account, SEE),
    Page("POST", "/account", change_account, CHANGE),
    Page("POST", "/account/password", change_password, CHANGE),
    Page("POST", "/account/sessions/<session>/end", end_session, CHANGE),
    Page("POST", "/account/providers/<provider>/disconnect", disconnect, CHANGE, "disconnect_provider"),
    Page("GET", "/device", show_device, CHANGE),
    Page("POST", "/device", decide_device, CHANGE, "decide_device_login"),
)
