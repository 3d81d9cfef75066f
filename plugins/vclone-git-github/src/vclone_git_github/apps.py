"""GitHub Apps: made from a manifest, speaking for a repository by a token of an hour.

https://docs.github.com/en/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

from vclone_core import HostClient, MadeApp, errors, webhooks

# GitHub takes at most ten minutes; its clock may be behind ours.
JWT_S: Final = 540
CLOCK_S: Final = 60


class GitHubApps:
    """How Apps of GitHub are made and used."""

    def app_of(self, headers: Sequence[tuple[str, str]]) -> str:
        if webhooks.one_header(headers, "x-github-hook-installation-target-type") != "integration":
            return ""
        return webhooks.one_header(headers, "x-github-hook-installation-target-id")[:20]

    def form_url(self, server: str, *, organisation: str, state: str) -> str:
        owner = f"/organizations/{quote(organisation, safe='')}" if organisation else ""
        return f"{server}{owner}/settings/apps/new?{urlencode({'state': state})}"

    def manifest(self, *, name: str, home_url: str, webhook_url: str, redirect_url: str) -> Mapping[str, Any]:
        return {
            "name": name,
            "url": home_url,
            "hook_attributes": {"url": webhook_url, "active": True},
            "redirect_url": redirect_url,
            "public": False,
            "default_permissions": {
                "contents": "read",
                "deployments": "write",
                "metadata": "read",
                "pull_requests": "write",
                "statuses": "write",
            },
            "default_events": ["pull_request", "push"],
        }

    async def convert(self, client: HostClient, code: str) -> MadeApp:
        made = (await client.ask("POST", f"/app-manifests/{quote(code, safe='')}/conversions")).body
        texts = [webhooks.dig_text(made, name, limit=10_000) for name in ("slug", "html_url", "webhook_secret", "pem")]
        app_id = webhooks.dig(made, "id")
        if not isinstance(app_id, int) or not all(texts):
            raise errors.HostUnavailable(host="GitHub", why="its answer is no App")
        return MadeApp(str(app_id), *texts)

    async def open_repository(self, client: HostClient, app_id: str, private_key: str) -> str:
        import jwt  # what few need, and takes long to load

        now = int(time.time())
        claims = {"iat": now - CLOCK_S, "exp": now + JWT_S - CLOCK_S, "iss": app_id}
        signed = {"Authorization": f"Bearer {jwt.encode(claims, private_key, algorithm='RS256')}"}
        found = (await client.ask("GET", f"/repos/{client.repository}/installation", headers=signed)).body
        installation = webhooks.dig(found, "id")
        if not isinstance(installation, int):
            raise errors.HostUnavailable(host="GitHub", why="its answer is no installation")
        only = {"repositories": [client.repository.rpartition("/")[2]]}
        made = await client.ask("POST", f"/app/installations/{installation}/access_tokens", only, headers=signed)
        token = webhooks.dig_text(made.body, "token")
        if not token:
            raise errors.HostUnavailable(host="GitHub", why="its answer has no token")
        return token
