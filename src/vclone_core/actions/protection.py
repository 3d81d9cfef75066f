"""Who may see a project's sites: the switch, the password, automation's secret, share links, and letting people in.

    edge: who are you? -> /enter: sign in, or the password -> a signed pass for this browser -> back to the edge

An edge that is told of a change lets nobody in any more whom that shuts out: it is a push, as for a publish.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from vclone_core.actions.keys import ring_of, signing_key_identity
from vclone_core.actions.newids import new_id
from vclone_core.actions.platform import Platform
from vclone_core.actions.publishing import wait_receipts
from vclone_core.actions.signing_in import check_rate
from vclone_core.actions.sites import lock_moves, retell
from vclone_core.errors import (
    BadCredentials,
    Conflict,
    FieldProblem,
    Forbidden,
    InvalidFields,
    Limited,
    NotFound,
    VcloneError,
)
from vclone_core.log import get_log
from vclone_core.models import Actor, AliasKind, Covers, EdgeReceipt, Policy, Project, ShareLink
from vclone_core.rules.access import require
from vclone_core.rules.clients import address_group
from vclone_core.rules.limits import Rate
from vclone_core.rules.passes import Pass, Way, hash_bypass, hash_secret, make_key, sign_pass
from vclone_core.rules.passwords import MAX_BYTES
from vclone_core.rules.protection import ENTER_PATH, SHARE_PARAMETER, is_covered, is_local
from vclone_core.rules.sealing import NONCE_BYTES, seal, unseal
from vclone_core.rules.tokens import SPACE, build_token
from vclone_core.stores import events, records
from vclone_core.stores.postgres import Record, Transaction

DAY_S: Final = 24 * 3600
PASS_S: Final = 12 * 3600
LINK_DAYS: Final = 365.0
# An edge holds the ids of all that open a host, with the host.
LINKS_OF_HOST: Final = 20
LINKS_OF_PROJECT: Final = 500
# Shorter than an account's: it is given away to open previews, and tries are few.
PASSWORD_LENGTH: Final = 8

TRIES_FROM_ADDRESS: Final = Rate("site-password-address", 5)
TRIES_OF_PROJECT: Final = Rate("site-password-project", 60)

ENTER: Final = "/enter"

Receipts = tuple[EdgeReceipt, ...]
log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class Entrance:
    """A host that somebody asks to be let in to. `is_open`: nothing holds them up."""

    host: str
    project: str
    is_open: bool
    takes_password: bool
    row: Record


async def show_policy(platform: Platform, actor: Actor, project: Project) -> Policy:
    """Return how a project's sites are protected."""
    require(actor, "see a project")
    return await records.fetch_policy(platform.db, project.id) or _OFF


_OFF: Final = Policy(Covers.OFF, "", "", 0, 0, has_password=False)


async def set_covers(platform: Platform, actor: Actor, project: Project, covers: Covers) -> tuple[Policy, Receipts]:
    """Say which of a project's hosts are protected; returns what the connected edges said of it within two seconds."""

    async def write(tx: Transaction) -> None:
        await tx.execute("set_covers", project.id, covers.value)

    return await _change(platform, actor, project, write)


async def set_password(
    platform: Platform, actor: Actor, project: Project, password: str | None
) -> tuple[Policy, Receipts]:
    """Let in who knows a password, besides members; None: nobody. Whoever came in by the one before is out."""
    require(actor, "change protection")
    hashed = None
    if password is not None:
        if problem := site_password_problem(password):
            raise InvalidFields((FieldProblem("password", problem),))
        hashed = await platform.passwords.hash(password)

    async def write(tx: Transaction) -> None:
        await tx.execute("set_site_password", project.id, hashed)

    return await _change(platform, actor, project, write)


def site_password_problem(password: str) -> str | None:
    """Say what is wrong with the password of a project's sites, None when it is taken."""
    if len(password) < PASSWORD_LENGTH:
        return f"must have at least {PASSWORD_LENGTH} characters"
    if len(password.encode(errors="surrogatepass")) > MAX_BYTES:
        return f"must have at most {MAX_BYTES} bytes"
    return None


async def end_passes(platform: Platform, actor: Actor, project: Project) -> tuple[Policy, Receipts]:
    """Have everybody who was let in, as a member or by password, ask anew. Share links and automation's secret stay."""

    async def write(tx: Transaction) -> None:
        await tx.execute("end_passes", project.id)

    return await _change(platform, actor, project, write)


