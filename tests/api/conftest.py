"""The API over a platform of real parts, with one caller for each kind there is."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from quart import Quart
from tests.dns_server import TellingServer, telling
from tests.host_server import HostServer, serve_host
from werkzeug.routing.rules import Rule

from vclone_api.app import create_app
from vclone_core.actions import accounts, deployments, owners, projects
from vclone_core.actions.platform import Platform, open_platform
from vclone_core.models import Actor, Claim, Deployment, FileEntry, Manifest, Project, Source, SourceFile
from vclone_core.rules.blobframes import CONTENT_TYPE, encode_frame
from vclone_core.settings import Settings
from vclone_core.stores import queue

from .claims import ADDRESS, EDGE, Rivals
from .served import Served, serve
from .shops import Shop, connected

EDGE_TOKEN = "edge-token-of-the-tests"
Answer = tuple[int, Any]


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Keep what werkzeug compiles of each path for the next test's app: it is a third of what a test costs."""
    compile_builder, kept = Rule._compile_builder, {}

    def compile_once(rule: Rule, append_unknown: bool = True) -> Any:
        key = rule.rule, repr(rule.defaults), append_unknown
        if key not in kept:
            kept[key] = compile_builder(rule, append_unknown)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rule, "_compile_builder", compile_once)
        yield


@pytest.fixture
async def dns() -> AsyncIterator[TellingServer]:
    """The only DNS that these tests ask: it knows nothing yet."""
    async with telling() as server:
        yield server


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path, dns: TellingServer) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        database_url=database_url,
        redis_url=redis_url,
        store=f"file://{tmp_path}/objects",
        secret_key="s" * 40,
        edge_token=EDGE_TOKEN,
        domain_target=EDGE,
        domain_addresses=f"{ADDRESS}, 2001:db8::5",
        domain_resolvers=dns.address,
        domain_ask_zones=False,
    )


@pytest.fixture(autouse=True)
async def fresh_limits(redis_url: str) -> None:
    """Forget how often the tests before have tried: all of them come from one address."""
    client = redis.asyncio.Redis.from_url(redis_url)
    if keys := [key async for key in client.scan_iter("limit:*")]:
        await client.delete(*keys)
    await client.aclose()


@dataclass
class Api:
    """A running app and ways to ask it things. `callers` are tokens by the name of who holds them."""

    platform: Platform
    app: Quart
    owner: Actor
    callers: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, caller: str | None = "owner", **more: Any) -> Answer:
        """Send a request and return its status and JSON (or text)."""
        response = await self.response(method, path, caller, **more)
        if "json" in (response.content_type or ""):
            return response.status_code, await response.get_json(force=True)
        return response.status_code, await response.get_data(as_text=True)

    async def response(self, method: str, path: str, caller: str | None = "owner", **more: Any) -> Any:
        headers = dict(more.pop("headers", {}))
        if caller is not None:
            headers["Authorization"] = f"Bearer {self.callers[caller]}"
        return await self.app.test_client().open(path, method=method, headers=headers, **more)

    async def project(self) -> Project:
        return await projects.create_project(self.platform, self.owner, f"p-{secrets.token_hex(4)}")

    async def queued(self, project: Project) -> Deployment:
        source = Source("git", url="https://git.example/x.git", ref="main")
        return await deployments.request_deployment(self.platform, self.owner, project, source)

    async def claim(self) -> Claim:
        claim = await queue.claim(self.platform.db, "worker-1", lease_s=60, project_slots=64)
        assert claim is not None
        return claim

    async def live(self, project: Project) -> Deployment:
        """A deployment that was built and published."""
        wanted = await self.queued(project)
        claim = await self.claim()
        assert claim.deployment.id == wanted.id
        files = {"/index.html": FileEntry(sha256="0" * 64, size=5, type="text/html")}
        manifest = Manifest(wanted.id, project.id, "static", files, routes=())
        return (await deployments.publish(self.platform, claim, manifest)).deployment

    async def upload(self, project: Project, *blobs: bytes, caller: str = "owner") -> Answer:
        body = b"".join(encode_frame(blob) for blob in blobs)
        return await self.send_blobs(project, body, caller)

    async def send_blobs(self, project: Project, body: bytes, caller: str = "owner") -> Answer:
        return await self.ask(
            "POST", f"/api/projects/{project.id}/blobs", caller, data=body, headers={"content-type": CONTENT_TYPE}
        )


def file_of(path: str, data: bytes) -> dict[str, Any]:
    return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "is_executable": False}


def source_file(path: str, data: bytes) -> SourceFile:
    return SourceFile(**file_of(path, data))


async def add_caller(platform: Platform, *, role: str, team_id: str | None = None) -> str:
    """A new user, in a team of their own unless `team_id` names one; returns an API token."""
    name = secrets.token_hex(4)
    await platform.db.execute("insert_user", f"usr_{name}", f"{name}@example.com", name)
    if team_id is None:
        team_id = f"tem_{name}"
        await platform.db.execute("insert_team", team_id, name, name, False)
    await platform.db.execute("insert_member", team_id, f"usr_{name}", role)
    return await accounts.create_token(platform, Actor(f"usr_{name}", team_id, role), name="test")


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    async with open_platform(settings) as platform:
        owner = await owners.ensure_owner(platform.db, wants_token=True)
        assert owner.token is not None
        app = create_app(platform)
        async with app.test_app():
            api = Api(platform, app, Actor(owner.user.id, owner.team.id, "owner"))
            api.callers["owner"] = owner.token
            api.callers["viewer"] = await add_caller(platform, role="viewer", team_id=owner.team.id)
            api.callers["stranger"] = await add_caller(platform, role="owner")
            api.callers["edge"] = EDGE_TOKEN
            yield api


@pytest.fixture
async def rivals(api: Api, dns: TellingServer, database_url: str) -> Rivals:
    stranger = await accounts.actor_from_token(api.platform, api.callers["stranger"])
    dns.names[EDGE] = [f"A {ADDRESS}"]
    other = await projects.create_project(api.platform, stranger, f"o-{secrets.token_hex(4)}")
    return Rivals(api, dns, database_url, await api.project(), other)


@pytest.fixture
async def host() -> AsyncIterator[HostServer]:
    """A recording server in the place of a git host's REST API."""
    async with serve_host() as server:
        yield server


@pytest.fixture
async def shop(api: Api, host: HostServer) -> Shop:
    """A project that follows a repository at `host`; a module says with `following` that it may."""
    return await connected(api, host)


@pytest.fixture
async def served(api: Api) -> AsyncIterator[Served]:
    """The platform of `api`, served by a process of its own."""
    async with serve(api.platform.settings) as served:
        yield served
