"""The pipeline inside the real worker: queue, log, publishing and the database around it."""

from __future__ import annotations

import pytest
from tests.build.working import finish, make_project, upload, working
from tests.git_server import GitServer

from vclone_core.actions import deployments, sites
from vclone_core.actions.platform import Platform
from vclone_core.models import Source, State
from vclone_core.rules.manifests import decode_manifest
from vclone_core.stores import buildlogs

pytestmark = pytest.mark.services


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
    site = await sites.resolve_host(platform, "shop.localhost")
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
