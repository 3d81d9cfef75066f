"""Repositories over SSH, by a real sshd: the key is used, pinned to its host, and found nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from tests.build.working import finish, make_project
from tests.contracts.runners import make_bubblewrap, make_podman, make_process
from tests.git_server import GitServer
from tests.ssh_server import SshServer, make_key, serve_ssh

from vclone_core.actions import deployments
from vclone_core.actions.deploykeys import create_key, find_key, show_key, trust_hosts
from vclone_core.actions.keys import count_by_key
from vclone_core.actions.platform import Platform
from vclone_core.actions.projects import create_project, delete_project
from vclone_core.build.worker import Worker, pipeline_with
from vclone_core.errors import InvalidFields
from vclone_core.models import Actor, Deployment, Project, ProjectSettings, Source, State, Trigger
from vclone_core.rules.manifests import decode_manifest
from vclone_core.rules.objectkeys import blob_key, manifest_key
from vclone_core.stores import buildlogs

pytestmark = pytest.mark.services

RUNNERS = ("process", "bubblewrap", pytest.param("podman", marks=pytest.mark.podman))
# Looks for the key where a build command can look, and for a way to the repository without it.
SEARCH = """mkdir dist
{ env; cat /proc/*/environ /proc/*/cmdline; } 2>/dev/null | grep -a 'OPENSSH [P]RIVATE\\|[g]it-access' > dist/found
grep -ra 'OPENSSH [P]RIVATE' .. "$HOME" 2>/dev/null >> dist/found
ls -a ..  >> dist/found
export GIT_SSH_COMMAND='ssh -o BatchMode=yes -o StrictHostKeyChecking=no'
git fetch -q "$VCLONE_GIT_URL" 2>&1
echo "fetched: $?" > dist/index.html
"""
SETTINGS = ProjectSettings(framework="static", build_command="sh make.sh", output_directory="dist")


@dataclass
class Place:
    platform: Platform
    git: GitServer
    ssh: SshServer
    actor: Actor
    project: Project

    async def build(self, **changes: Any) -> Deployment:
        source = replace(Source("git", url=self.ssh.address("app"), ref="main"), **changes)
        made = await deployments.request_deployment(self.platform, self.actor, self.project, source)
        return await finish(self.platform, made)

    async def said(self, deployment: Deployment) -> str:
        return "\n".join(line.text for line in await buildlogs.read(self.platform.db, deployment.id))

    async def read(self, deployment: Deployment, path: str) -> str:
        async with self.platform.objects.open(manifest_key(deployment.project_id, deployment.id)) as body:
            manifest = decode_manifest(b"".join([chunk async for chunk in body.chunks]))
        async with self.platform.objects.open(blob_key(deployment.project_id, manifest.files[path].sha256)) as body:
            return b"".join([chunk async for chunk in body.chunks]).decode()

    async def create_key(self, **more: Any) -> str:
        key = await create_key(self.platform, self.actor, self.project, **more)
        self.ssh.authorize(key["public_key"])
        return key["public_key"]


@pytest.fixture
def ssh(git: GitServer, tmp_path: Path) -> Iterator[SshServer]:
    with serve_ssh(git.root, tmp_path / "sshd") as server:
        yield server


@pytest.fixture
async def place(
    platform: Platform, git: GitServer, ssh: SshServer, request: pytest.FixtureRequest
) -> AsyncIterator[Place]:
    settings = platform.settings.model_copy(update={"secret_key": SecretStr("k" * 40)})
    platform = replace(platform, settings=settings)
    makers = {
        "process": make_process,
        "bubblewrap": make_bubblewrap,
        "podman": lambda: make_podman(**{"egress.allow": f"127.0.0.1:{ssh.port}"}),
    }
    runner = await makers[getattr(request, "param", "process")]()
    actor, _ = await make_project(platform, "first")
    project = await create_project(platform, actor, "app", git_url=ssh.address("app"), settings=SETTINGS)
    git.commit("app", {"make.sh": SEARCH})
    worker = Worker(platform, pipeline_with(platform, runner))
    task = asyncio.create_task(worker.run())
    yield Place(platform, git, ssh, actor, project)
    worker.stop()
    await task


@pytest.mark.parametrize("place", RUNNERS, indirect=True)
async def test_a_deploy_key_opens_the_repository_and_is_found_nowhere(place: Place) -> None:
    public = await place.create_key()
    ready = await place.build()
    assert ready.state is State.READY, await place.said(ready)
    assert ready.source.sha
    assert "git-access" not in await place.read(ready, "/found")
    assert "PRIVATE" not in await place.read(ready, "/found")
    # The build itself could not fetch.
    assert await place.read(ready, "/index.html") != "fetched: 0\n"
    key = await find_key(place.platform, place.project, ready.source)
    assert key is not None
    body = key.private_key.splitlines()[1]
    said = await place.said(ready)
    assert body not in said and body not in repr(key)
    assert "Accepted publickey" in place.ssh.log()
    # The host was believed once, and is pinned.
    shown = await show_key(place.platform, place.actor, place.project)
    assert shown is not None
    assert (shown["public_key"], shown["known_hosts"]) == (public, place.ssh.host_key())


async def test_a_host_that_shows_another_key_is_not_talked_to(place: Place) -> None:
    await place.create_key()
    assert (await place.build()).state is State.READY
    place.ssh.change_host_key()
    failed = await place.build()
    assert failed.failure is not None
    assert (failed.failure.code, "another key" in failed.failure.sentence) == ("clone_failed", True)
    assert "vclone deploykey trust" in failed.failure.advice
    await trust_hosts(place.platform, place.actor, place.project, place.ssh.host_key())
    assert (await place.build()).state is State.READY


async def test_named_host_keys_are_the_only_ones(place: Place, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    kind, key, *_ = (tmp_path / "other.pub").read_text().split()
    await place.create_key(known_hosts=f"[127.0.0.1]:{place.ssh.port} {kind} {key}\n")
    failed = await place.build()
    assert failed.failure is not None and "another key" in failed.failure.sentence
    assert "Accepted" not in place.ssh.log()


async def test_a_key_of_one_s_own(place: Place, tmp_path: Path) -> None:
    make_key(tmp_path / "mine")
    private = (tmp_path / "mine").read_text()
    public = await place.create_key(private_key=private.strip())
    assert public.split()[:2] == (tmp_path / "mine.pub").read_text().split()[:2]
    assert (await place.build()).state is State.READY
    row = await place.platform.db.fetch_one("fetch_deploy_key", place.project.id)
    assert row is not None
    assert b"PRIVATE" not in bytes(row["value"])
    make_key(tmp_path / "locked", "-N", "a passphrase")
    for bad in ((tmp_path / "locked").read_text(), "no key", "x" * 20_000):
        with pytest.raises(InvalidFields) as caught:
            await create_key(place.platform, place.actor, place.project, private_key=bad, known_hosts="no line")
        assert [problem.field for problem in caught.value.problems] == ["known_hosts", "private_key"]


async def test_without_a_key_or_with_one_that_is_not_taken_it_says_what_to_do(place: Place, tmp_path: Path) -> None:
    none = await place.build()
    assert none.failure is not None and "vclone deploykey create" in none.failure.advice
    await create_key(place.platform, place.actor, place.project)
    refused = await place.build()
    assert refused.failure is not None
    assert "does not take the project's deploy key" in refused.failure.sentence
    assert "vclone deploykey show" in refused.failure.advice


async def test_another_repository_s_code_never_gets_it(place: Place) -> None:
    await place.create_key()
    forked = await place.build(fork="eve/app")
    assert forked.state is State.FAILED
    assert "Accepted" not in place.ssh.log()
    assert await find_key(place.platform, place.project, Source("git", url="https://git.example/x.git")) is None


async def test_the_short_form_of_an_address_and_the_paths_that_changed(place: Place) -> None:
    """`git@host:path` is the same as ssh://; what a push changed is fetched with the key too."""
    await place.create_key()
    settings = replace(SETTINGS, watch_paths=("site",), build_command="mkdir dist; echo > dist/index.html")
    place.project = await create_project(place.platform, place.actor, "watched", settings=settings)
    await place.create_key()
    source = Source("git", url=place.ssh.address("app"), ref="main")

    async def push(files: dict[str, str]) -> Deployment:
        sha = place.git.commit("app", files)
        made = await deployments.request_deployment(
            place.platform, place.actor, place.project, replace(source, sha=sha), trigger=Trigger.PUSH
        )
        return await finish(place.platform, made)

    assert (await push({"site/a": "1", "b": "1"})).state is State.READY
    assert (await push({"site/a": "1", "b": "2"})).state is State.SKIPPED
    assert (await push({"site/a": "2", "b": "2"})).state is State.READY


async def test_keys_are_sealed_anew_and_go_with_their_project(place: Place) -> None:
    await place.create_key()
    assert sum((await count_by_key(place.platform.db)).values()) == 1
    await delete_project(place.platform, place.actor, place.project)
    assert sum((await count_by_key(place.platform.db)).values()) == 0
