"""A webhook while Redis is away: PostgreSQL keeps the delivery and the deployment, and nothing waits for a bell."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr
from tests.host_server import HostServer
from tests.payloads import SHAS, ZERO
from tests.ports import pick_port

from vclone_core.settings import Settings

from .conftest import Api
from .shops import connected, following


@pytest.fixture
def settings(settings: Settings) -> Settings:
    nowhere = SecretStr(f"redis://127.0.0.1:{pick_port()}")
    return following(settings).model_copy(update={"redis_url": nowhere})


async def test_a_push_is_answered_and_deployed(api: Api, host: HostServer) -> None:
    shop = await connected(api, host)
    async with asyncio.timeout(10):  # GitHub waits no longer
        status, answer = await shop.send(shop.repository.push("main", ZERO, SHAS[0]))
    assert (status, answer["new"]) == (202, 1)
    await shop.settle()
    assert [(one.source.sha, one.state.value) for one in await shop.deployments()] == [(SHAS[0], "queued")]
