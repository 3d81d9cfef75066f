"""The pipeline inside the real worker: queue, log, publishing and the database around it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.git_server import GitServer

from vclone_core.actions import deployments, publishing
from vclone_core.actions.accounts import ensure_owner
from vclone_core.actions.platform import Platform, open_platform
from vclone_core.actions.projects import create_project, store_blob
from vclone_core.build.worker import Worker, pipeline_with
from vclone_core.models import Actor, Deployment, Project, Source, SourceFile, State
from vclone_core.protocols import RunnerConfig
from vclone_core.rules.lifecycle import FINAL
from vclone_core.rules.manifests import decode_manifest
from vclone_core.settings import Settings
from vclone_core.stores import buildlogs, records

pytestmark = pytest.mark.services


@pytest.fixture
async def platform(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Platform]:
    settings = Settings(
        data_dir=tmp_path / "data",
        database_url=database_url,
        redis_url=redis_url,
        store=f"file://{tmp_path}/objects",
        git_allow_insecure=True,
    )
    async with open_platform(settings) as platform:
        yield platform


@asynccontextmanager
async def working(platform: Platform) -> AsyncIterator[Worker]:
    runner = platform.plugins.provider("build_runners", "process")(RunnerConfig(options={}))
    worker = Worker(platform, pipeline_with(platform, runner))
    task = asyncio.create_task(worker.run())
    yield worker
    worker.stop()
    await task


async def upload(platform: Platform, project: Project, files: Mapping[str, bytes]) -> list[SourceFile]:
    listed = []
    for path, data in files.items():
        sha256 = hashlib.sha256(data).hexdigest()
        await store_blob(platform, project.id, sha256, len(data), data)
        listed.append(SourceFile(path, sha256, len(data)))
    return listed


async def finish(platform: Platform, deployment: Deployment) -> Deployment:
    async with asyncio.timeout(30):
        while True:
            found = await records.fetch_deployment_by_id(platform.db, deployment.id)
            assert found is not None
            if found.state in FINAL:
                return found
            await asyncio.sleep(0.02)


async def make_project(platform: Platform, name: str = "shop", git_url: str | None = None) -> tuple[Actor, Project]:
    owner = await ensure_owner(platform)
    actor = Actor(owner.user.id, owner.team.id, "owner")
    return actor, await create_project(platform, actor, name, git_url=git_url)


async def test_git_repository_goes_live_with_its_commit_and_log(platform: Platform, git: GitServer) -> None:
    sha = git.commit("site", {"index.html": "<h1>one</h1>" * 200}, message="First page")
    actor, project = await make_project(platform)
    async with working(platform):
        source = Source("git", url=git.address("site"), ref="main")
        made = await deployments.request_deployment(platform, actor, project, source)
        done = await finish(platform, made)
    assert (done.state, done.failure) == (State.READY, None)
    assert (done.source.sha, done.source.message, done.framework) == (sha, "First page", "static")
    assert set(done.step_seconds) >= {"clone", "detect", "install", "build", "collect", "optimise", "upload", "publish"}
    lines = await buildlogs.read(platform.db, done.id)
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    site = await publishing.resolve_host(platform, "shop.localhost")
    assert site is not None
    async with platform.objects.open(site.manifest_key) as body:
        manifest = decode_manifest(b"".join([chunk async for chunk in body.chunks]))
    assert set(manifest.files["/index.html"].variants) == {"br", "gzip"}
    assert list((platform.settings.data_dir / "builds").iterdir()) == []


async def test_second_upload_reuses_what_the_first_compressed(platform: Platform) -> None:
    actor, project = await make_project(platform)
    text = b"<p>the same on every page</p>" * 100
    async with working(platform):
        for number in range(2):
            files = await upload(platform, project, {"index.html": b"%d" % number + text, "about.html": text})
            made = await deployments.request_deployment(platform, actor, project, Source("upload"), files=files)
            done = await finish(platform, made)
            assert done.state is State.READY
    assert "1 files compressed, 1 known" in "\n".join(line.text for line in await buildlogs.read(platform.db, done.id))


async def test_failure_is_kept_with_code_advice_and_step(platform: Platform, git: GitServer) -> None:
    git.commit("site", {"package.json": '{"scripts": {"test": "true"}}'})
    actor, project = await make_project(platform)
    async with working(platform):
        source = Source("git", url=git.address("site"))
        done = await finish(platform, await deployments.request_deployment(platform, actor, project, source))
    assert done.state is State.FAILED
    assert done.failure is not None
    assert (done.failure.code, done.failure.step) == ("missing_script", "detect")
    assert "build" in done.failure.advice
    last = (await buildlogs.read(platform.db, done.id))[-1]
    assert "[missing_script]" in last.text
