"""A platform of real parts for each test: its own database, its own object folder, a Valkey database."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vclone_core.actions import deployments
from vclone_core.actions.owners import ensure_owner
from vclone_core.actions.platform import Platform, open_platform
from vclone_core.actions.projects import create_project
from vclone_core.models import Actor, Claim, Deployment, FileEntry, Manifest, Project, Source
from vclone_core.settings import Settings
from vclone_core.stores import queue
from vclone_core.stores.postgres import Database

from .faults import Wire


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        database_url=database_url,
        redis_url=redis_url,
        store=f"file://{tmp_path}/objects",
        lease_s=2,
        heartbeat_s=0.2,
    )


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    db = await Database.connect(database_url)
    yield db
    await db.close()


@pytest.fixture
async def platform(settings: Settings) -> AsyncIterator[Platform]:
    async with open_platform(settings) as platform:
        yield platform


@dataclass(frozen=True)
class World:
    """A platform with its owner, and short ways to what most tests begin with."""

    platform: Platform
    actor: Actor

    async def project(self, name: str | None = None) -> Project:
        return await create_project(self.platform, self.actor, name or f"p-{secrets.token_hex(4)}")

    async def team_project(self) -> tuple[Actor, Project]:
        """A project in a team of its own."""
        actor = await add_actor(self.platform)
        return actor, await create_project(self.platform, actor, f"p-{secrets.token_hex(4)}")

    async def deploy(self, project: Project, ref: str | None = "main", **more: Any) -> Deployment:
        source = Source("git", url="https://git.example/x.git", ref=ref)
        return await deployments.request_deployment(self.platform, self.actor, project, source, **more)

    async def claim(self, worker: str = "w1", *, lease_s: float = 30, slots: int = 1) -> Claim:
        claim = await queue.claim(self.platform.db, worker, lease_s=lease_s, project_slots=slots)
        assert claim is not None
        return claim

    async def build(self, project: Project, ref: str | None = "main", **more: Any) -> Deployment:
        """A deployment that is live."""
        wanted = await self.deploy(project, ref, **more)
        claim = await self.claim(slots=64)
        assert claim.deployment.id == wanted.id
        return (await deployments.publish(self.platform, claim, manifest_of(claim))).deployment


async def add_actor(platform: Platform, role: str = "owner") -> Actor:
    """A new user in a new team."""
    name = secrets.token_hex(4)
    user_id, team_id = f"usr_{name}", f"tem_{name}"
    await platform.db.execute("insert_user", user_id, f"{name}@example.com", name)
    await platform.db.execute("insert_team", team_id, name, name, False)
    await platform.db.execute("insert_member", team_id, user_id, role)
    return Actor(user_id, team_id, role)


def manifest_of(claim: Claim, text: str = "hello") -> Manifest:
    entry = FileEntry(sha256="0" * 64, size=len(text), type="text/html")
    return Manifest(
        deployment_id=claim.deployment.id,
        project_id=claim.project.id,
        framework="static",
        files={"/index.html": entry},
        routes=(),
    )


@pytest.fixture
async def world(platform: Platform) -> World:
    owner = await ensure_owner(platform.db)
    return World(platform, Actor(owner.user.id, owner.team.id, "owner"))


@pytest.fixture
async def wire(database_url: str) -> AsyncIterator[Wire]:
    """A wire to the test's database that breaks on demand."""
    wire = Wire(database_url)
    yield wire
    await wire.close()


@pytest.fixture
async def wired_db(wire: Wire) -> AsyncIterator[Database]:
    """The test's database behind `wire`."""
    db = await Database.connect(await wire.open())
    yield db
    await db.close()


@asynccontextmanager
async def eventually(timeout_s: float = 10) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Give a pause for a loop that waits for something, and fail when it takes too long."""
    async with asyncio.timeout(timeout_s):
        yield lambda: asyncio.sleep(0.02)
