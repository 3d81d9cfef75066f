"""A project that follows a repository at a git host: connecting, the secrets of it, and what came over it."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vclone_core.actions.keys import git_secret_identity, ring_of
from vclone_core.actions.newids import new_id
from vclone_core.actions.platform import Platform
from vclone_core.errors import Conflict, FieldProblem, InvalidFields, NotFound
from vclone_core.models import Actor, GitConnection, GitReport, PastDelivery, Project, PullRequest
from vclone_core.rules.access import require
from vclone_core.rules.clones import check_git_url
from vclone_core.rules.githosts import find_repository, is_of_repository
from vclone_core.rules.sealing import NONCE_BYTES, seal, unseal
from vclone_core.rules.tokens import SPACE, build_token
from vclone_core.stores.postgres import Queries

DELIVERIES_SHOWN: Final = 50
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)+")
_TOKEN: Final = re.compile(r"[!-~]{8,1000}")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9._@+-]{0,100}")


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection, its webhook's address, and the webhook's secret where it is a new one: it is shown this once."""

    connection: GitConnection
    webhook_url: str
    secret: str | None


def connection_from(row: Mapping[str, Any]) -> GitConnection:
    names = ("id", "project_id", "host", "api_url", "repository", "account", "git_app_id", "created_at")
    return GitConnection(**{name: row[name] for name in names})


def pull_request_from(row: Mapping[str, Any]) -> PullRequest:
    return PullRequest(**{name: row[name] for name in PullRequest.__dataclass_fields__})


def delivery_from(row: Mapping[str, Any]) -> PastDelivery:
    return PastDelivery(**{name: row[name] for name in PastDelivery.__dataclass_fields__})


async def connect(
    platform: Platform,
    actor: Actor,
    project: Project,
    *,
    host: str,
    git_url: str | None = None,
    repository: str | None = None,
    api_url: str | None = None,
    token: str | None = None,
    account: str = "",
    git_app_id: str | None = None,
    new_secret: bool = False,
) -> Connected:
    """Have a project follow the repository at `git_url` (None: its own), in place of what it followed before.

    `repository` is what the host calls it, where its server lies below a path: the end of the address's own.
    `token` opens the host's API, for statuses and comments; None keeps an earlier one of the same repository. With
    `git_app_id` an App's webhook tells of the repository. Raises `InvalidFields` with every problem.
    """
    require(actor, "connect a repository")
    kind = platform.git_hosts.get(host)
    git_url = git_url or project.git_url or ""
    problems = []
    if kind is None:
        there = ", ".join(sorted(platform.git_hosts)) or "none"
        problems.append(FieldProblem("host", f"no plugin here knows it; installed: {there}"))
    is_insecure_allowed = platform.settings.git_allow_insecure
    if problem := check_git_url(git_url, is_insecure_allowed=is_insecure_allowed):
        problems.append(FieldProblem("git_url", problem if git_url else "the project has none: name the repository"))
    elif not _REPOSITORY.fullmatch(find_repository(git_url)[1]):
        problems.append(FieldProblem("git_url", "names no repository of an owner"))
    elif repository and not (_REPOSITORY.fullmatch(repository) and is_of_repository(git_url, repository)):
        problems.append(FieldProblem("repository", "is not the end of the address"))
    if api_url and check_git_url(f"{api_url.rstrip('/')}/x", is_insecure_allowed=is_insecure_allowed):
        problems.append(FieldProblem("api_url", "is no address of an API"))
    if token is not None and not _TOKEN.fullmatch(token):
        problems.append(FieldProblem("token", "must be 8 to 1000 visible ASCII characters"))
    if not _ACCOUNT.fullmatch(account):
        problems.append(FieldProblem("account", "has characters that no account has"))
    if git_app_id is not None and await _find_app(platform, actor, git_app_id, host) is None:
        problems.append(FieldProblem("git_app_id", "there is no such App of this team at this host"))
    if problems:
        raise InvalidFields(tuple(problems))
    assert kind is not None
    server, path = find_repository(git_url)
    repository = repository or path
    api_url = (api_url or kind.api_url(server)).rstrip("/")
    before = await platform.db.fetch_one("fetch_git_connection", project.id)
    is_same = before is not None and (before["host"], before["api_url"], before["repository"].lower()) == (
        host,
        api_url,
        repository.lower(),
    )
    secret = None
    async with platform.db.transaction() as tx:
        if before is not None and not is_same:
            # Deliveries and secrets of another repository are none of this one's.
            await tx.execute("delete_git_connection", project.id)
        creator = actor.user_id or None
        values = (project.id, host, api_url, repository, account, git_app_id, creator)
        row = await tx.fetch_one("save_git_connection", new_id("git_connection"), *values)
        assert row is not None
        connection = connection_from(row)
        if git_app_id is not None:
            await tx.execute("delete_git_secret", connection.id, "webhook")
        elif new_secret or not is_same or await tx.fetch_one("fetch_git_secret", connection.id, "webhook") is None:
            secret = build_token("webhook", random=secrets.randbelow(SPACE))
            await save_secret(platform, tx, connection.id, "webhook", secret)
        if token is not None:
            await save_secret(platform, tx, connection.id, "token", token)
        if git_url != project.git_url:
            await tx.execute("set_git_url", project.id, git_url)
    return Connected(connection, webhook_url(platform, connection), secret)


