"""`vclone webhooks` against the served API: made, tried, looked at, sent again, switched, removed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vclone_core.settings import Settings

from .conftest import Api
from .receiver import receive
from .served import Served
from .test_env_command import vclone

pytestmark = pytest.mark.processes


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"outbound_allow": "127.0.0.0/8"})


async def test_make_try_and_remove(api: Api, served: Served, tmp_path: Path) -> None:
    env = {**os.environ, "VCLONE_API_URL": served.url, "VCLONE_TOKEN": api.callers["owner"]}

    async def ask(*arguments: str, code: int = 0) -> str:
        found, out, err = await vclone("webhooks", *arguments, env=env, cwd=tmp_path)
        assert found == code, err
        assert "Traceback" not in err
        return out + err

    assert "There is no webhook" in await ask("ls")
    async with receive() as receiver:
        made = json.loads(await ask("create", receiver.url, "--event", "deployment.ready", "--json"))
        assert made["events"] == ["deployment.ready"] and made["secret"].startswith("vcw_")
        await ask("ping", made["id"])
        await receiver.wait(1)
        async with served.events("/api/events", Authorization=f"Bearer {api.callers['owner']}"):
            await api.live(await api.project())
        await receiver.wait(2)
        said = await ask("deliveries", made["id"])
        assert "ping" in said and "deployment.ready" in said
        newest = json.loads(await ask("deliveries", made["id"], "--json"))["items"][0]
        await ask("redeliver", made["id"], newest["id"])
        assert receiver.got[1].body == (await receiver.wait(3))[2].body
        assert made["secret"] not in await ask("ls")
        await ask("disable", made["id"])
        assert "off: switched off" in await ask("ls")
        assert "switched off" in await ask("ping", made["id"], code=5)
        await ask("enable", made["id"])
        await ask("rm", made["id"])
        await ask("rm", made["id"], code=3)
