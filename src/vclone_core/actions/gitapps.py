"""Apps at git hosts: begun here, made by the host from a manifest that a person's browser brings, and kept sealed.

begin: a row with a state -> the browser posts the manifest to the host -> finish: the state, once, by the same
person -> the host's answer to the code: the App's id, its webhook's secret, its key
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from vclone_core.actions.gitconnections import connection_from, save_secret
from vclone_core.actions.gitreports import HostDesk
from vclone_core.actions.newids import new_id
from vclone_core.actions.platform import Platform
from vclone_core.errors import (
    Conflict,
    Duplicate,
    FieldProblem,
    HostRefused,
    HostUnavailable,
    Invalid,
    InvalidFields,
    NotFound,
)
from vclone_core.log import get_log
from vclone_core.models import Actor, GitApp, Source
from vclone_core.rules.access import require
from vclone_core.rules.clones import GitAccess, check_git_url
from vclone_core.rules.githosts import find_repository
from vclone_core.rules.tokens import SPACE, build_token, hash_token, is_token

log = get_log(__name__)

# Whoever makes an App may have to sign in at the host first.
BEGUN_S: Final = 3600.0
HOST: Final = "github"
ACCOUNT: Final = "x-access-token"


@dataclass(frozen=True, slots=True, repr=False)
class Begun:
    """Where the browser takes the manifest (JSON), as the form field `manifest`."""

    app_id: str
    form_url: str
    manifest: str


async def begin(
    platform: Platform, actor: Actor, *, server: str, organisation: str = "", name: str = "", api_url: str | None = None
) -> Begun:
    """Begin to make an App at `server`, of the person there or of an organisation. Raises `InvalidFields`."""
    require(actor, "change git access")
    host = platform.git_hosts.get(HOST)
    if host is None or host.apps is None:
        raise NotFound(what="git host with Apps")
    server = server.rstrip("/")
    problems = []
    is_insecure_allowed = platform.settings.git_allow_insecure
    for field, url in (("server", server), ("api_url", api_url)):
        if url and check_git_url(f"{url.rstrip('/')}/x", is_insecure_allowed=is_insecure_allowed):
            problems.append(FieldProblem(field, "is no https:// address"))
    if len(organisation) > 100 or not organisation.isprintable() or "/" in organisation:
        problems.append(FieldProblem("organisation", "is no name of one"))
    # GitHub's limit; names are unique there.
    name = name or f"vclone {urlsplit(platform.settings.api_url).hostname} {secrets.token_hex(2)}"
    if len(name) > 34 and not problems:
        name = name[:34].strip()
    if problems:
        raise InvalidFields(tuple(problems))
    state, app_id = build_token("state", random=secrets.randbelow(SPACE)), new_id("git_app")
    home = platform.settings.api_url.rstrip("/")
    values = (actor.team_id, HOST, (api_url or host.api_url(server)).rstrip("/"), hash_token(state))
    await platform.db.execute("delete_old_git_apps")
    await platform.db.execute("insert_git_app", app_id, *values, actor.user_id or None, BEGUN_S)
    manifest = host.apps.manifest(
        name=name,
        home_url=home,
        webhook_url=f"{home}/api/webhooks/{HOST}",
        redirect_url=f"{home}/git-apps/callback",
    )
    return Begun(app_id, host.apps.form_url(server, organisation=organisation, state=state), json.dumps(manifest))


async def finish(platform: Platform, actor: Actor, *, code: str, state: str) -> GitApp:
    """Keep the App that the host has made. Raises `Invalid` for a state of somebody else's, a used or an old one."""
    require(actor, "change git access")
    if not is_token("state", state) or not 0 < len(code) <= 200 or not code.isalnum():
        raise _bad_state()
    row = await platform.db.fetch_one("use_git_app_state", hash_token(state), actor.team_id, actor.user_id or None)
    if row is None:
        raise _bad_state()
    host = platform.git_hosts[row["host"]]
    assert host.apps is not None
    desk = HostDesk(platform)
    try:
        made = await host.apps.convert(await desk.client(host, row["api_url"]), code)
    finally:
        await desk.close()
    try:
        async with platform.db.transaction() as tx:
            await save_secret(platform, tx, row["id"], "webhook", made.webhook_secret)
            await save_secret(platform, tx, row["id"], "key", made.private_key)
            done = await tx.fetch_one("finish_git_app", row["id"], made.app_id, made.slug, made.url)
    except Duplicate as error:
        raise Conflict(what="this App is known here already") from error
    if done is None:
        raise _bad_state()
    return app_from(done)


async def list_apps(platform: Platform, actor: Actor) -> list[GitApp]:
    """Return the team's Apps that are finished."""
    require(actor, "see git access")
    return [app_from(row) for row in await platform.db.fetch("list_git_apps", actor.team_id)]


async def delete(platform: Platform, actor: Actor, app_id: str) -> None:
    """Forget an App with its secrets, and the connections by it."""
    require(actor, "change git access")
    if await platform.db.fetch_one("delete_git_app", app_id, actor.team_id) is None:
        raise NotFound(what="App")


async def find_app_access(platform: Platform, project_id: str, source: Source) -> GitAccess | None:
    """Return what a build of `source` may show to its host, by the App that the project follows its repository by.

    None for every other repository, for a fork's code, and where the host gives nothing.
    """
    if source.kind != "git" or source.url is None or source.fork is not None:
        return None
    row = await platform.db.fetch_one("fetch_git_connection", project_id)
    if row is None or row["git_app_id"] is None:
        return None
    connection, (server, repository) = connection_from(row), find_repository(source.url)
    host = platform.git_hosts.get(connection.host)
    if host is None or repository.lower() != connection.repository.lower():
        return None
    desk = HostDesk(platform)
    try:
        token = await desk.open_app(host, connection)
    except (HostRefused, HostUnavailable) as error:
        log.warning("app.refused", project=project_id, why=error.sentence)
        return None
    finally:
        await desk.close()
    return GitAccess(origin=server, account=ACCOUNT, token=token)


def app_from(row: Mapping[str, Any]) -> GitApp:
    return GitApp(**{name: row[name] for name in GitApp.__dataclass_fields__})


def _bad_state() -> Invalid:
    return Invalid(what="this App was begun by somebody else, was finished already, or is too old", hint="Begin again.")
