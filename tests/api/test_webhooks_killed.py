"""An API process that is killed among webhooks: whatever it has answered is deployed once, and nothing else twice."""

from __future__ import annotations

import asyncio

import aiohttp
import asyncpg
import pytest
from tests.payloads import ZERO, GitHubRepository, Request

from vclone_core.actions import deployments, gitconnections
from vclone_core.actions.deliveries import handle_next
from vclone_core.actions.gitreports import HostDesk
from vclone_core.actions.projects import update_project

from .conftest import Api
from .served import Served

pytestmark = pytest.mark.processes


async def test_every_answered_push_is_deployed_once(api: Api, served: Served) -> None:
    await api.app.extensions["vclone_live"].desk.stop()  # the killed process alone was at it
    git_url = "https://github.example/acme/shop.git"
    project = await update_project(api.platform, api.owner, await api.project(), git_url=git_url)
    made = await gitconnections.connect(api.platform, api.owner, project, host="github")
    assert made.secret is not None
    repository = GitHubRepository("acme/shop", made.secret)
    url = f"{served.url}/api/webhooks/github?connection={made.connection.id}"
    answered: set[str] = set()

    async def send(sha: str, request: Request) -> None:
        try:
            async with served.http.post(url, data=request.body, headers=list(request.headers)) as answer:
                assert answer.status == 202
        except aiohttp.ClientError:
            return
        answered.add(sha)
        if len(answered) == 20:
            served.process.kill()

    pushes = {f"{number:040x}": repository.push(f"b{number}", ZERO, f"{number:040x}") for number in range(1, 61)}
    await asyncio.gather(*(send(sha, request) for sha, request in pushes.items()))
    await served.process.wait()
    assert len(answered) >= 20
    connection = await asyncpg.connect(api.platform.settings.database_url.get_secret_value())
    # What it had in hand is free after a minute.
    await connection.execute("update webhook_deliveries set not_before = now() where state = 'waiting'")
    await connection.close()
    while await handle_next(HostDesk(api.platform)):
        pass
    found = await deployments.list_deployments(api.platform, api.owner, project=project, limit=100)
    shas = [one.source.sha for one in found]
    assert len(shas) == len(set(shas))
    assert answered <= set(shas) <= set(pushes)
    past = await gitconnections.list_deliveries(api.platform, api.owner, project, limit=100)
    assert {(one.state, one.outcome) for one in past} == {("done", "deployed")}
    assert len(past) == len(shas)
