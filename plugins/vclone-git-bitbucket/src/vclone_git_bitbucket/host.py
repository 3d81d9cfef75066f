"""Bitbucket Cloud's REST API: build statuses, one comment. https://developer.atlassian.com/cloud/bitbucket/rest/"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
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
from vclone_git_bitbucket.payloads import read_deliveries

KEY_LENGTH: Final = 40
STATUS: Final = {
    StatusState.PENDING: "INPROGRESS",
    StatusState.SUCCESS: "SUCCESSFUL",
    StatusState.FAILURE: "FAILED",
    StatusState.CANCELLED: "STOPPED",
}


class Bitbucket:
    """bitbucket.org."""

    label = "Bitbucket"
    has_dated_bodies = False
    has_entries = False
    apps: GitApps | None = None

    def api_url(self, server: str) -> str:
        return "https://api.bitbucket.org/2.0" if server == "https://bitbucket.org" else f"{server}/2.0"

    def read_deliveries(self, headers: Sequence[tuple[str, str]], body: bytes, secret: str) -> Sequence[Delivery]:
        return read_deliveries(headers, body, secret)

    async def complete(self, client: HostClient, change: PullRequestChanged) -> PullRequestChanged:
        """Return the pull request with its whole commit id: Bitbucket's payload has the first twelve digits."""
        if not change.is_open:
            return change
        path = f"/repositories/{quote(change.head_repository)}/commit/{quote(change.head_sha, safe='')}"
        found = webhooks.dig_text((await client.ask("GET", path)).body, "hash")
        if not change.head_sha or not found.startswith(change.head_sha):
            raise errors.HostUnavailable(host=self.label, why="its answer is another commit")
        return replace(change, head_sha=found)

    async def set_status(self, client: HostClient, status: CommitStatus) -> None:
        key = status.context
        if len(key) > KEY_LENGTH:
            key = hashlib.sha256(key.encode()).hexdigest()[:KEY_LENGTH]
        body = {
            "state": STATUS[status.state],
            "key": key,
            "name": status.context,
            "description": status.description,
            "url": status.url,
        }
        await client.ask("POST", f"/repositories/{client.repository}/commit/{status.sha}/statuses/build", body)

    async def set_entry(self, client: HostClient, entry: DeploymentEntry, remote_id: str | None) -> str | None:
        return None

    async def set_comment(self, client: HostClient, comment: PullComment, remote_id: str | None) -> str:
        path = f"/repositories/{client.repository}/pullrequests/{comment.number}/comments"
        body = {"content": {"raw": comment.text}}
        remote_id = remote_id or await self._find_comment(client, path, comment)
        if remote_id is not None:
            answer = await client.ask("PUT", f"{path}/{remote_id}", body, accept=(403, 404, 410))
            if answer.status < 300:
                return remote_id
        return read_id((await client.ask("POST", path, body)).body)

    async def _find_comment(self, client: HostClient, path: str, comment: PullComment) -> str | None:
        """Return a comment with our marker: one whose id was lost with the process that made it."""
        found = webhooks.dig((await client.ask("GET", f"{path}?pagelen=100")).body, "values")
        listed = found if isinstance(found, list) else []
        mine = [one for one in listed if webhooks.dig_text(one, "content.raw").startswith(comment.marker)]
        return read_id(mine[0]) if mine else None


def read_id(body: Any) -> str:
    """Return the id in an answer of Bitbucket's."""
    found = webhooks.dig(body, "id")
    if not isinstance(found, int):
        raise errors.HostUnavailable(host="Bitbucket", why="its answer has no id")
    return str(found)
