"""GitLab's REST API: commit statuses, one note. https://docs.gitlab.com/api/rest/"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from vclone_core import GitApps, HostClient, errors, webhooks
from vclone_core.models import (
    CommitStatus,
    Delivery,
    DeploymentEntry,
    PullComment,
    PullRequestChanged,
    StatusState,
)
from vclone_git_gitlab.payloads import read_deliveries

STATUS: Final = {
    StatusState.PENDING: "running",
    StatusState.SUCCESS: "success",
    StatusState.FAILURE: "failed",
    StatusState.CANCELLED: "canceled",
}


class GitLab:
    """gitlab.com, or a server of one's own."""

    label = "GitLab"
    has_dated_bodies = False
    has_entries = False
    apps: GitApps | None = None

    def api_url(self, server: str) -> str:
        return f"{server}/api/v4"

    def read_deliveries(self, headers: Sequence[tuple[str, str]], body: bytes, secret: str) -> Sequence[Delivery]:
        return read_deliveries(headers, body, secret)

    async def complete(self, client: HostClient, change: PullRequestChanged) -> PullRequestChanged:
        return change

    async def set_status(self, client: HostClient, status: CommitStatus) -> None:
        body = {
            "state": STATUS[status.state],
            "name": status.context,
            "description": status.description,
            "target_url": status.url,
        }
        # 400 also says that the status is that one already.
        answer = await client.ask("POST", f"{project(client)}/statuses/{status.sha}", body, accept=(400,))
        said = str(webhooks.dig(answer.body, "message"))
        if answer.status == 400 and "Cannot transition status" not in said:
            raise errors.HostRefused(host=self.label, why=f"a status was answered with 400: {said[:200]}")

    async def set_entry(self, client: HostClient, entry: DeploymentEntry, remote_id: str | None) -> str | None:
        return None

    async def set_comment(self, client: HostClient, comment: PullComment, remote_id: str | None) -> str:
        path = f"{project(client)}/merge_requests/{comment.number}/notes"
        body = {"body": comment.text}
        remote_id = remote_id or await self._find_note(client, path, comment)
        if remote_id is not None:
            answer = await client.ask("PUT", f"{path}/{remote_id}", body, accept=(403, 404))
            if answer.status < 300:
                return remote_id
        return read_id((await client.ask("POST", path, body)).body)

    async def _find_note(self, client: HostClient, path: str, comment: PullComment) -> str | None:
        """Return a note with our marker: one whose id was lost with the process that made it."""
        found = (await client.ask("GET", f"{path}?per_page=100&sort=asc")).body
        mine = [one for one in found or [] if webhooks.dig_text(one, "body").startswith(comment.marker)]
        return read_id(mine[0]) if mine else None


def project(client: HostClient) -> str:
    """Return the address of the client's project below the API's."""
    return f"/projects/{quote(client.repository, safe='')}"


def read_id(body: Any) -> str:
    """Return the id in an answer of GitLab's."""
    found = webhooks.dig(body, "id")
    if not isinstance(found, int):
        raise errors.HostUnavailable(host="GitLab", why="its answer has no id")
    return str(found)
