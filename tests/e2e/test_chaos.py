"""`kill -9` of each part in mid-deploy: it ends ready, or failed with a reason, and known sites answer on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.whole_platform import Visitors, WholePlatform, WriteSite, children_of, running_platform

BUILD_S = 4
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholePlatform]:
    """A platform that notices a lost worker within seconds."""
    home = tmp_path_factory.mktemp("platform")
    with running_platform(home, lease_s="6", heartbeat_s="1", edge_workers="2") as platform:
        yield platform


@pytest.fixture
def slow_site(site: WriteSite) -> Path:
    """A folder whose build takes a few seconds."""
    script = f"sleep {BUILD_S} && mkdir -p dist && echo built > dist/index.html"
    return site("slow", {"package.json": json.dumps({"scripts": {"build": script}})})


def kill_service(name: str, platform: WholePlatform) -> None:
    os.kill(platform.service_pids()[name], signal.SIGKILL)


def kill_edge_process(name: str, platform: WholePlatform) -> None:
    """Kill a process below the edge's own supervisor, which starts its front first and its workers after it."""
    below = children_of(platform.service_pids()["edge"])
    assert len(below) == 3
    os.kill(below[0 if name == "edge front" else -1], signal.SIGKILL)


def wait_for_step(platform: WholePlatform, project: str, step: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (newest := platform.newest(project)) is None or newest["step"] != step:
        assert time.monotonic() < deadline and (newest is None or newest["state"] in ("queued", "building")), newest
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("kill", "part"),
    [
        (kill_service, "worker"),
        (kill_service, "valkey"),
        (kill_service, "postgres"),
        (kill_service, "api"),
        (kill_edge_process, "edge worker"),
        (kill_edge_process, "edge front"),
        (kill_service, "edge"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.timeout(240)
def test_a_deploy_survives_the_death_of(kill: object, part: str, platform: WholePlatform, slow_site: Path) -> None:
    assert callable(kill)
    project = f"chaos-{part.replace(' ', '-')}"
    welcome = platform.url("welcome")
    assert platform.fetch(welcome).status == 200
    command = platform.begin("deploy", str(slow_site), "--project", project, "--json")
    try:
        wait_for_step(platform, project, "build")
        with Visitors(platform, welcome, "Your platform is") as visitors:
            kill(part, platform)
            out, err = command.communicate(timeout=PATIENCE_S * 2)
            # The edge is back, too, when its own death was the matter.
            time.sleep(1)
    finally:
        command.kill()
        command.communicate()
    result = json.loads(out)
    assert result["state"] in ("ready", "failed"), err
    assert (command.returncode == 0) == (result["state"] == "ready")
    if result["state"] == "failed":
        assert result["failure"]["sentence"] and result["failure"]["step"]
    else:
        assert platform.fetch(result["url"] + "/").text == "built\n"
    assert visitors.answered > 20
    # One connection dies with the front that had accepted it; the whole edge is gone for as long as a start takes.
    assert len(visitors.disappointed) <= {"edge front": 1, "edge": visitors.answered}.get(part, 0)
    assert "Your platform is" in platform.fetch(welcome).text

    after = platform.ask("deploy", str(slow_site), "--project", f"{project}-after")
    assert platform.fetch(after["url"] + "/").text == "built\n"


def test_sites_are_served_with_the_whole_control_plane_stopped(platform: WholePlatform) -> None:
    """API, worker, PostgreSQL and Valkey are frozen, not killed, so that nobody starts them again."""
    welcome = platform.url("welcome")
    assert platform.fetch(welcome).status == 200
    pids = platform.service_pids()
    frozen = [pids[name] for name in ("api", "worker", "postgres", "valkey")]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(20):
            assert "Your platform is" in platform.fetch(welcome).text
            time.sleep(0.1)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    assert platform.ask("ls", "--all")["items"]
