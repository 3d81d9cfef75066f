"""Two teams that want the same host names, and a DNS that says what a test wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
from tests.dns_server import TellingServer

from vclone_core.actions import domain_checks
from vclone_core.actions.accounts import actor_from_token
from vclone_core.models import Deployment, Project

if TYPE_CHECKING:
    from .conftest import Api

EDGE = "edge.platform.example"
ADDRESS = "203.0.113.5"


@dataclass
class Rivals:
    """Two teams that want the same names."""

    api: Api
    dns: TellingServer
    database_url: str
    project: Project
    other: Project

    async def add(self, host: str, caller: str = "owner", **more: Any) -> dict[str, Any]:
        project = self.project if caller == "owner" else self.other
        body = {"host": host, **more}
        status, made = await self.api.ask("POST", f"/api/domains/projects/{project.name}", caller, json=body)
        assert status == 201, made
        return dict(made)

    def prove(self, domain: dict[str, Any], *, leads: bool = True) -> None:
        """Set the records that a claim asks for, beside those that are there."""
        for record in domain["records"]:
            if record["purpose"] == "ownership" or leads:
                dot = "." if record["type"] == "CNAME" else ""
                kind = record["type"]
                said = self.dns.names.setdefault(record["name"], [])
                assert isinstance(said, list)
                self.dns.names[record["name"]] = [*said, f"{kind} {record['value']}{dot}"]

    def forget(self, host: str) -> None:
        for name in (host, f"_vclone.{host}"):
            self.dns.names.pop(name, None)

    async def look(self) -> None:
        """Let time pass until everything is due, and look."""
        await self.sql("update domains set next_check_at = now() where next_check_at is not null")
        while await domain_checks.check_due(self.api.platform):
            pass

    async def pass_days(self, days: int) -> None:
        await self.sql(f"update domains set since = since - interval '{days} days'")

    async def sql(self, text: str) -> list[Any]:
        connection = await asyncpg.connect(self.database_url)
        try:
            return list(await connection.fetch(text))
        finally:
            await connection.close()

    async def show(self, host: str, caller: str = "owner") -> dict[str, Any]:
        status, found = await self.api.ask("GET", f"/api/domains/{host}", caller)
        assert status == 200, found
        return dict(found)

    async def state(self, host: str, caller: str = "owner") -> str:
        return str((await self.show(host, caller))["state"])

    async def served(self, host: str) -> str | None:
        """Which deployment an edge shows at a host."""
        site = await self.site(host)
        return None if site is None else str(site["deployment_id"])

    async def site(self, host: str) -> dict[str, Any] | None:
        status, site = await self.api.ask("GET", f"/internal/v1/sites/{host}", "edge")
        return site if status == 200 else None

    async def told(self) -> list[tuple[str, Any]]:
        """What edges were told of custom hosts: host, and deployment, redirect or None."""
        rows = await self.sql("select host, site from alias_history where kind = 'custom' order by version")
        return [(row["host"], row["site"]) for row in rows]

    async def live(self, project: Project) -> Deployment:
        """A deployment of either team's project that was built and published."""
        caller = "owner" if project is self.project else "stranger"
        mine, self.api.owner = self.api.owner, await actor_from_token(self.api.platform, self.api.callers[caller])
        try:
            return await self.api.live(project)
        finally:
            self.api.owner = mine
