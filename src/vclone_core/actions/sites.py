"""What edges are told of a host: its site, with the protection that its project asks for.

Whatever changes that, a move or a rule, takes one lock until its commit and a number from one sequence: the order of
versions is the order of commits, and no edge that has seen version n can have missed an earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from vclone_core.actions.platform import Platform
from vclone_core.models import Alias, Policy, Site
from vclone_core.rules.objectkeys import manifest_key
from vclone_core.rules.protection import protect
from vclone_core.rules.sites import encode_site
from vclone_core.stores import records
from vclone_core.stores.postgres import Record, Transaction

# Held by every transaction that changes what edges are told.
_MOVES_LOCK: Final = 0x76636C6F6E6503


async def lock_moves(tx: Transaction) -> None:
    """Wait for everybody else who changes what edges are told; held until the commit."""
    await tx.fetch_one("lock_aliases", _MOVES_LOCK)


def build_site(alias: Alias, branch: str | None, policy: Policy | None) -> Site:
    """Return the site of an alias, without what was there before."""
    return Site(
        host=alias.host,
        project_id=alias.project_id,
        deployment_id=alias.deployment_id,
        manifest_key=manifest_key(alias.project_id, alias.deployment_id),
        kind=alias.kind,
        version=alias.version,
        protection=protect(policy, alias.host, alias.kind, branch),
    )


async def resolve_host(platform: Platform, host: str) -> Site | None:
    """Return what an edge needs to answer `host` (lower-case, without port); None when no alias has it."""
    row = await platform.db.fetch_one("fetch_alias", host)
    if row is None:
        return None
    # Read after the alias: whatever is newer than that comes with a higher version, by push.
    policy = await records.fetch_policy(platform.db, row["project_id"])
    return _site_from(row, policy)


async def retell(tx: Transaction, project_id: str, *, actor_id: str | None, hosts: Sequence[str] | None = None) -> int:
    """Tell edges anew of a project's hosts (None: all), which stay where they are; to be called under `lock_moves`.

    Returns the version of the last of them, 0 where there is none.
    """
    policy = await records.fetch_policy(tx, project_id)
    rows = await tx.fetch("list_told", project_id, None if hosts is None else list(hosts))
    sites = [encode_site(_site_from(row, policy)) for row in rows]
    told = await tx.fetch("retell_aliases", project_id, [row["host"] for row in rows], sites, actor_id)
    return max((row["version"] for row in told), default=0)


def _site_from(row: Record, policy: Policy | None) -> Site:
    return replace(
        build_site(records.alias_from(row), row["branch"], policy),
        previous_deployment_id=row["previous_deployment_id"],
        newest_deployment_id=row["newest_deployment_id"],
        redirect_to=row["redirect_to"],
    )
