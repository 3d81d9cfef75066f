"""What an edge asks when it meets a host it doesn't know (request flow, step resolve)."""

from __future__ import annotations

from typing import Any

from vclone_core.actions.deployments import resolve_host
from vclone_core.errors import NoSuchSite
from vclone_core.rules.sites import encode_site

from ..guard import Call


async def show_site(call: Call, host: str) -> dict[str, Any]:
    """The site that a host shows."""
    site = await resolve_host(call.platform, host)
    if site is None:
        raise NoSuchSite()
    return encode_site(site)
