"""Accounts and sessions: signing up, in and out, tokens anew, passwords, the CLI's sign-in by code."""

from __future__ import annotations

from vclone_core.actions import accounts, owners, sessions, signing_in, tokens
from vclone_core.actions.sessions import Tokens
from vclone_core.models import User
from vclone_core.rules.clients import address_group
from vclone_core.rules.tokens import show_user_code

from .. import people_bodies as bodies
from ..guard import Call
from ..paging import slice_page
from .people_shapes import (
    DeviceShape,
    DeviceState,
    LinkShape,
    SessionList,
    SignedIn,
    TokensShape,
    Ways,
    shape_session,
    shape_user,
)
from .shapes import Me, UserShape, shape_me


async def list_ways(call: Call) -> Ways:
    """Who may sign up here, and with what else than a password one may sign in."""
    settings = call.platform.settings
    return {
        "sign_up": settings.sign_up,
        "providers": [
            {"name": name, "label": provider.label, "url": f"{settings.api_url}/sign-in/with/{name}"}
            for name, provider in call.platform.auth_providers.items()
        ],
    }


async def sign_up(call: Call) -> SignedIn:
    """Make an account with a team of its own, and sign in; with an invitation also join its team."""
    body: bodies.SignUp = call.body
    made = await signing_in.sign_up(
        call.platform,
        email=body.email,
        password=body.password,
        name=body.name,
        invitation=body.invitation,
        address=call.address,
    )
    answer = await open_session(call, made.user)
    if made.invited is not None:  # whom the team has got is the team's to know
        call.change.team_id, call.change.facts["role"] = made.invited.team.id, made.invited.role
    call.change.facts["email"] = made.user.email
    return answer


async def sign_in(call: Call) -> SignedIn:
    """Sign in with address and password: an access token for minutes, and a refresh token for weeks."""
    body: bodies.SignIn = call.body
    user = await signing_in.sign_in(call.platform, email=body.email, password=body.password, address=call.address)
    return await open_session(call, user)


async def open_session(call: Call, user: User) -> SignedIn:
    made = await sessions.open_api_session(call.platform, user.id, user_agent=call.user_agent, address=call.address)
    entry = await accounts.enter_by_session_id(call.platform, made.session_id, user.id)
    call.change.actor_id, call.change.team_id, call.change.subject = user.id, entry.actor.team_id, made.session_id
    return {**shape_tokens(made), "user": shape_user(user)}


async def refresh(call: Call) -> TokensShape:
    """New tokens for a refresh token, which is used up; used again after ten seconds it ends the session."""
    body: bodies.RefreshBody = call.body
    await signing_in.check_rate(call.platform, signing_in.TRIES_FROM_ADDRESS, address_group(call.address))
    return shape_tokens(await sessions.refresh_session(call.platform, body.refresh_token))


def shape_tokens(made: Tokens) -> TokensShape:
    return {
        "access_token": made.access,
        "refresh_token": made.refresh,
        "token_type": "Bearer",
        "expires_in": made.expires_in_s,
    }


async def sign_out(call: Call) -> None:
    """End the session, or revoke the API token, that signs this request."""
    call.change.subject = call.entered.id
    if call.entered.kind == "token":
        await tokens.revoke_own(call.platform, call.entered.id)
    else:
        await sessions.end_session_by_id(call.platform, call.actor, call.entered.id)


async def show_account(call: Call) -> Me:
    """Who is asking, within which team, in which role."""
    return shape_me(call.actor, *await accounts.find_user(call.platform, call.actor))


async def change_account(call: Call) -> UserShape:
    """Change one's name, or the address one signs in with."""
    body: bodies.AccountChange = call.body
    user, changed = await signing_in.change_account(
        call.platform, call.actor, name=body.name, email=body.email, current=body.current_password
    )
    call.change.facts |= changed
    return shape_user(user)


async def change_password(call: Call) -> None:
    """Set a new password. Every other session ends; API tokens stay."""
    body: bodies.PasswordChange = call.body
    await signing_in.change_password(
        call.platform,
        call.actor,
        current=body.current_password,
        new=body.password,
        session_id=None if call.entered.kind == "token" else call.entered.id,
    )


async def list_sessions(call: Call) -> SessionList:
    """Where one is signed in, the latest first."""
    found = await sessions.list_sessions(call.platform, call.actor)
    # By when they began: one that is used meanwhile keeps its place.
    page, cursor = slice_page(call, found, key=lambda session: session.id, newest_first=True)
    return {"items": [shape_session(session, current=call.entered.id) for session in page], "next_cursor": cursor}


async def end_session(call: Call, session: str) -> None:
    """End one of one's sessions: it opens nothing from now on."""
    await sessions.end_session_by_id(call.platform, call.actor, session)


async def make_link(call: Call) -> LinkShape:
    """A link that signs one browser in as oneself, once, within 15 minutes."""
    token = await owners.sign_in_link(call.platform.db, call.actor.user_id)
    return {"url": f"{call.platform.settings.api_url}/sign-in/{token}"}


async def begin_device_login(call: Call) -> DeviceShape:
    """Begin to sign a program in by a code that a person confirms in a browser (after RFC 8628)."""
    await signing_in.check_rate(call.platform, signing_in.SIGN_INS_FROM_ADDRESS, address_group(call.address))
    device, code = await tokens.begin_device_login(call.platform, client=call.body.client, address=call.address)
    shown, page = show_user_code(code), f"{call.platform.settings.api_url}/device"
    return {
        "device_code": device,
        "user_code": shown,
        "verification_uri": page,
        "verification_uri_complete": f"{page}?code={shown}",
        "expires_in": tokens.CODE_S,
        "interval": tokens.POLL_S,
    }


async def poll_device_login(call: Call) -> DeviceState:
    """What became of a sign-in by code; when it was approved, its API token, once."""
    await signing_in.check_rate(call.platform, signing_in.TRIES_FROM_ADDRESS, address_group(call.address))
    state, token = await tokens.poll_device_login(call.platform, call.body.device_code)
    return {"state": state, "token": token}