async def make_bypass(platform: Platform, actor: Actor, project: Project) -> tuple[str, Receipts]:
    """Make a new secret for automation, in the place of the one before, and return it: it is shown this once."""
    secret = build_token("bypass", random=secrets.randbelow(SPACE))

    async def write(tx: Transaction) -> None:
        await tx.execute("set_bypass", project.id, hash_bypass(hash_secret(secret)))

    _, receipts = await _change(platform, actor, project, write)
    return secret, receipts


async def remove_bypass(platform: Platform, actor: Actor, project: Project) -> tuple[Policy, Receipts]:
    """Take automation's secret away, and what it opened."""

    async def write(tx: Transaction) -> None:
        await tx.execute("set_bypass", project.id, None)

    return await _change(platform, actor, project, write)


async def _change(
    platform: Platform, actor: Actor, project: Project, write: Callable[[Transaction], Awaitable[None]]
) -> tuple[Policy, Receipts]:
    require(actor, "change protection")
    async with platform.db.transaction() as tx:
        await lock_moves(tx)
        await _ensure(platform, tx, project)
        await write(tx)
        version = await retell(tx, project.id, actor_id=actor.user_id)
        policy = await records.fetch_policy(tx, project.id)
    assert policy is not None
    return policy, await _tell(platform, version)


async def _ensure(platform: Platform, tx: Transaction, project: Project) -> None:
    """Make a project's keys where it has none; raise `NotFound` when the project is gone."""
    if await tx.fetch_one("fetch_project_by_id", project.id) is None:
        raise NotFound(what="project")
    if await tx.fetch_one("fetch_signing_key", project.id) is None:
        signing, key = make_key(os.urandom(32))
        ring, identity = ring_of(platform.settings), signing_key_identity(project.id)
        sealed = seal(ring, signing, identity=identity, nonce=os.urandom(NONCE_BYTES))
        await tx.execute("insert_protection", project.id, key, sealed.encode(), enter_url(platform))


async def _tell(platform: Platform, version: int) -> Receipts:
    if not version:
        return ()
    await events.announce_moves(platform.redis, version)
    return await wait_receipts(platform, version)


async def end_passes_of_members(tx: Transaction, team_id: str, *, actor_id: str | None) -> int:
    """Have every member of a team ask anew at its protected sites: the access of one of them has become less.

    Returns a version to announce once the transaction is committed; 0: nothing changed.
    """
    await lock_moves(tx)
    versions = [
        await retell(tx, row["project_id"], actor_id=actor_id)
        for row in await tx.fetch("end_passes_of_members", team_id)
    ]
    return max(versions, default=0)


def enter_url(platform: Platform) -> str:
    """Return where visitors are asked who they are: at the API, as its own settings name it."""
    return f"{platform.settings.api_url.rstrip('/')}{ENTER}"


async def note_enter_url(platform: Platform) -> None:
    """Have edges send visitors here; they hear of another address when they look a host up again, in minutes."""
    try:
        await platform.db.execute("set_enter_url", enter_url(platform))
    except VcloneError as error:
        log.warning("enter_url.not_noted", why=error.sentence)


# Share links


async def create_link(
    platform: Platform, actor: Actor, project: Project, *, of: str, name: str = "", days: float = 7.0
) -> tuple[ShareLink, str]:
    """Return a new share link and its URL, which is shown this once. `of`: a host, a branch, or a deployment's id.

    Raises `Conflict` for a host that isn't protected, `Limited` where there are too many.
    """
    require(actor, "share a site")
    if not 0 < days <= LINK_DAYS:
        raise InvalidFields((FieldProblem("days", f"must be above 0 and at most {LINK_DAYS:.0f}"),))
    async with platform.db.transaction() as tx:
        await lock_moves(tx)
        found = await tx.fetch_one("fetch_alias_host", project.id, of)
        if found is None:
            raise NotFound(what="host, branch or deployment", hint="A deployment has a host once it is ready.")
        host = str(found["host"])
        row = await tx.fetch_one("fetch_entrance", host)
        if row is None or not _is_protected(row):
            raise Conflict(what=f"{host} is not protected, so anybody can see it", hint="Share its address as it is.")
        await tx.execute("delete_old_share_links", project.id)
        counted = await tx.fetch_one("count_share_links", project.id, host)
        assert counted is not None
        if counted["of_host"] >= LINKS_OF_HOST or counted["all_of_project"] >= LINKS_OF_PROJECT:
            raise Limited(
                what=f"{LINKS_OF_HOST} share links of a host, {LINKS_OF_PROJECT} of a project",
                hint="Revoke some first.",
            )
        made = await tx.fetch_one(
            "insert_share_link", new_id("share"), project.id, host, name, actor.user_id or None, days * DAY_S
        )
        assert made is not None
        link = records.share_link_from(made)
        version = await retell(tx, project.id, actor_id=actor.user_id, hosts=[host])
    await _tell(platform, version)
    now, ends = int(link.created_at.timestamp()), int(link.expires_at.timestamp())
    text = _sign(platform, row, Pass(Way.LINK, host, now, ends, link=link.id))
    return link, f"{platform.settings.site_url(host)}/?{SHARE_PARAMETER}={text}"


