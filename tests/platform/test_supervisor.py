"""The supervisor with small programs: readiness, restarts, giving up, the order of the end, and a killed parent."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vclone_core.build.worker import beating
from vclone_core.embedded.children import Command
from vclone_core.embedded.logfiles import cut_log, open_log, read_tail
from vclone_core.embedded.members import touched
from vclone_core.embedded.supervisor import Member, Supervisor
from vclone_core.errors import BadSettings, ChildEnded
from vclone_core.rules.restarts import LONGEST_WAIT_S, MOST_QUICK_ENDS, GiveUp, Restart, plan_restart

pytestmark = pytest.mark.processes

# Says it is up, and at SIGTERM writes its name to a file before it ends.
WORKER = """
import signal, sys, time
from pathlib import Path
def end(*_):
    with open("ends", "a") as file:
        file.write(sys.argv[1] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
Path(sys.argv[1] + ".up").touch()
print("up", flush=True)
while True:
    time.sleep(1)
"""
DEAF = """
import signal, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
Path("deaf.up").touch()
time.sleep(60)
"""
PARENT = """
import subprocess
from pathlib import Path
child = subprocess.Popen(["sleep", "60"])
Path("w.up").write_text(str(child.pid))
child.wait()
"""
SHORT = """
import time
from pathlib import Path
Path("api.up").touch()
time.sleep(0.2)
raise SystemExit("no such table")
"""


def member(folder: Path, name: str, program: str = WORKER, **limits: float) -> Member:
    command = Command((sys.executable, "-c", program, name), dict(os.environ), cwd=folder)

    async def is_ready(_pid: int) -> bool:
        return (folder / f"{name}.up").exists()

    return Member(name, lambda: command, is_ready, **limits)


async def until(is_so: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.01)


# Ends its answers after the first, as something that holds the interpreter's lock does, and says where it stands.
MUTE = """
import ctypes, faulthandler, signal, sys
from pathlib import Path
faulthandler.register(signal.SIGUSR2, all_threads=True)
def hold_the_lock():
    ctypes.PyDLL(None).sleep(3600)
Path("mute.up").touch()
hold_the_lock()
"""


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def test_members_end_in_the_reverse_order_of_their_start(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    members = [member(tmp_path, name) for name in ("postgres", "api", "edge")]
    for one in members:
        supervisor.spawn(one)
        await supervisor.wait_ready(one)
    assert [life.state for life in supervisor.running.values()] == ["running"] * 3
    await supervisor.stop()
    assert (tmp_path / "ends").read_text().split() == ["edge", "api", "postgres"]
    assert {life.state for life in supervisor.running.values()} == {"stopped"}


async def test_a_killed_member_is_started_again(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    one = member(tmp_path, "worker")
    supervisor.spawn(one)
    await supervisor.wait_ready(one)
    life = supervisor.running["worker"]
    assert life.process is not None
    first = life.process.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: life.restarts == 1 and life.state == "running")
    assert life.process.pid != first
    await supervisor.stop()


async def test_what_a_killed_member_left_in_its_group_ends_too(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    one = member(tmp_path, "w", PARENT)
    supervisor.spawn(one)
    await until(lambda: (tmp_path / "w.up").exists() and (tmp_path / "w.up").read_text() != "")
    grandchild = int((tmp_path / "w.up").read_text())
    await supervisor.wait_ready(one)
    process = supervisor.running["w"].process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    await until(lambda: is_gone(grandchild))
    await supervisor.stop()


async def test_a_member_that_ends_at_once_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    one = member(tmp_path, "api", SHORT)
    supervisor.spawn(one)
    await supervisor.wait_ready(one)
    async with asyncio.timeout(20):
        error = await supervisor.failure
    assert isinstance(error, ChildEnded)
    assert "api ended 5 times" in error.sentence
    assert "no such table" in error.advice
    await supervisor.stop()


async def test_a_member_that_never_gets_ready_is_reported(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    one = member(tmp_path, "edge", "import time; print('loading', flush=True); time.sleep(60)", ready_s=0.5)
    supervisor.spawn(one)
    with pytest.raises(ChildEnded, match="not ready"):
        await supervisor.wait_ready(one)
    await supervisor.stop()


async def test_a_deaf_member_is_killed_after_its_time(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    one = member(tmp_path, "deaf", DEAF, stop_s=0.3)
    supervisor.spawn(one)
    await supervisor.wait_ready(one)
    began = time.monotonic()
    await supervisor.stop()
    assert time.monotonic() - began < 3
    process = supervisor.running["deaf"].process
    assert process is not None
    assert process.returncode == -signal.SIGKILL


async def test_children_of_a_killed_supervisor_end(tmp_path: Path) -> None:
    program = textwrap.dedent(
        f"""
        import asyncio, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_supervisor import member
        from vclone_core.embedded.supervisor import Supervisor

        async def main():
            folder = Path.cwd()
            supervisor = Supervisor(folder)
            one = member(folder, "worker")
            supervisor.spawn(one)
            await supervisor.wait_ready(one)
            print(supervisor.running["worker"].process.pid, flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
        """
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    await until(lambda: is_gone(child))
    assert (tmp_path / "ends").read_text() == "worker\n"


def test_a_log_over_its_limit_is_cut_while_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    with open_log(path) as file:
        file.write(b"first\n" * 100)
        assert cut_log(path, limit_bytes=500)
        file.write(b"second\n")
    assert path.read_text() == "second\n"
    assert (tmp_path / "api.log.1").read_text() == "first\n" * 100
    assert not cut_log(path, limit_bytes=500)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("written", "lines", "tail"),
    [("", 3, ""), ("a\n", 3, "a"), ("a\nb\nc\nd\n", 2, "c\nd"), ("x" * 40_000 + "\nend\n", 1, "end")],
)
def test_the_tail_of_a_log(tmp_path: Path, written: str, lines: int, tail: str) -> None:
    path = tmp_path / "log"
    path.write_text(written)
    assert read_tail(path, lines=lines) == tail


def test_quick_ends_wait_longer_each_time_until_they_are_given_up() -> None:
    waits, quick_ends = [], 0
    while isinstance(plan := plan_restart(lived_s=0.1, quick_ends=quick_ends), Restart):
        waits.append(plan.wait_s)
        quick_ends = plan.quick_ends
    assert plan == GiveUp(MOST_QUICK_ENDS)
    assert waits == sorted(waits)
    assert len(waits) == MOST_QUICK_ENDS - 1
    assert max(waits) <= LONGEST_WAIT_S


async def test_a_member_that_holds_its_interpreter_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vclone_core.embedded.supervisor.QUESTION_S", 0.05)
    monkeypatch.setattr("vclone_core.rules.restarts.SILENT_S", 0.5)
    supervisor = Supervisor(tmp_path)
    asked: list[int] = []

    async def is_answering() -> bool:
        asked.append(1)
        return len(asked) < 5

    mute = replace(member(tmp_path, "mute", MUTE), is_answering=is_answering, tells_where=True)
    supervisor.spawn(mute)
    await supervisor.wait_ready(mute)
    life = supervisor.running["mute"]
    assert life.process is not None
    first = life.process.pid
    await until(lambda: is_gone(first))
    assert len(asked) >= 5 + 2
    assert "in hold_the_lock" in (tmp_path / "mute.log").read_text()
    await until(lambda: life.process is not None and life.process.pid != first and life.state == "running")
    await supervisor.stop()


async def test_a_member_that_answers_now_and_then_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vclone_core.embedded.supervisor.QUESTION_S", 0.01)
    monkeypatch.setattr("vclone_core.rules.restarts.SILENT_S", 0.0)
    supervisor = Supervisor(tmp_path)
    asked: list[int] = []

    async def is_answering() -> bool:
        asked.append(1)
        return len(asked) % 3 == 0

    busy = replace(member(tmp_path, "busy"), is_answering=is_answering)
    supervisor.spawn(busy)
    await supervisor.wait_ready(busy)
    await until(lambda: len(asked) > 30)
    assert supervisor.running["busy"].restarts == 0
    await supervisor.stop()


async def test_a_beat_is_seen_until_the_loop_that_makes_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vclone_core.build.worker.BEAT_S", 0.01)
    is_beating = touched(tmp_path / "worker.beat")
    async with beating(tmp_path / "worker.beat"):
        for _ in range(3):
            await asyncio.sleep(0.2)
            assert await is_beating()
        time.sleep(0.2)
        await is_beating()
        time.sleep(0.2)
        assert not await is_beating()


async def test_a_beat_that_somebody_tidied_away_ends_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    monkeypatch.setattr("vclone_core.build.worker.BEAT_S", 0.01)
    folder = tmp_path / "run"
    folder.mkdir()
    is_beating = touched(folder / "worker.beat")
    async with beating(folder / "worker.beat"):
        assert await is_beating()
        shutil.rmtree(folder)
        for _ in range(3):
            await asyncio.sleep(0.05)
            assert await is_beating()
        assert logged().count("beat.missed") == 1
        folder.mkdir()
        await until((folder / "worker.beat").exists)


async def test_a_beat_that_can_not_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="VCLONE_WORKER_BEAT"):
        async with beating(tmp_path / "no such folder" / "worker.beat"):
            pass
