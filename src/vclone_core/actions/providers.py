"""Signing in with a provider (OAuth 2 with PKCE): begin in one browser, come back to the same one, once.

begin -> the provider's page -> finish: state, browser and time checked in one UPDATE -> identity -> user
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote

from vclone_core.actions import invitations, signing_in
from vclone_core.actions.owners import new_token
from vclone_core.actions.platform import Platform
from vclone_core.errors import Conflict, Duplicate, Forbidden, Invalid, NotFound, Unavailable, VcloneError
from vclone_core.log import get_log
from vclone_core.models import Actor, Invitation
from vclone_core.protocols import AuthProvider, Identity
from vclone_core.rules.access import require
from vclone_core.rules.passwords import normalise_email
from vclone_core.rules.tokens import hash_token, is_token

log = get_log(__name__)

ATTEMPT_S: Final = 600
IDENTIFY_S: Final = 10.0


class Begun(NamedTuple):
    """Where to send the browser, and the secret it has to bring back as a cookie."""

    url: str
    browser_token: str


class Finished(NamedTuple):
    """Who it was. `is_linked`: their identity was added to an account that was signed in; `invited`: they are new, and
    came by an invitation.
    """

    user_id: str
    is_linked: bool = False
    invited: Invitation | None = None


async def begin(platform: Platform, name: str, *, invitation: str | None = None, user_id: str | None = None) -> Begun:
    """Begin to sign in with a provider; with `user_id` its identity is added to that user's account."""
    provider = _find(platform, name)
    browser, state = new_token("browser"), new_token("state")
    await platform.db.execute("delete_old_attempts")
    await platform.db.execute(
        "insert_provider_attempt",
        hash_token(state),
        hash_token(browser),
        name,
        hash_token(invitation) if invitation else None,
        user_id,
        ATTEMPT_S,
    )
    challenge = _encode(hashlib.sha256(make_verifier(browser, state).encode()).digest())
    url = provider.authorise_url(state=state, code_challenge=challenge, redirect_uri=redirect_uri(platform, name))
    return Begun(url, browser)


async def finish(
    platform: Platform, name: str, *, code: str, state: str, browser: str, invitation: str | None = None
) -> Finished:
    """Return who came back. Raises `Invalid` for a state that is not this browser's, was used, or is too old.

    An account is found by the provider's own id of the person, never by an address: whoever can get an address onto an
    account there shall not get into an account here.
    """
    provider = _find(platform, name)
    if not (is_token("state", state) and is_token("browser", browser)):
        raise _bad_attempt()
    attempt = await platform.db.fetch_one("use_provider_attempt", hash_token(state), hash_token(browser), name)
    if attempt is None:
        raise _bad_attempt()
    identity = await _identify(
        provider,
        name,
        code=code,
        verifier=make_verifier(browser, state),
        redirect=redirect_uri(platform, name),
    )
    row = await platform.db.fetch_one("fetch_identity", name, identity.subject)
    if attempt["user_id"] is not None:
        if row is None:
            await _link(platform, name, identity, attempt["user_id"])
        elif row["user_id"] != attempt["user_id"]:
            raise Conflict(what=f"this {provider.label} account belongs to another account here")
        return Finished(attempt["user_id"], is_linked=True)
    if row is not None:
        return Finished(row["user_id"])
    return await _sign_up(platform, provider, name, identity, attempt["invitation_hash"], invitation)


async def _sign_up(
    platform: Platform,
    provider: AuthProvider,
    name: str,
    identity: Identity,
    invitation_hash: bytes | None,
    invitation: str | None,
) -> Finished:
    emails = [known for email in identity.emails if (known := normalise_email(email)) is not None]
    if not emails:
        raise Forbidden(
            what=f"{provider.label} has verified no address of this account",
            hint=f"Verify an address at {provider.label} and try again.",
        )
    signing_in.check_policy(platform, has_invitation=invitation_hash is not None)
    invited = None
    if invitation_hash is not None:
        if invitation is None or hash_token(invitation) != invitation_hash:
            raise NotFound(what="invitation")
        invited = await invitations.find_invitation(platform, invitation)
        if invited.email not in emails:
            raise Forbidden(what=f"this invitation is for an address that {provider.label} has not verified as yours")
    email = emails[0] if invited is None else invited.email
    if await platform.db.fetch_one("fetch_user_by_email", email) is not None:
        raise Conflict(
            what="there is an account with this address already",
            hint=f"Sign in to it another way, then connect {provider.label} on your account's page.",
        )
    async with platform.db.transaction() as tx:
        user_id = await signing_in.insert_user(tx, email=email, name=identity.name[:100])
        await tx.execute("insert_identity", name, identity.subject, user_id, email)
        if invited is not None:
            await invitations.use_invitation(tx, invited, user_id)
    return Finished(user_id, invited=invited)


async def _link(platform: Platform, name: str, identity: Identity, user_id: str) -> None:
    try:
        email = identity.emails[0] if identity.emails else None
        await platform.db.execute("insert_identity", name, identity.subject, user_id, email)
    except Duplicate as error:
        raise Conflict(what="this account was connected a moment ago") from error


async def _identify(provider: AuthProvider, name: str, *, code: str, verifier: str, redirect: str) -> Identity:
    """Ask a plugin, which may hang or fail in ways of its own: neither gets further than here."""
    try:
        async with asyncio.timeout(IDENTIFY_S):
            return await provider.identify(code=code, code_verifier=verifier, redirect_uri=redirect)
    except VcloneError:
        raise
    except Exception as error:
        log.exception("provider.failed", provider=name)
        raise Unavailable(what=provider.label) from error


async def list_identities(platform: Platform, actor: Actor) -> Mapping[str, str | None]:
    """Return the addresses of the providers that are connected to the actor's account, by provider."""
    require(actor, "see one's account")
    return {row["provider"]: row["email"] for row in await platform.db.fetch("list_identities", actor.user_id)}


async def disconnect(platform: Platform, actor: Actor, name: str) -> None:
    """Take a provider off the actor's account; raise `Conflict` when nothing else would sign them in."""
    require(actor, "change one's account")
    others = [other for other in await list_identities(platform, actor) if other != name]
    if not others and not await signing_in.has_password(platform, actor):
        raise Conflict(what="nothing else would sign you in", hint="Set a password first.")
    if not await platform.db.execute("delete_identity", actor.user_id, name):
        raise NotFound(what="connection")


def redirect_uri(platform: Platform, name: str) -> str:
    """Return the one address a provider may send people back to."""
    return f"{platform.settings.api_url.rstrip('/')}/sign-in/with/{quote(name, safe='')}/callback"


def make_verifier(browser: str, state: str) -> str:
    """Return the PKCE verifier (RFC 7636 §4.1). It takes the browser's secret to make it, and is stored nowhere."""
    return _encode(hashlib.sha256(f"{browser}.{state}".encode()).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bad_attempt() -> Invalid:
    return Invalid(
        what="this way to sign in was begun in another browser, was used, or is too old", hint="Begin again."
    )


def _find(platform: Platform, name: str) -> AuthProvider:
    provider = platform.auth_providers.get(name)
    if provider is None:
        raise NotFound(what="way to sign in")
    return provider
