"""What git hosts are told of deployments: a commit's status, an entry, a pull request's one comment.

committed change -> a row that says "something new" (`gitnotes`) -> whoever takes the row tells how things stand by then

So a host that is down hears late and only the latest, nothing overtakes, and no deploy waits for a host.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vclone_core.actions.gitconnections import connection_from, open_secret, pull_request_from
from vclone_core.actions.platform import Platform
from vclone_core.errors import HostRefused, VcloneError
from vclone_core.log import get_log
from vclone_core.models import (
    CommitStatus,
    Deployment,
    GitConnection,
    Project,
    State,
    StatusState,
)
from vclone_core.protocols import GitHost, HostClient
from vclone_core.rules.addresses import parse_allowed
from vclone_core.rules.githosts import Shown, decide_rest, describe_entry, describe_state, write_comment
from vclone_core.rules.names import deployment_host
from vclone_core.settings import Settings
from vclone_core.stores import records
from vclone_core.stores.postgres import Record

if TYPE_CHECKING:
    from vclone_core.stores.outbound import Outbound

log = get_log(__name__)

# Longer than a report may take: the comment asks at most five times.
LEASE_S: Final = 90.0
TELL_S: Final = 60.0
# Hosts give an App's token an hour.
TOKEN_S: Final = 1800.0


@dataclass(slots=True)
class HostDesk:
    """Speaks to git hosts: one guarded client, and the tokens of Apps while they are good. `close` it at the end."""

    platform: Platform
    _outbound: Outbound | None = None
    _tokens: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)

    async def close(self) -> None:
        """Close every connection; the next client opens new ones."""
        if self._outbound is not None:
            await self._outbound.close()
            self._outbound = None

    async def client(
        self, host: GitHost, api_url: str, repository: str = "", token: str = "", account: str = ""
    ) -> HostClient:
        """Return a client for one repository, by the policy of the platform's settings."""
        # An HTTP client takes long to load: only who speaks to a host waits for it.
        from vclone_core.stores.githosts import HostCaller
        from vclone_core.stores.outbound import Outbound

        if self._outbound is None:
            self._outbound = Outbound(parse_allowed(self.platform.settings.outbound_allow.split(",")))
            await self._outbound.start()
        return HostCaller(self._outbound, host.label, api_url, repository, token, account)

    async def open(self, host: GitHost, connection: GitConnection) -> HostClient:
        """Return the client that speaks for a connection; raise `HostRefused` where it has nothing to speak with."""
        token, account = await self._find_token(host, connection), connection.account
        return await self.client(host, connection.api_url, connection.repository, token, account)

    async def _find_token(self, host: GitHost, connection: GitConnection) -> str:
        if (token := await open_secret(self.platform, connection.id, "token")) is not None:
            return token
        return await self.open_app(host, connection)

    async def open_app(self, host: GitHost, connection: GitConnection) -> str:
        """Return a token of the App that a connection is by, good for some minutes at least."""
        if connection.git_app_id is None or host.apps is None:
            raise HostRefused(host=host.label, why="the project's connection has no token")
        known, good_until_s = self._tokens.get((connection.git_app_id, connection.repository), ("", 0.0))
        if good_until_s > time.monotonic():
            return known
        row = await self.platform.db.fetch_one("fetch_git_app", connection.git_app_id)
        key = await open_secret(self.platform, connection.git_app_id, "key")
        if row is None or row["app_id"] is None or key is None:
            raise HostRefused(host=host.label, why="the App of the project's connection is not there")
        client = await self.client(host, connection.api_url, connection.repository)
        made = await host.apps.open_repository(client, row["app_id"], key)
        self._tokens[connection.git_app_id, connection.repository] = (made, time.monotonic() + TOKEN_S)
        return made


async def tell_next(desk: HostDesk) -> bool:
    """Tell one thing that waits to be told; False where there is none. What fails is tried again with growing rests."""
    platform = desk.platform
    row = await platform.db.fetch_one("claim_report", LEASE_S)
    if row is None:
        return False
    key = (row["project_id"], row["part"], row["subject"])
    try:
        async with asyncio.timeout(TELL_S):
            remote_id = await _tell(desk, row)
    except HostRefused as error:
        log.warning("report.refused", project=key[0], part=key[1], subject=key[2], why=error.sentence)
        await platform.db.execute("miss_report", *key, row["wanted"], None, error.sentence)
    except Exception as error:
        if not isinstance(error, VcloneError | TimeoutError):
            log.exception("report.crashed", project=key[0], part=key[1], subject=key[2])
        facts: dict[str, Any] = error.facts if isinstance(error, VcloneError) else {}
        why = error.sentence if isinstance(error, VcloneError) else f"{type(error).__name__} while it was told"
        rest_s = decide_rest(row["attempt"], asked_s=facts.get("retry_after_s"))
        log.warning("report.missed", project=key[0], part=key[1], subject=key[2], why=why, rest_s=rest_s)
        await platform.db.execute("miss_report", *key, row["wanted"], rest_s, why)
    else:
        await platform.db.execute("finish_report", *key, row["wanted"], remote_id)
    return True


