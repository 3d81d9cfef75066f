"""From a push to its preview and back to nothing: a git server, a worker, the API, and a host that records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.build.working import working
from tests.git_server import GitServer, serve_git
from tests.host_server import TOKEN, HostServer
from tests.payloads import ZERO, GitHubRepository, Request

from vclone_core.actions.projects import update_project
from vclone_core.settings import Settings

from .conftest import Api
from .shops import following


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return following(settings)


@pytest.fixture
def git(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "repositories").mkdir()
    with serve_git(tmp_path / "repositories") as server:
        yield server


async def until(look: Callable[[], Any], *, limit_s: float = 60) -> Any:
    """Return the first answer of `look` that isn't empty."""
    async with asyncio.timeout(limit_s):
        while True:
            found = await look()
            if found:
                return found
            await asyncio.sleep(0.05)


async def test_from_a_push_to_a_preview_that_goes_with_its_pull_request(
    api: Api, host: HostServer, git: GitServer
) -> None:
    first = git.commit("acme/shop", {"index.html": "one"})
    project = await update_project(api.platform, api.owner, await api.project(), git_url=git.address("acme/shop"))
    base = f"/api/projects/{project.name}/git"
    _, made = await api.ask("PUT", base, json={"host": "github", "api_url": host.url, "token": TOKEN})
    repository, path = GitHubRepository("acme/shop", made["secret"]), made["webhook_url"].partition("9000")[2]

    async def send(request: Request) -> None:
        response = await api.app.test_client().open(
            path, method="POST", headers=list(request.headers), data=request.body
        )
        assert response.status_code == 202

    async def shown(site: str) -> Any:
        status, found = await api.ask("GET", f"/internal/v1/sites/{site}", "edge")
        return found["deployment_id"] if status == 200 else None

    async def built(sha: str) -> Any:
        _, listed = await api.ask("GET", f"/api/deployments?project={project.name}")
        return next((one for one in listed["items"] if one["source"]["sha"] == sha and one["state"] == "ready"), None)

    async with working(api.platform):
        await send(repository.push("main", ZERO, first))
        production = await until(lambda: built(first))
        assert await shown(f"{project.name}.localhost") == production["id"]

        second = git.commit("acme/shop", {"index.html": "two"}, branch="next", message="Better")
        await send(repository.push("next", ZERO, second))
        await send(repository.pull(7, "next", second))
        preview = await until(lambda: built(second))
        assert (preview["target"], preview["source"]["message"]) == ("preview", "Better")
        branch_host = f"{project.name}-git-next.localhost"
        assert await shown(branch_host) == preview["id"]

        async def commented() -> bool:
            return [branch_host in text for text in host.comments_on(7)] == [True]

        await until(commented)

        async def succeeded() -> bool:
            return host.of_sha(second)[-1:] == ["success"]

        await until(succeeded)

        third = git.commit("eve/shop", {"index.html": "three"})
        fork = {"fork": "eve/shop", "clone_url": git.address("eve/shop")}
        await send(repository.pull(8, "main", third, **fork))

        async def waits() -> Any:
            _, listed = await api.ask("GET", f"{base}/pull-requests")
            return [one for one in listed["items"] if one["waits_for_approval"]]

        assert [one["number"] for one in await until(waits)] == [8]
        assert await built(third) is None
        status, _ = await api.ask("POST", f"{base}/pull-requests/8/approve", json={"sha": third})
        assert status == 201
        strange = await until(lambda: built(third))
        assert strange["source"]["fork"] == "eve/shop"
        assert await shown(f"{project.name}.localhost") == production["id"]

        await send(repository.pull(7, "next", second, action="closed"))
        await send(repository.pull(8, "main", third, action="closed", **fork))

        async def gone() -> bool:
            _, listed = await api.ask("GET", f"/api/aliases?project={project.id}")
            return {one["host"] for one in listed["items"] if one["kind"] == "branch"} == {
                f"{project.name}-git-main.localhost"
            }

        # Within the minute that is promised.
        await until(gone, limit_s=60)
        assert await shown(branch_host) is None

        async def said() -> bool:
            return ["is gone" in text for number in (7, 8) for text in host.comments_on(number)] == [True, True]

        await until(said)
