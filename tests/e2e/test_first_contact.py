"""The first minutes: up, a welcome site, a dashboard, Ctrl-C; then a second start with everything still there."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

from tests.e2e.whole_platform import WholePlatform, descendants_of, fetch, is_alive


def wait_for_end(pids: set[int]) -> set[int]:
    """Return which of these processes still run after ten seconds."""
    deadline = time.monotonic() + 10
    while (left := {pid for pid in pids if is_alive(pid)}) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def test_the_welcome_site_is_live(platform: WholePlatform) -> None:
    page = platform.fetch(platform.url("welcome"))
    assert page.status == 200 and "Your platform is" in page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "max-age=0" in page.headers["cache-control"]
    style = page.text.split('<link rel="stylesheet" href="')[1].split('"')[0]
    asset = platform.fetch(platform.url("welcome", style))
    assert asset.status == 200 and asset.headers["content-type"].startswith("text/css")
    again = platform.fetch(platform.url("welcome"), headers={"If-None-Match": page.headers["etag"]})
    assert again.status == 304 and not again.body


def test_its_own_404_page_answers_for_what_is_not_there(platform: WholePlatform) -> None:
    page = platform.fetch(platform.url("welcome", "/nothing/here"))
    assert page.status == 404 and "There is no such page." in page.text


def test_an_unknown_host_is_a_plain_404(platform: WholePlatform) -> None:
    answer = platform.fetch(platform.url("nobody"))
    assert answer.status == 404 and "Nothing is deployed at this host." in answer.text


def test_the_dashboard_answers(platform: WholePlatform) -> None:
    answer = fetch(platform.api_port, f"127.0.0.1:{platform.api_port}", "/")
    assert answer.status in (200, 401, 303) and answer.headers["content-type"].startswith("text/html")


def test_up_says_where_everything_is(platform: WholePlatform) -> None:
    said = platform.log_path.read_text()
    assert platform.url("welcome").rstrip("/") in said
    assert f"http://127.0.0.1:{platform.api_port}/sign-in/" in said
    assert said.count("vclone ") >= 3


def test_status_names_every_part(platform: WholePlatform) -> None:
    status = platform.ask("status")
    assert status["state"] == "running" and status["edge"].endswith(str(platform.port))
    assert {"postgres", "valkey", "api", "worker", "edge"} <= set(status["services"])
    assert all(is_alive(service["pid"]) for service in status["services"].values())


def test_the_data_folder_holds_what_the_documentation_lists(platform: WholePlatform) -> None:
    page = (Path(__file__).parent.parent.parent / "docs/operations.md").read_text(encoding="utf-8")
    table = page.split("## The data folder")[1].split("\n## ")[0]
    found = {path.name + ("/" if path.is_dir() else "") for path in (platform.home / "data").iterdir()}
    assert found <= set(re.findall(r"`([\w.]+/?)`", table))


def test_ctrl_c_leaves_no_process_and_the_next_start_has_everything(platform: WholePlatform) -> None:
    assert platform.process is not None
    below = descendants_of(platform.process.pid)
    assert len(below) >= 5
    assert platform.stop() in (0, 130)
    assert not wait_for_end(below)
    platform.start()
    assert platform.fetch(platform.url("welcome")).status == 200
    assert "/sign-in/" not in platform.log_path.read_text()


def test_kill_9_leaves_no_process_and_no_damage(platform: WholePlatform) -> None:
    assert platform.process is not None
    below = descendants_of(platform.process.pid)
    os.kill(platform.process.pid, signal.SIGKILL)
    platform.process.wait()
    assert not wait_for_end(below)
    platform.start()
    assert platform.fetch(platform.url("welcome")).status == 200
