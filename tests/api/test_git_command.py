"""`vclone git` as a program, against the API as a process of its own: connect, push, look, approve, disconnect."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import aiohttp
import pytest
from tests.payloads import SHAS, ZERO, GitHubRepository, Request

from .conftest import Api
from .served import Served
from .test_env_command import vclone

pytestmark = pytest.mark.processes

A, B, *_ = SHAS
GIT_URL = "https://github.example/acme/shop.git"
TOKEN = "a-token-of-the-host-0123"


async def test_from_connecting_to_disconnecting(api: Api, served: Served, tmp_path: Path) -> None:
    project = await api.project()
    env = {**os.environ, "VCLONE_API_URL": served.url, "VCLONE_TOKEN": api.callers["owner"]}

    async def ask(*arguments: str, given: str = "", code: int = 0) -> str:
        named = () if arguments[0] == "app" else ("--project", project.name)
        found, out, err = await vclone("git", *arguments, *named, env=env, cwd=tmp_path, given=given)
        assert found == code, err
        assert TOKEN not in out + err
        return out + err

    async def send(request: Request) -> None:
        url = f"{served.url}/api/webhooks/github?{made['webhook_url'].partition('?')[2]}"
        headers = list(request.headers)
        async with aiohttp.ClientSession() as session, session.post(url, data=request.body, headers=headers) as answer:
            assert answer.status == 202, await answer.text()

    async def outcomes(number: int) -> list[str]:
        async with asyncio.timeout(30):
            while True:
                listed = json.loads(await ask("deliveries", "--json"))["items"]
                if len(listed) == number and all(one["state"] == "done" for one in listed):
                    return [one["outcome"] for one in listed]

    assert "names no repository" in await ask("connect", "https://github.example/shop", code=2)
    made = json.loads(await ask("connect", GIT_URL, "--json"))
    assert made["repository"] == "acme/shop"
    assert "its secret goes on" in (await ask("connect", GIT_URL)).lower()
    repository = GitHubRepository("acme/shop", made["secret"])
    await send(repository.push("main", ZERO, A))
    assert await outcomes(1) == ["deployed"]
    fork = {"fork": "eve/shop", "clone_url": "https://github.example/eve/shop.git"}
    await send(repository.pull(7, "main", B, **fork))
    assert await outcomes(2) == ["waits", "deployed"]
    assert "waits for an approval" in await ask("pulls")
    assert "not the newest commit" in await ask("approve", "7", A, code=5)
    assert "without the project's secrets" in await ask("approve", "7", B[:7])
    shown = await ask("deliveries")
    number = shown.splitlines()[1].split()[0]
    assert "is handled again" in await ask("redeliver", number)
    assert "acme/shop" in await ask("show")
    assert "told nothing yet" in await ask("reports")
    assert "0 are told again" in await ask("reports", "--again")
    await ask("connect", GIT_URL, "--host-token", given=f"{TOKEN}\n")
    assert f"{served.url}/git-apps" in await ask("app")
    await ask("disconnect")
    assert "no such git connection" in (await ask("show", code=3)).lower()