async def _tell(desk: HostDesk, row: Record) -> str | None:
    """Find out how things stand and tell it; return what the host calls it, None where it has no name."""
    platform = desk.platform
    project = await records.fetch_project_by_id(platform.db, row["project_id"])
    found = await platform.db.fetch_one("fetch_git_connection", row["project_id"])
    if project is None or found is None:
        return None
    connection = connection_from(found)
    host = platform.git_hosts.get(connection.host)
    if host is None:
        raise HostRefused(host=connection.host, why="no plugin here speaks to it")
    client = await desk.open(host, connection)
    return await _PARTS[row["part"]](platform, host, client, project, row)


async def _tell_status(platform: Platform, host: GitHost, client: HostClient, project: Project, row: Record) -> None:
    sha, context = row["subject"], f"vclone/{project.name}"
    found = await platform.db.fetch_one("fetch_newest_of_commit", project.id, sha)
    if found is not None:
        deployment = records.deployment_from(found)
        state, words = describe_state(deployment)
        shown = show(platform.settings, project, deployment)
        url = shown.url if deployment.state is State.READY else shown.log_url
        await host.set_status(client, CommitStatus(sha, state, context, words, url))
        return
    waiting = await platform.db.fetch_one("fetch_waiting_commit", project.id, sha)
    if waiting is not None and waiting["waits"]:
        words, url = "Waiting for the approval of a member", project_url(platform.settings, project)
        await host.set_status(client, CommitStatus(sha, StatusState.PENDING, context, words, url))


async def _tell_entry(
    platform: Platform, host: GitHost, client: HostClient, project: Project, row: Record
) -> str | None:
    deployment = await records.fetch_deployment_by_id(platform.db, row["subject"])
    if deployment is None:
        return None
    shown = show(platform.settings, project, deployment)
    entry = describe_entry(project, deployment, url=shown.url, log_url=shown.log_url)
    return await host.set_entry(client, entry, row["remote_id"])


async def _tell_comment(
    platform: Platform, host: GitHost, client: HostClient, project: Project, row: Record
) -> str | None:
    found = await platform.db.fetch_one("fetch_pull_request", project.id, int(row["subject"]))
    if found is None or (not found["is_open"] and row["remote_id"] is None):
        return None
    pull = pull_request_from(found)
    newest = await platform.db.fetch_one("fetch_newest_deployment_of_ref", project.id, pull.preview_ref)
    deployment = shown = None
    if newest is not None:
        deployment = records.deployment_from(newest)
        alias = await platform.db.fetch_one("fetch_branch_alias", project.id, pull.preview_ref, deployment.id)
        shown = show(platform.settings, project, deployment, branch_host=alias["host"] if alias else "")
    comment = write_comment(
        project,
        pull,
        deployment,
        shown,
        project_url=project_url(platform.settings, project),
        marker=make_marker(platform.settings, project, pull.number),
    )
    return await host.set_comment(client, comment, row["remote_id"])


_PARTS: Final = {"status": _tell_status, "entry": _tell_entry, "comment": _tell_comment}


def show(settings: Settings, project: Project, deployment: Deployment, *, branch_host: str = "") -> Shown:
    """Return where a deployment is to be seen."""
    return Shown(
        url=settings.site_url(deployment_host(project.name, deployment.id, settings.base_domain)),
        branch_url=settings.site_url(branch_host) if branch_host else "",
        log_url=f"{settings.api_url.rstrip('/')}/deployments/{deployment.id}",
    )


def project_url(settings: Settings, project: Project) -> str:
    return f"{settings.api_url.rstrip('/')}/projects/{project.name}/git"


def make_marker(settings: Settings, project: Project, number: int) -> str:
    """Return what our comment begins with, and nobody else's can have begun with before it.

    A reference that nothing refers to: every host's Markdown shows nothing of it, also those that show HTML comments.
    """
    key = settings.secret_key.get_secret_value().encode()
    digest = hmac.new(key, f"comment:{project.id}:{number}".encode(), hashlib.sha256).hexdigest()
    return f"[//]: # (vclone:{project.id}:{digest[:24]})"
