"""Signing in with a password, signing up, changing one's account. Tries are limited, and all cost the same time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from vclone_core.actions import invitations, owners
from vclone_core.actions.platform import Platform
from vclone_core.errors import (
    BadCredentials,
    Duplicate,
    FieldProblem,
    Forbidden,
    InvalidFields,
    NameTaken,
    NotFound,
    SignUpClosed,
    TooManyRequests,
    Unavailable,
)
from vclone_core.log import get_log
from vclone_core.models import Actor, Invitation, User
from vclone_core.rules.access import require
from vclone_core.rules.clients import address_group
from vclone_core.rules.limits import Rate
from vclone_core.rules.passwords import MAX_BYTES, normalise_email, password_problem
from vclone_core.stores import records
from vclone_core.stores.postgres import Queries

log = get_log(__name__)

SIGN_INS_OF_ACCOUNT: Final = Rate("sign-in-account", 5)
SIGN_INS_FROM_ADDRESS: Final = Rate("sign-in-address", 20)
SIGN_UPS_FROM_ADDRESS: Final = Rate("sign-up-address", 10)
PASSWORDS_OF_USER: Final = Rate("password-user", 5)
TRIES_FROM_ADDRESS: Final = Rate("try-address", 60)


class SignedUp(NamedTuple):
    """A new user, and the invitation they came by."""

    user: User
    invited: Invitation | None


async def check_rate(platform: Platform, rate: Rate, key: str) -> None:
    """Count one more; raise `TooManyRequests`, which says when it is worth trying again."""
    verdict = await platform.limiter.take(rate, key)
    if not verdict.is_allowed:
        raise TooManyRequests(retry_after_s=math.ceil(verdict.retry_after_s))


async def sign_in(platform: Platform, *, email: str, password: str, address: str) -> User:
    """Return the user with this address and password; raise `BadCredentials`, whatever of the two was wrong.

    At most 5 tries a minute for an account and 20 from an address (of IPv6: a /64), or `TooManyRequests` is raised.
    """
    known_as = normalise_email(email) or email
    await check_rate(platform, SIGN_INS_FROM_ADDRESS, address_group(address))
    await check_rate(platform, SIGN_INS_OF_ACCOUNT, known_as)
    row = await platform.db.fetch_one("fetch_user_by_email", known_as)
    can_sign_in = row is not None and not row["is_disabled"]
    stored = row["password_hash"] if row is not None and can_sign_in else None
    shown = password if len(password.encode(errors="replace")) <= MAX_BYTES else ""
    check = await platform.passwords.check(stored, shown)
    if row is None or not check.is_right:
        # By its hash: people type passwords into the field for the address.
        log.info("sign_in.refused", account=hashlib.sha256(known_as.encode()).hexdigest()[:12], address=address)
        raise BadCredentials()
    if check.new_hash is not None:
        await platform.db.execute("update_password", row["id"], check.new_hash)
    return records.user_from(row)


async def sign_up(
    platform: Platform, *, email: str, password: str, name: str, invitation: str | None, address: str
) -> SignedUp:
    """Make an account with a team of its own, and join the team of the invitation where there is one.

    Raises `SignUpClosed` where the platform's policy is against it, `InvalidFields`, `NameTaken`, `NotFound` (of the
    invitation), or `Forbidden` when the invitation is for another address.
    """
    check_policy(platform, has_invitation=invitation is not None)
    await check_rate(platform, SIGN_UPS_FROM_ADDRESS, address_group(address))
    known_as = check_fields(email=email, password=password)
    invited = None if invitation is None else await invitations.find_invitation(platform, invitation)
    if invited is not None and invited.email != known_as:
        raise Forbidden(what="this invitation is for another address", hint="Sign up with the address it was made for.")
    password_hash = await platform.passwords.hash(password)
    async with platform.db.transaction() as tx:
        user_id = await insert_user(tx, email=known_as, name=name)
        await tx.execute("update_password", user_id, password_hash)
        if invited is not None:
            await invitations.use_invitation(tx, invited, user_id)
    return SignedUp(User(user_id, known_as, name), invited)


def check_policy(platform: Platform, *, has_invitation: bool) -> None:
    """Raise `SignUpClosed` unless the platform takes a new account, invited or not."""
    policy = platform.settings.sign_up
    if policy == "closed":
        raise SignUpClosed(sentence="No new accounts are made here.", hint="Ask the operator of this platform.")
    if policy == "invite" and not has_invitation:
        raise SignUpClosed()


def check_fields(*, email: str | None = None, password: str | None = None) -> str:
    """Return the address as it is stored; raise `InvalidFields` with all that is wrong."""
    known_as = normalise_email(email) if email is not None else ""
    problems = []
    if known_as is None:
        problems.append(FieldProblem("email", "is not an e-mail address"))
    if password is not None and (problem := password_problem(password, email=known_as or "")):
        problems.append(FieldProblem("password", problem))
    if problems:
        raise InvalidFields(tuple(problems))
    return known_as or ""


async def insert_user(tx: Queries, *, email: str, name: str) -> str:
    """Make a user; raise `NameTaken` when there is one with this address."""
    try:
        return await owners.insert_user(tx, email=email, name=name)
    except Duplicate as error:
        raise NameTaken(
            sentence="There is an account with this address already.", hint="Sign in with it, or use another address."
        ) from error


async def change_password(
    platform: Platform, actor: Actor, *, current: str, new: str, session_id: str | None = None
) -> None:
    """Set a new password; every session of the user but `session_id` ends. API tokens stay.

    Raises `BadCredentials` when there is a password and `current` isn't it.
    """
    require(actor, "change one's account")
    await check_password(platform, actor, current)
    user = await platform.db.fetch_one("fetch_user", actor.user_id)
    try:
        check_fields(email=None if user is None else user["email"], password=new)
    except InvalidFields as error:
        raise InvalidFields(tuple(p for p in error.problems if p.field == "password") or error.problems) from None
    new_hash = await platform.passwords.hash(new)
    async with platform.db.transaction() as tx:
        await tx.execute("update_password", actor.user_id, new_hash)
        await tx.execute("revoke_other_sessions", actor.user_id, session_id)


async def change_account(
    platform: Platform, actor: Actor, *, name: str | None, email: str | None, current: str
) -> tuple[User, Mapping[str, str]]:
    """Change a user's name, or the address they sign in with (which takes the password, where there is one).

    Returns the user and what was changed.
    """
    require(actor, "change one's account")
    row = await platform.db.fetch_one("fetch_user", actor.user_id)
    if row is None:
        raise NotFound(what="user")
    known_as = row["email"] if email is None else check_fields(email=email)
    if known_as != row["email"]:
        await check_password(platform, actor, current)
    try:
        changed = await platform.db.fetch_one(
            "update_user", actor.user_id, row["name"] if name is None else name, known_as
        )
    except Duplicate as error:
        raise NameTaken(sentence="There is an account with this address already.") from error
    if changed is None:
        raise NotFound(what="user")
    return records.user_from(changed), {key: changed[key] for key in ("name", "email") if changed[key] != row[key]}


async def check_password(platform: Platform, actor: Actor, current: str) -> None:
    """Raise `BadCredentials` when the user has a password and `current` isn't it."""
    await check_rate(platform, PASSWORDS_OF_USER, actor.user_id)
    row = await platform.db.fetch_one("fetch_password_hash", actor.user_id)
    if row is None or row["password_hash"] is None:
        return
    if not (await platform.passwords.check(row["password_hash"], current[:MAX_BYTES])).is_right:
        raise BadCredentials(sentence="The current password is not right.")


async def has_password(platform: Platform, actor: Actor) -> bool:
    row = await platform.db.fetch_one("fetch_password_hash", actor.user_id)
    if row is None:
        raise Unavailable(what="The account")
    return row["password_hash"] is not None
