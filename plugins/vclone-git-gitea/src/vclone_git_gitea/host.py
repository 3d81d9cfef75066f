"""Gitea's REST API, which is Forgejo's too: statuses, one comment. https://docs.gitea.com/api/"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from vclone_core import GitApps, HostClient, errors, webhooks
from vclone_core.models import (
    CommitStatus,
    Delivery,
    DeploymentEntry,
    PullComment,
    PullRequestChanged,
    StatusState,
)
from vclone_git_gitea.payloads import read_deliveries

STATUS: Final = {
    StatusState.PENDING: "pending",
    StatusState.SUCCESS: "success",
    StatusState.FAILURE: "failure",
    StatusState.CANCELLED: "error",
}


class Gitea:
    """A Gitea or Forgejo server."""

    label = "Gitea"
    has_dated_bodies = False
    has_entries = False
    apps: GitApps | None = None

    def api_url(self, server: str) -> str:
        return f"{server}/api/v1"

    def read_deliveries(self, headers: Sequence[tuple[str, str]], body: bytes, secret: str) -> Sequence[Delivery]:
        return read_deliveries(headers, body, secret)

    async def complete(self, client: HostClient, change: PullRequestChanged) -> PullRequestChanged:
        return change

    async def set_status(self, client: HostClient, status: CommitStatus) -> None:
        body = {
            "state": STATUS[status.state],
            "context": status.context,
            "description": status.description,
            "target_url": status.url,
        }
        await client.ask("POST", f"/repos/{client.repository}/statuses/{status.sha}", body)

    async def set_entry(self, client: HostClient, entry: DeploymentEntry, remote_id: str | None) -> str | None:
        return None

    async def set_comment(self, client: HostClient, comment: PullComment, remote_id: str | None) -> str:
        issues, body = f"/repos/{client.repository}/issues", {"body": comment.text}
        path = f"{issues}/{comment.number}/comments"
        remote_id = remote_id or await self._find_comment(client, path, comment)
        if remote_id is not None:
            answer = await client.ask("PATCH", f"{issues}/comments/{remote_id}", body, accept=(403, 404))
            if answer.status in (200, 201):  # 204 says that the comment is no comment any more
                return remote_id
        return read_id((await client.ask("POST", path, body)).body)

    async def _find_comment(self, client: HostClient, path: str, comment: PullComment) -> str | None:
        """Return a comment with our marker: one whose id was lost with the process that made it."""
        found = (await client.ask("GET", path)).body
        mine = [one for one in found or [] if webhooks.dig_text(one, "body").startswith(comment.marker)]
        return read_id(mine[0]) if mine else None


def read_id(body: Any) -> str:
    """Return the id in an answer of Gitea's."""
    found = webhooks.dig(body, "id")
    if not isinstance(found, int):
        raise errors.HostUnavailable(host="Gitea", why="its answer has no id")
    return str(found)
