"""Pushes through the real worker: skipped ones, superseded ones, cancelled ones."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from tests.build.working import finish, make_project, working
from tests.git_server import GitServer

from vclone_core.actions import deployments
from vclone_core.actions.platform import Platform
from vclone_core.actions.projects import update_project
from vclone_core.models import Actor, Deployment, Project, Source, State, Trigger
from vclone_core.stores import buildlogs

pytestmark = pytest.mark.services

PLAIN = {"framework": "static", "output_directory": ".", "install_command": ""}
WORKSPACE = {
    "package.json": json.dumps({"private": True, "workspaces": ["apps/*", "packages/*"]}),
    "apps/web/package.json": json.dumps({"name": "web", "dependencies": {"ui": "1.0.0"}}),
    "apps/web/index.html": "web",
    "packages/ui/package.json": json.dumps({"name": "ui", "version": "1.0.0"}),
    "packages/ui/index.js": "1",
    "packages/text/package.json": json.dumps({"name": "text", "version": "1.0.0"}),
    "packages/text/index.js": "1",
}


class Pushes:
    """A project whose repository is pushed to."""

    def __init__(self, platform: Platform, git: GitServer, actor: Actor, project: Project) -> None:
        self.platform, self.git, self.actor, self.project = platform, git, actor, project

    async def change(self, **settings: Any) -> None:
        self.project = await update_project(self.platform, self.actor, self.project, settings=settings)

    async def begin(
        self, files: dict[str, str], *, branch: str = "main", message: str = "a", trigger: Trigger = Trigger.PUSH
    ) -> Deployment:
        sha = self.git.commit("site", dict(files), branch=branch, message=message)
        source = Source("git", url=self.git.address("site"), ref=branch, sha=sha)
        return await deployments.request_deployment(self.platform, self.actor, self.project, source, trigger=trigger)

    async def push(self, files: dict[str, str], **more: Any) -> Deployment:
        return await finish(self.platform, await self.begin(files, **more))

    async def log(self, deployment: Deployment) -> str:
        return "\n".join(line.text for line in await buildlogs.read(self.platform.db, deployment.id))


@pytest.fixture
async def pushes(platform: Platform, git: GitServer) -> Pushes:
    actor, project = await make_project(platform)
    return Pushes(platform, git, actor, project)


async def test_a_message_that_is_only_known_after_the_clone_skips(pushes: Pushes) -> None:
    async with working(pushes.platform):
        done = await pushes.push({"index.html": "1"}, message="Mend it\n\n[vclone skip]")
        asked = await pushes.push({"index.html": "1"}, message="[skip ci]", trigger=Trigger.REQUEST)
    assert (done.state, done.reason, done.failure) == (State.SKIPPED, "the commit message says [vclone skip]", None)
    assert "Skipped: the commit message says [vclone skip]." in await pushes.log(done)
    assert asked.state is State.READY


async def test_only_watched_paths_are_built(pushes: Pushes) -> None:
    await pushes.change(watch_paths=["site", "!**/*.md"], root_directory="site")
    async with working(pushes.platform):
        first = await pushes.push({"site/index.html": "1", "docs/a.md": "1"})
        aside = await pushes.push({"site/index.html": "1", "docs/a.md": "2"})
        words = await pushes.push({"site/index.html": "1", "site/note.md": "2", "docs/a.md": "2"})
        # Compared with what is live, not with what was skipped.
        site = await pushes.push({"site/index.html": "2", "docs/a.md": "2"})
    assert [one.state for one in (first, aside, words, site)] == [
        State.READY, State.SKIPPED, State.SKIPPED, State.READY,
    ]  # fmt: skip
    assert aside.reason == "none of the 1 changed file is among the watch paths"


async def test_what_a_failed_build_changed_still_counts(pushes: Pushes) -> None:
    await pushes.change(watch_paths=["site"], root_directory="site")
    async with working(pushes.platform):
        await pushes.push({"site/index.html": "1", "docs/a.md": "1"})
        failed = await pushes.push({"site/package.json": "{", "site/index.html": "2", "docs/a.md": "1"})
        after = await pushes.push({"site/package.json": "{", "site/index.html": "2", "docs/a.md": "2"})
    assert failed.state is State.FAILED
    assert after.state is State.FAILED


async def test_a_package_is_built_when_it_or_what_it_needs_changes(pushes: Pushes) -> None:
    await pushes.change(root_directory="apps/web", **PLAIN)
    async with working(pushes.platform):
        first = await pushes.push(WORKSPACE)
        other = await pushes.push({**WORKSPACE, "packages/text/index.js": "2"})
        branch = await pushes.push({**WORKSPACE, "packages/text/index.js": "3"}, branch="feat/text")
        needed = await pushes.push({**WORKSPACE, "packages/ui/index.js": "2"})
        shared = await pushes.push({**WORKSPACE, "packages/ui/index.js": "2", "tsconfig.json": "{}"})
        await pushes.change(skip_unaffected=False)
        asked = await pushes.push(
            {**WORKSPACE, "packages/ui/index.js": "2", "tsconfig.json": "{}", "packages/text/index.js": "4"}
        )
    states = [one.state for one in (first, other, branch, needed, shared, asked)]
    assert states == [
        State.READY, State.SKIPPED, State.SKIPPED, State.READY, State.READY, State.READY,
    ]  # fmt: skip
    assert other.reason == ("none of the 1 changed file belongs to apps/web or to a package that it depends on")


async def test_a_commit_that_is_gone_is_no_reason_to_skip(pushes: Pushes) -> None:
    await pushes.change(watch_paths=["nothing/here"])
    async with working(pushes.platform):
        await pushes.push({"index.html": "1"})
        # The branch is made anew, and its old commits are thrown away.
        for path in (pushes.git.root / "site.git/objects").glob("??/*"):
            path.unlink()
        (pushes.git.root / "site.git/refs/heads/main").unlink()
        again = await pushes.push({"index.html": "2"})
    assert again.state is State.READY
    assert "can't be told: it is built" in await pushes.log(again)


async def test_the_ignore_command_decides_by_its_exit(pushes: Pushes) -> None:
    command = "echo since ${VCLONE_GIT_PREVIOUS_SHA:-nothing}; test -f skip.txt"
    await pushes.change(ignore_command=command)
    async with working(pushes.platform):
        first = await pushes.push({"index.html": "1"})
        second = await pushes.push({"index.html": "1", "skip.txt": ""})
        hook = await pushes.push({"index.html": "1", "skip.txt": "1"}, trigger=Trigger.HOOK)
    assert [one.state for one in (first, second, hook)] == [State.READY, State.SKIPPED, State.READY]
    assert "since nothing" in await pushes.log(first)
    assert "The ignore command ended with 1: it is built" in await pushes.log(first)
    assert f"since {first.source.sha}" in await pushes.log(second)
    assert (
        second.reason
        == "the ignore command `echo since ${VCLONE_GIT_PREVIOUS_SHA:-nothing}; test -f skip.txt` ended with 0"
    )


async def test_an_ignore_command_can_compare_commits(pushes: Pushes) -> None:
    files = {"site/index.html": "1", "a.txt": "1"}
    command = {"ignoreCommand": "git diff --quiet HEAD^ HEAD -- ."}
    await pushes.change(root_directory="site")
    async with working(pushes.platform):
        await pushes.push(files)
        with_command = {**files, "site/vercel.json": json.dumps(command)}
        added = await pushes.push(with_command)
        aside = await pushes.push({**with_command, "a.txt": "2"})
    assert (added.state, aside.state) == (State.READY, State.SKIPPED)


async def test_a_newer_push_ends_the_build_of_an_older_one(pushes: Pushes, tmp_path: Path) -> None:
    mark = tmp_path / "started"
    stuck = f"echo $$ > {mark}; sleep 600 & sleep 600"
    await pushes.change(framework="static", build_command=stuck, output_directory=".", install_command="")
    async with working(pushes.platform):
        older = await pushes.begin({"index.html": "1"})
        async with asyncio.timeout(30):
            while not (mark.exists() and mark.read_text().strip()):
                await asyncio.sleep(0.02)
        pid = int(mark.read_text())
        await pushes.change(build_command="")
        began = time.monotonic()
        newer = await pushes.begin({"index.html": "2"})
        ended = await finish(pushes.platform, older)
        seconds = time.monotonic() - began
        done = await finish(pushes.platform, newer)
    print(f"superseded build ended after {seconds:.2f} s")
    assert (ended.state, ended.reason) == (State.CANCELLED, f"superseded by {newer.id}")
    assert done.state is State.READY
    assert not Path(f"/proc/{pid}").exists()


async def test_a_cancelled_build_is_gone_with_its_tree(pushes: Pushes, tmp_path: Path) -> None:
    marks = tmp_path / "pids"
    marks.mkdir()
    # A child, a grandchild in a session of its own, and one that ignores every polite signal.
    stuck = (
        f"touch {marks}/$$; setsid sh -c 'touch {marks}/$$; trap \"\" TERM INT HUP; sleep 600; sleep 600' & "
        f"sh -c 'touch {marks}/$$; sleep 600; true' & wait"
    )
    await pushes.change(framework="static", build_command=stuck, output_directory=".", install_command="")
    async with working(pushes.platform):
        made = await pushes.begin({"index.html": "1"})
        async with asyncio.timeout(30):
            while len(os.listdir(marks)) < 3:
                await asyncio.sleep(0.02)
        began = time.monotonic()
        await deployments.cancel(pushes.platform, pushes.actor, made.id)
        ended = await finish(pushes.platform, made)
        seconds = time.monotonic() - began
    print(f"cancelled after {seconds:.2f} s")
    assert ended.state is State.CANCELLED
    assert [pid for pid in os.listdir(marks) if Path(f"/proc/{pid}").exists()] == []
    assert list((pushes.platform.settings.data_dir / "builds").iterdir()) == []
