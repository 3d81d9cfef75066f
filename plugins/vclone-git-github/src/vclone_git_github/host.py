"""GitHub's REST API: statuses, deployments, one comment. https://docs.github.com/en/rest"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from vclone_core import GitApps, HostClient, errors
from vclone_core.models import CommitStatus, Delivery, DeploymentEntry, PullComment, PullRequestChanged, StatusState
from vclone_git_github.apps import GitHubApps
from vclone_git_github.payloads import read_deliveries

HEADERS: Final = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
# How many pages of a hundred comments are looked through for ours.
PAGES: Final = 3

STATUS: Final = {
    StatusState.PENDING: "pending",
    StatusState.SUCCESS: "success",
    StatusState.FAILURE: "failure",
    StatusState.CANCELLED: "error",
}
ENTRY: Final = {
    StatusState.PENDING: "queued",
    StatusState.SUCCESS: "success",
    StatusState.FAILURE: "failure",
    StatusState.CANCELLED: "inactive",
}


class GitHub:
    """github.com, or an Enterprise Server."""

    label = "GitHub"
    has_dated_bodies = True  # repository.updated_at and pushed_at
    has_entries = True
    apps: GitApps | None = GitHubApps()

    def api_url(self, server: str) -> str:
        return "https://api.github.com" if server == "https://github.com" else f"{server}/api/v3"

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
        await client.ask("POST", f"/repos/{client.repository}/statuses/{status.sha}", body, headers=HEADERS)

    async def set_entry(self, client: HostClient, entry: DeploymentEntry, remote_id: str | None) -> str | None:
        path = f"/repos/{client.repository}/deployments"
        if remote_id is None:
            remote_id = await self._find_entry(client, path, entry) or await self._make_entry(client, path, entry)
        status = {
            "state": "in_progress" if entry.is_under_way else ENTRY[entry.state],
            "description": entry.description,
            "environment_url": entry.url,
            "log_url": entry.log_url,
            # What production shows stays the active one until another one is.
            "auto_inactive": entry.is_production,
        }
        await client.ask("POST", f"{path}/{remote_id}/statuses", status, headers=HEADERS)
        return remote_id

    async def set_comment(self, client: HostClient, comment: PullComment, remote_id: str | None) -> str:
        body = {"body": comment.text}
        remote_id = remote_id or await self._find_comment(client, comment)
        if remote_id is not None:
            path = f"/repos/{client.repository}/issues/comments/{remote_id}"
            # It may have been deleted, or be somebody else's who wrote our marker.
            answer = await client.ask("PATCH", path, body, accept=(403, 404, 410), headers=HEADERS)
            if answer.status < 300:
                return remote_id
        path = f"/repos/{client.repository}/issues/{comment.number}/comments"
        return read_id((await client.ask("POST", path, body, headers=HEADERS)).body)

    async def _find_entry(self, client: HostClient, path: str, entry: DeploymentEntry) -> str | None:
        """Return an entry of this very deployment that was made by a call whose answer was lost."""
        found = (await client.ask("GET", f"{path}?sha={entry.sha}&per_page=100", headers=HEADERS)).body
        mine = [one for one in found or [] if isinstance(one, dict) and one.get("payload") == payload_of(entry)]
        return read_id(mine[0]) if mine else None

    async def _make_entry(self, client: HostClient, path: str, entry: DeploymentEntry) -> str:
        body = {
            "ref": entry.sha,
            "environment": entry.environment,
            "production_environment": entry.is_production,
            "transient_environment": not entry.is_production,
            "description": entry.description,
            "payload": payload_of(entry),
            # It is deployed whatever the repository's checks say: it is being built already.
            "auto_merge": False,
            "required_contexts": [],
        }
        return read_id((await client.ask("POST", path, body, headers=HEADERS)).body)

    async def _find_comment(self, client: HostClient, comment: PullComment) -> str | None:
        """Return a comment with our marker: one whose id was lost with the process that made it."""
        for page in range(1, PAGES + 1):
            path = f"/repos/{client.repository}/issues/{comment.number}/comments?per_page=100&page={page}"
            found = (await client.ask("GET", path, headers=HEADERS)).body
            for one in found or []:
                if isinstance(one, dict) and str(one.get("body") or "").startswith(comment.marker):
                    return read_id(one)
            if not isinstance(found, list) or len(found) < 100:
                break
        return None


def payload_of(entry: DeploymentEntry) -> dict[str, str]:
    return {"vclone": entry.log_url}


def read_id(body: Any) -> str:
    """Return the id in an answer of GitHub's."""
    found = body.get("id") if isinstance(body, Mapping) else None
    if not isinstance(found, int):
        raise errors.HostUnavailable(host="GitHub", why="its answer has no id")
    return str(found)
