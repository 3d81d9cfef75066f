"""Tokens that open private repositories: one for a team and a host, sealed in the database, read by builds alone."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypedDict
from urllib.parse import urlsplit

from vclone_core.actions.keys import git_token_identity, ring_of
from vclone_core.actions.newids import new_id
from vclone_core.actions.platform import Platform
from vclone_core.errors import FieldProblem, InvalidFields, NotFound
from vclone_core.models import Actor, Source
from vclone_core.rules.access import require
from vclone_core.rules.clones import GitAccess, check_git_url
from vclone_core.rules.sealing import NONCE_BYTES, seal, unseal

# What hosts take for a user name beside a token: GitHub, GitLab, Gitea and Bitbucket all take this one.
ACCOUNT: Final = "x-access-token"
_TOKEN: Final = re.compile(r"[!-~]{8,1000}")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9._@+-]{1,100}")


class GitToken(TypedDict):
    """A token without its value."""

    host: str
    account: str
    created_at: datetime


async def save_token(platform: Platform, actor: Actor, host: str, token: str, *, account: str = ACCOUNT) -> GitToken:
    """Keep the token that opens a host's repositories to the team's builds, in place of an earlier one.

    `host` is a name, with `:port` where that isn't 443. Raises `InvalidFields`.
    """
    require(actor, "change git access")
    problems = []
    if check_git_url(f"https://{host}/x", is_insecure_allowed=True) or "/" in host:
        problems.append(FieldProblem("host", "is not a host name"))
    if not _TOKEN.fullmatch(token):
        problems.append(FieldProblem("token", "must be 8 to 1000 visible ASCII characters"))
    if not _ACCOUNT.fullmatch(account):
        problems.append(FieldProblem("account", "has characters that no account has"))
    if problems:
        raise InvalidFields(tuple(problems))
    token_id = new_id("git_token")
    sealed = seal(
        ring_of(platform.settings), token, identity=git_token_identity(token_id), nonce=os.urandom(NONCE_BYTES)
    )
    row = await platform.db.fetch_one("save_git_token", token_id, actor.team_id, host.lower(), account, sealed.encode())
    assert row is not None
    return _shape(row)


async def list_tokens(platform: Platform, actor: Actor) -> list[GitToken]:
    """Return the team's tokens, without their values."""
    require(actor, "see git access")
    return [_shape(row) for row in await platform.db.fetch("list_git_tokens", actor.team_id)]


async def delete_token(platform: Platform, actor: Actor, host: str) -> None:
    """Forget a host's token; raise `NotFound` where there is none."""
    require(actor, "change git access")
    if not await platform.db.execute("delete_git_token", actor.team_id, host.lower()):
        raise NotFound(what="git token")


async def find_access(platform: Platform, team_id: str, source: Source) -> GitAccess | None:
    """Return what a build of `source` may show to its host; None for no token, and for another repository's code."""
    if source.kind != "git" or source.url is None or source.fork is not None:
        return None
    parts = urlsplit(source.url)
    row = await platform.db.fetch_one("fetch_git_token", team_id, parts.netloc.lower())
    if row is None:
        return None
    value = unseal(ring_of(platform.settings), bytes(row["value"]).decode(), identity=git_token_identity(row["id"]))
    return GitAccess(origin=f"{parts.scheme}://{parts.netloc}", account=row["account"], token=value)


def _shape(row: Mapping[str, Any]) -> GitToken:
    return {"host": row["host"], "account": row["account"], "created_at": row["created_at"]}
