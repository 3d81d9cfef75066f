"""`vclone up` as a whole: first start, stop, second start, kill -9, what it refuses, and where it can run."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.platform.running import RunningUp, ask, is_alive, wait_until

pytestmark = pytest.mark.platform
NOBODY = 65534


@pytest.fixture
def up(closed_dir: Path, tmp_path: Path) -> Iterator[RunningUp]:
    """A platform on a folder that is not there yet, with a long name, below one that only its owner passes."""
    running = RunningUp(closed_dir / "data", tmp_path)
    yield running
    if not running.has_ended:
        running.stop(signal.SIGTERM)


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def run_dir_of(up: RunningUp) -> Path:
    return Path(json.loads((up.data_dir / "run.json").read_text())["run_dir"])


def test_the_first_start_serves_the_welcome_site_and_ctrl_c_leaves_nothing(up: RunningUp) -> None:
    up.start()
    assert up.get("welcome.localhost")[0] == 200
    assert ask(up.api_port, "localhost", "/api/health")[0] == 200
    assert "/sign-in/" in up.output
    assert "http://welcome.localhost:" in up.output
    status = up.status()
    assert status["edge"] == f"http://127.0.0.1:{up.edge_port}"
    assert {service["state"] for service in status["services"].values()} == {"running"}
    for name in ("secrets.json", "cli.json", "run.json", "vclone.json"):
        assert stat.S_IMODE((up.data_dir / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(up.data_dir.stat().st_mode) == 0o700
    tree, run_dir = up.tree(), run_dir_of(up)
    assert up.stop(signal.SIGINT) == 0
    assert not any(is_alive(pid) for pid in tree)
    assert not run_dir.exists()
    assert up.status()["state"] == "stopped"


def test_secrets_are_on_no_command_line(up: RunningUp) -> None:
    up.start("--no-welcome")
    kept = json.loads((up.data_dir / "secrets.json").read_text())
    token = json.loads((up.data_dir / "cli.json").read_text())["token"]
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in up.tree()]
    assert not any(secret in line for line in lines for secret in (*kept.values(), token))


def test_a_second_start_keeps_everything_and_makes_nothing_again(up: RunningUp) -> None:
    up.start()
    token = (up.data_dir / "cli.json").read_text()
    assert up.stop(signal.SIGTERM) == 0
    (up.home / "up.log").unlink()
    took_s = up.start()
    print(f"second start: {took_s:.2f} s")
    assert up.get("welcome.localhost")[0] == 200
    assert (up.data_dir / "cli.json").read_text() == token
    assert "/sign-in/" not in up.output
    assert json.loads(up.run("ls", "--json").stdout or "[]")


def test_kill_9_leaves_no_process_and_the_data_intact(up: RunningUp) -> None:
    up.start()
    tree = up.tree()
    assert len(tree) > 6
    assert up.process is not None
    up.process.kill()
    up.process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in tree), 15)
    assert up.status()["state"] == "stopped"
    old_run_dir, old_pid = run_dir_of(up), up.process.pid
    up.start()
    assert up.status()["pid"] != old_pid
    assert up.get("welcome.localhost")[0] == 200
    assert not old_run_dir.exists()


def test_a_start_right_after_kill_9_waits_for_the_ports(up: RunningUp) -> None:
    up.start("--no-welcome")
    assert up.process is not None
    up.process.kill()
    up.process.wait()
    up.start("--no-welcome")


@pytest.mark.parametrize("name", ["postgres", "valkey", "api", "worker", "edge"])
def test_a_killed_process_is_replaced(up: RunningUp, name: str) -> None:
    up.start()
    first = up.status()["services"][name]["pid"]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: (s := up.status()["services"][name])["state"] == "running" and s["pid"] != first, 20)
    wait_until(lambda: up.get("welcome.localhost")[0] == 200, 20)
    wait_until(lambda: ask(up.api_port, "localhost", "/api/health")[0] == 200, 20)


def test_below_nohup_it_outlives_its_terminal(up: RunningUp) -> None:
    up.start("--no-welcome", below=["nohup"])
    assert up.process is not None
    up.process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert not up.has_ended
    assert up.stop() == 0


def test_the_second_ctrl_c_kills(up: RunningUp) -> None:
    up.start("--no-welcome")
    tree = up.tree()
    assert up.process is not None
    # A stopped process can't end in an orderly way, so the first Ctrl-C takes its time.
    os.kill(up.status()["services"]["edge"]["pid"], signal.SIGSTOP)
    up.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert up.stop(signal.SIGINT) == 130
    wait_until(lambda: not any(is_alive(pid) for pid in tree), 5)


def test_two_platforms_run_side_by_side(up: RunningUp, tmp_path: Path) -> None:
    home = tmp_path / "other"
    home.mkdir()
    other = RunningUp(home / "data", home)
    up.start()
    other.start()
    try:
        assert up.get("welcome.localhost")[0] == other.get("welcome.localhost")[0] == 200
    finally:
        assert other.stop() == 0
    assert up.get("welcome.localhost")[0] == 200


def test_a_second_up_on_the_same_folder_is_refused(up: RunningUp) -> None:
    up.start("--no-welcome")
    assert up.process is not None
    answer = up.run("up", "--port", "1", "--api-port", "2")
    assert answer.returncode == 5
    assert f"already running on {up.data_dir} (process {up.process.pid})" in answer.stderr


@pytest.mark.parametrize(("which", "option"), [("edge_port", "--port"), ("api_port", "--api-port")])
def test_a_taken_port_is_refused_with_its_option_and_nothing_is_made(up: RunningUp, which: str, option: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        setattr(up, which, listener.getsockname()[1])
        answer = up.run("up", "--port", str(up.edge_port), "--api-port", str(up.api_port))
    assert answer.returncode == 5
    assert f"Port {getattr(up, which)} is taken" in answer.stderr
    assert option in answer.stderr
    assert not up.data_dir.exists()


def test_one_port_for_both_is_refused(up: RunningUp) -> None:
    answer = up.run("up", "--port", "8123", "--api-port", "8123")
    assert answer.returncode == 2
    assert "8123" in answer.stderr
    assert not up.data_dir.exists()


def test_broken_settings_are_all_named_and_nothing_is_made(up: RunningUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        RunningUp, "environ", {**up.environ, "VCLONE_EDGE_WORKERS": "many", "VCLONE_LOG_FORMAT": "runes"}
    )
    answer = up.run("up")
    assert answer.returncode == 2
    assert "VCLONE_EDGE_WORKERS" in answer.stderr
    assert "VCLONE_LOG_FORMAT" in answer.stderr
    assert not up.data_dir.exists()


def test_a_file_in_the_place_of_the_folder_is_refused(up: RunningUp) -> None:
    up.data_dir.write_text("mine")
    answer = up.run("up", "--port", str(up.edge_port), "--api-port", str(up.api_port))
    assert answer.returncode == 5
    assert "is not a directory" in answer.stderr
    assert up.data_dir.read_text() == "mine"


def test_a_folder_of_a_newer_version_is_refused_and_left_alone(up: RunningUp) -> None:
    up.data_dir.mkdir()
    notes = up.data_dir / "vclone.json"
    notes.write_text('{"layout": 2, "version": "9.0.0"}')
    answer = up.run("up", "--port", str(up.edge_port), "--api-port", str(up.api_port))
    assert answer.returncode == 5
    assert "9.0.0" in answer.stderr
    assert not (up.data_dir / "postgres").exists()
    assert notes.read_text() == '{"layout": 2, "version": "9.0.0"}'


def test_an_ordinary_user_can_do_all_of_it(ordinary_user: list[str], up: RunningUp, tmp_path: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        home = Path(place)
        if ordinary_user:
            os.chown(home, NOBODY, NOBODY)
        own = RunningUp(home / "data", home, prefix=ordinary_user)
        own.start()
        try:
            assert own.get("welcome.localhost")[0] == 200
            assert (own.data_dir / "postgres").stat().st_uid == (NOBODY if ordinary_user else os.geteuid())
        finally:
            assert own.stop() == 0


def test_a_folder_that_an_ordinary_user_may_not_write_to_is_refused(ordinary_user: list[str]) -> None:
    if not ordinary_user:
        pytest.skip("only root can make a folder that this user may not write to")
    closed = RunningUp(Path("/var/lib/vclone-closed"), Path("/tmp"), prefix=ordinary_user)
    answer = closed.run("up", "--port", str(closed.edge_port), "--api-port", str(closed.api_port))
    assert answer.returncode == 5
    assert "may not write" in answer.stderr
    assert not closed.data_dir.exists()
