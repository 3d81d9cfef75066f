"""A whole platform whose builds run in containers: a real application, and what a killed worker leaves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from podman import PodmanClient
from tests.build.test_projects import CASES, deploy, look
from tests.contracts.runners import make_podman, make_runner, registry_options
from tests.e2e.whole_platform import WholePlatform, running_platform

pytestmark = [pytest.mark.podman, pytest.mark.timeout(600)]


@pytest.fixture
async def is_there() -> None:
    await make_podman()


@pytest.fixture
def platform(is_there: None, tmp_path: Path) -> Iterator[WholePlatform]:
    options = json.dumps(registry_options())
    times = {"lease_s": "6", "heartbeat_s": "1"}
    with running_platform(tmp_path, runner="podman", runner_options=options, **times) as running:
        yield running


@pytest.mark.registry
def test_projects_are_installed_and_built_in_containers(platform: WholePlatform, tmp_path: Path) -> None:
    """npm and pip through the proxy, and each site as a visitor sees it; a second build finds what the first left."""
    for name, turns in (("vite-react", 2), ("mkdocs", 1)):
        for turn in range(turns):
            done = deploy(platform, tmp_path, name, CASES[name])
            log = platform.run("logs", done["deployment_id"]).out
            assert done["state"] == "ready", log
            found = platform.api(f"/api/deployments/{done['deployment_id']}")
            print(f"\n{name} (podman, build {turn + 1}): {found['step_seconds']}")
            look(platform, done["url"].rstrip("/"), done["deployment_id"], CASES[name])
            assert ("restored" in log) is (turn == 1), log


def list_containers() -> list[str]:
    """The workspaces whose containers there are."""

    def read(client: PodmanClient) -> list[str]:
        return [str((one.labels or {}).get("vclone.workspace", "")) for one in client.containers.list(all=True)]

    runner: Any = make_runner("podman")
    found: list[str] = asyncio.run(runner._podman.call(read))
    return found


def wait_for(what: Callable[[], bool], *, within_s: float) -> float:
    """Wait until `what` is so; return the seconds that took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < within_s
        time.sleep(0.2)
    return time.monotonic() - began


@pytest.mark.reliability("R6.3", "R23.2")
def test_a_killed_worker_and_a_cancelled_build_leave_no_container(platform: WholePlatform, tmp_path: Path) -> None:
    site = tmp_path / "endless"
    site.mkdir()
    (site / "package.json").write_text(json.dumps({"scripts": {"build": "echo begun; sleep 300"}}))
    words = ("deploy", str(site), "--project", "endless", "--no-wait", "--json")
    deployment = platform.run(*words).json["deployment_id"]

    def said(text: str) -> bool:
        lines = platform.api(f"/api/deployments/{deployment}/logs")["items"]
        return sum(line["text"] == "begun" for line in lines) == int(text)

    wait_for(lambda: said("1"), within_s=60)
    assert any(name == f"{deployment}-1" for name in list_containers())
    os.kill(platform.ask("status")["services"]["worker"]["pid"], signal.SIGKILL)
    wait_for(lambda: f"{deployment}-1" not in list_containers(), within_s=60)
    # The next worker takes it up again once the lease is over, in a container of its own.
    wait_for(lambda: said("2"), within_s=120)
    platform.ask("cancel", deployment)
    took = wait_for(lambda: platform.api(f"/api/deployments/{deployment}")["state"] == "cancelled", within_s=30)
    wait_for(lambda: not any(name.startswith(deployment) for name in list_containers()), within_s=30)
    assert took < 5