async def list_links(platform: Platform, actor: Actor, project: Project) -> Sequence[ShareLink]:
    """Return the share links that hold, newest first."""
    require(actor, "see a project")
    return [records.share_link_from(row) for row in await platform.db.fetch("list_share_links", project.id)]


async def delete_link(platform: Platform, actor: Actor, project: Project, link_id: str) -> tuple[str, Receipts]:
    """Revoke a share link, and what it opened; returns the host it was for."""
    require(actor, "share a site")
    async with platform.db.transaction() as tx:
        await lock_moves(tx)
        row = await tx.fetch_one("delete_share_link", link_id, project.id)
        if row is None:
            raise NotFound(what="share link")
        host = str(row["host"])
        version = await retell(tx, project.id, actor_id=actor.user_id, hosts=[host])
    return host, await _tell(platform, version)


# Letting people in


async def find_entrance(platform: Platform, host: str) -> Entrance:
    """Return what somebody is asked at a host; raise `NotFound` where nothing is deployed."""
    row = await platform.db.fetch_one("fetch_entrance", host)
    if row is None:
        raise NotFound(what="site")
    takes_password = row["password_hash"] is not None
    return Entrance(row["host"], row["project"], not _is_protected(row), takes_password, row)


def _is_protected(row: Record) -> bool:
    return row["covers"] is not None and is_covered(Covers(row["covers"]), AliasKind(row["kind"]), row["branch"])


async def enter_as_member(
    platform: Platform, entrance: Entrance, user_id: str, *, visitor: str, path: str = "/"
) -> str:
    """Return where to send the browser of a user who may see the project; raise `Forbidden` for any other."""
    row = entrance.row
    member = await platform.db.fetch_one("fetch_visitor", user_id, row["team_id"], row["project_id"])
    if member is None:
        # The same for every project: what it is called, and whose it is, is not told.
        raise Forbidden(what="your account may not see this site", hint="Ask its owner to invite you, or for a link.")
    log.info("protection.entered", host=entrance.host, way="member", user=user_id)
    return _grant(platform, entrance, Way.MEMBER, row["members_generation"], visitor, path)


async def enter_by_password(
    platform: Platform, entrance: Entrance, password: str, *, address: str, visitor: str, path: str = "/"
) -> str:
    """Return where to send the browser of somebody who knows the password; raise `BadCredentials` for anybody else.

    At most 5 tries a minute from an address (of IPv6: a /64) and 60 of a project, or `TooManyRequests` is raised.
    """
    row = entrance.row
    await check_rate(platform, TRIES_FROM_ADDRESS, f"{row['project_id']} {address_group(address)}")
    await check_rate(platform, TRIES_OF_PROJECT, row["project_id"])
    shown = password if len(password.encode(errors="replace")) <= MAX_BYTES else ""
    if not (await platform.passwords.check(row["password_hash"], shown)).is_right:
        log.info("protection.refused", host=entrance.host, address=address)
        raise BadCredentials(sentence="This is not the password.", hint="")
    log.info("protection.entered", host=entrance.host, way="password", address=address)
    return _grant(platform, entrance, Way.PASSWORD, row["password_generation"], visitor, path)


def _grant(platform: Platform, entrance: Entrance, way: Way, generation: int, visitor: str, path: str) -> str:
    now = int(time.time())
    asked = Pass(way, entrance.host, now, now + PASS_S, generation=generation, visitor=visitor)
    text = _sign(platform, entrance.row, asked)
    back = quote(path if is_local(path) else "/", safe="")
    return f"{platform.settings.site_url(entrance.host)}{ENTER_PATH}?grant={text}&to={back}"


def _sign(platform: Platform, row: Record, asked: Pass) -> str:
    identity = signing_key_identity(row["project_id"])
    signing = unseal(ring_of(platform.settings), bytes(row["signing_key"]).decode(), identity=identity)
    return sign_pass(signing, asked)