async def find_connection(platform: Platform, actor: Actor, project: Project) -> GitConnection:
    """Return a project's connection; raise `NotFound` where it has none."""
    require(actor, "see a project")
    row = await platform.db.fetch_one("fetch_git_connection", project.id)
    if row is None:
        raise NotFound(what="git connection", hint="`vclone git connect` makes one.")
    return connection_from(row)


async def disconnect(platform: Platform, actor: Actor, project: Project) -> None:
    """End a connection: its webhook is answered with 401 from now on, its secrets are forgotten."""
    require(actor, "connect a repository")
    await find_connection(platform, actor, project)
    await platform.db.execute("delete_git_connection", project.id)


async def list_deliveries(
    platform: Platform, actor: Actor, project: Project, *, limit: int = DELIVERIES_SHOWN
) -> list[PastDelivery]:
    """Return what arrived over a project's connection, newest first."""
    connection = await find_connection(platform, actor, project)
    return [delivery_from(row) for row in await platform.db.fetch("list_deliveries", connection.id, limit)]


async def repeat_delivery(platform: Platform, actor: Actor, project: Project, number: int) -> PastDelivery:
    """Have a delivery handled once more, as if its host had sent it again; a late one stays late."""
    require(actor, "connect a repository")
    connection = await find_connection(platform, actor, project)
    row = await platform.db.fetch_one("repeat_delivery", connection.id, number)
    if row is None:
        raise NotFound(what="delivery that is handled")
    return delivery_from(row)


async def list_reports(platform: Platform, actor: Actor, project: Project, *, limit: int = 50) -> list[GitReport]:
    """Return what the host was told of a project of late, and what it wasn't, with the reason."""
    require(actor, "see a project")
    names = GitReport.__dataclass_fields__
    rows = await platform.db.fetch("list_reports", project.id, limit)
    return [GitReport(**{name: row[name] for name in names}) for row in rows]


async def repeat_reports(platform: Platform, actor: Actor, project: Project) -> int:
    """Have everything told again that was given up; return how much that is."""
    require(actor, "connect a repository")
    return await platform.db.execute("repeat_reports", project.id)


async def list_pull_requests(platform: Platform, actor: Actor, project: Project) -> list[PullRequest]:
    """Return a project's open pull requests, newest first."""
    require(actor, "see a project")
    return [pull_request_from(row) for row in await platform.db.fetch("list_pull_requests", project.id, 100)]


def webhook_url(platform: Platform, connection: GitConnection) -> str:
    """Return the address that a repository's webhook is to send to."""
    address = f"{platform.settings.api_url.rstrip('/')}/api/webhooks/{connection.host}"
    return address if connection.git_app_id else f"{address}?connection={connection.id}"


async def save_secret(platform: Platform, db: Queries, owner_id: str, name: str, secret: str) -> None:
    """Seal and keep a secret of a connection or an App, in place of an earlier one of that name."""
    secret_id = new_id("git_secret")
    identity = git_secret_identity(secret_id)
    sealed = seal(ring_of(platform.settings), secret, identity=identity, nonce=os.urandom(NONCE_BYTES))
    await db.execute("save_git_secret", secret_id, owner_id, name, sealed.encode())


async def open_secret(platform: Platform, owner_id: str, name: str) -> str | None:
    """Return a secret of a connection or an App; None where there is none of that name."""
    row = await platform.db.fetch_one("fetch_git_secret", owner_id, name)
    return None if row is None else unseal_secret(platform, row["id"], row["value"])


def unseal_secret(platform: Platform, secret_id: str, value: bytes) -> str:
    """Return what a row of `git_secrets` holds."""
    return unseal(ring_of(platform.settings), bytes(value).decode(), identity=git_secret_identity(secret_id))


async def _find_app(platform: Platform, actor: Actor, git_app_id: str, host: str) -> Mapping[str, Any] | None:
    row = await platform.db.fetch_one("fetch_git_app", git_app_id)
    if row is None or row["team_id"] != actor.team_id or row["host"] != host:
        return None
    if row["app_id"] is None:
        raise Conflict(what="this App was not finished at its host", hint="Begin again with `vclone git app`.")
    return row
