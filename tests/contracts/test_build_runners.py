"""What every build runner promises (`protocols.BuildRunner`), run on each that is installed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from vclone_core.models import BuildLimits
from vclone_core.plugins import load_plugins
from vclone_core.protocols import BuildRunner, BuildSession, ExitStatus, RunnerConfig

RUNNERS = ("process",)
LIMITS = BuildLimits()


class Output:
    """Collects what a command says, and tells when two calls overlap."""

    def __init__(self) -> None:
        self.streams = {"stdout": b"", "stderr": b""}
        self.is_inside = False

    async def __call__(self, stream: str, data: bytes) -> None:
        assert not self.is_inside
        self.is_inside = True
        await asyncio.sleep(0)
        self.streams[stream] += data
        self.is_inside = False

    @property
    def text(self) -> str:
        return self.streams["stdout"].decode()


@pytest.fixture(params=RUNNERS)
def runner(request: pytest.FixtureRequest) -> BuildRunner:
    made: BuildRunner = load_plugins().provider("build_runners", request.param)(RunnerConfig(options={}))
    return made


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


async def run_shell(
    session: BuildSession,
    workspace: Path,
    script: str,
    *,
    timeout_s: float = 30.0,
    output: Callable[[str, bytes], Awaitable[None]] | None = None,
    env: dict[str, str] | None = None,
) -> ExitStatus:
    return await session.run(
        ["sh", "-c", script], cwd=workspace, env=env or {}, timeout_s=timeout_s, on_output=output or Output()
    )


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


async def wait_gone(pid: int, *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        await asyncio.sleep(0.02)


async def test_runner_can_run_and_says_whether_it_isolates(runner: BuildRunner) -> None:
    assert await runner.check() is None
    assert isinstance(runner.is_isolating, bool)


async def test_output_code_and_folder(runner: BuildRunner, workspace: Path) -> None:
    output = Output()
    async with runner.session("dep_x", workspace, LIMITS) as session:
        status = await run_shell(session, workspace, "pwd; echo oops >&2; echo made > file; exit 3", output=output)
    assert status == ExitStatus(3)
    assert not status.is_ok
    assert Path(output.text.strip()).name == workspace.name
    assert output.streams["stderr"] == b"oops\n"
    assert (workspace / "file").read_text() == "made\n"


async def test_missing_program_is_127(runner: BuildRunner, workspace: Path) -> None:
    async with runner.session("dep_x", workspace, LIMITS) as session:
        status = await session.run(["no-such-program"], cwd=workspace, env={}, timeout_s=10, on_output=Output())
    assert status.code == 127


async def test_environment_is_built_from_nothing(
    runner: BuildRunner, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "secret")
    output = Output()
    async with runner.session("dep_x", workspace, LIMITS) as session:
        await run_shell(session, workspace, 'env; touch "$HOME/x" "$TMPDIR/y"', output=output, env={"GIVEN": "1"})
        home = next(line for line in output.text.splitlines() if line.startswith("HOME="))
    assert "CANARY" not in output.text
    assert "GIVEN=1" in output.text
    assert home != f"HOME={Path.home()}"


async def test_home_lasts_from_command_to_command_and_goes_with_the_session(
    runner: BuildRunner, workspace: Path
) -> None:
    output = Output()
    async with runner.session("dep_x", workspace, LIMITS) as session:
        await run_shell(session, workspace, "echo kept > $HOME/x")
        await run_shell(session, workspace, "cat $HOME/x", output=output)
    assert output.text == "kept\n"
    assert list(workspace.iterdir()) == []
    assert [path.name for path in workspace.parent.iterdir()] == [workspace.name]


async def test_command_outside_the_workspace_is_refused(runner: BuildRunner, workspace: Path) -> None:
    (workspace / "link").symlink_to("/")
    async with runner.session("dep_x", workspace, LIMITS) as session:
        for folder in (workspace.parent, workspace / "..", workspace / "link"):
            with pytest.raises(ValueError, match="outside"):
                await session.run(["true"], cwd=folder, env={}, timeout_s=5, on_output=Output())


async def test_timeout_ends_the_tree_and_keeps_what_was_said(runner: BuildRunner, workspace: Path) -> None:
    output = Output()
    started = time.monotonic()
    async with runner.session("dep_x", workspace, LIMITS) as session:
        status = await run_shell(
            session, workspace, "echo first; echo $$ > pid; sleep 60", timeout_s=0.7, output=output
        )
    assert status.reason == "timeout"
    assert time.monotonic() - started < 5
    assert output.text == "first\n"
    assert not is_alive(int((workspace / "pid").read_text()))


DAEMON = f"""{sys.executable} - <<'PY' >/dev/null 2>&1
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("daemon", "w").write(str(os.getpid()))
        time.sleep(60)
    os._exit(0)
os.wait()
PY
"""


async def read_pid(path: Path) -> int:
    deadline = time.monotonic() + 10
    while not path.exists() or not path.read_text().strip():
        assert time.monotonic() < deadline, f"{path.name} was not written"
        await asyncio.sleep(0.02)
    return int(path.read_text())


async def test_daemon_of_another_session_ends_with_its_command(runner: BuildRunner, workspace: Path) -> None:
    async with runner.session("dep_x", workspace, LIMITS) as session:
        status = await run_shell(session, workspace, f"{DAEMON}\nwhile [ ! -s daemon ]; do sleep 0.01; done")
        assert status.is_ok
        assert not is_alive(await read_pid(workspace / "daemon"))


async def test_cancelling_ends_the_tree_before_it_returns(runner: BuildRunner, workspace: Path) -> None:
    async with runner.session("dep_x", workspace, LIMITS) as session:
        task = asyncio.create_task(run_shell(session, workspace, f"{DAEMON}\necho $$ > pid; sleep 60"))
        pids = [await read_pid(workspace / "pid"), await read_pid(workspace / "daemon")]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not any(is_alive(pid) for pid in pids)


async def test_failing_reader_ends_the_command_and_is_raised(runner: BuildRunner, workspace: Path) -> None:
    async def refuse(stream: str, data: bytes) -> None:
        raise LookupError(stream)

    async with runner.session("dep_x", workspace, LIMITS) as session:
        with pytest.raises(LookupError):
            await run_shell(session, workspace, "echo $$ > pid; echo x; sleep 60", output=refuse)
        assert not is_alive(await read_pid(workspace / "pid"))


async def test_slow_reader_slows_the_command(runner: BuildRunner, workspace: Path) -> None:
    seen = 0

    async def read_slowly(stream: str, data: bytes) -> None:
        nonlocal seen
        seen += len(data)
        await asyncio.sleep(0.05)

    async with runner.session("dep_x", workspace, LIMITS) as session:
        status = await run_shell(
            session, workspace, "head -c 50000000 /dev/zero; touch done", timeout_s=1.0, output=read_slowly
        )
    assert status.reason == "timeout"
    assert not (workspace / "done").exists()
    assert seen < 10_000_000


async def test_closed_output_does_not_end_the_wait(runner: BuildRunner, workspace: Path) -> None:
    async with runner.session("dep_x", workspace, LIMITS) as session:
        status = await run_shell(session, workspace, "exec >&- 2>&-; sleep 0.3; touch done; exit 4")
    assert (status.code, (workspace / "done").exists()) == (4, True)


async def test_too_much_memory_has_its_reason(runner: BuildRunner, workspace: Path) -> None:
    limits = BuildLimits(memory_bytes=200 * 1024**2)
    script = f"{sys.executable} -c 'import time; x = bytearray(400 * 1024 * 1024); time.sleep(20)'"
    async with runner.session("dep_x", workspace, limits) as session:
        status = await run_shell(session, workspace, script)
    assert status.reason == "memory"


async def test_too_many_processes_are_ended(runner: BuildRunner, workspace: Path) -> None:
    script = "i=0; while [ $i -lt 30 ]; do sleep 20 & i=$((i+1)); done; wait"
    async with runner.session("dep_x", workspace, BuildLimits(processes=10)) as session:
        status = await run_shell(session, workspace, script, timeout_s=15)
    assert status.reason == "killed"


async def test_too_large_file_is_ended(runner: BuildRunner, workspace: Path) -> None:
    async with runner.session("dep_x", workspace, BuildLimits(disk_bytes=1024**2)) as session:
        status = await run_shell(session, workspace, "exec head -c 3000000 /dev/zero > file")
    assert not status.is_ok
    assert (workspace / "file").stat().st_size <= 1024**2


async def test_commands_run_side_by_side(runner: BuildRunner, workspace: Path) -> None:
    outputs = [Output() for _ in range(4)]
    async with runner.session("dep_x", workspace, LIMITS) as session:
        statuses = await asyncio.gather(
            *(run_shell(session, workspace, f"sleep 0.2; echo {i}", output=out) for i, out in enumerate(outputs))
        )
    assert all(status.is_ok for status in statuses)
    assert [out.text for out in outputs] == ["0\n", "1\n", "2\n", "3\n"]


PLATFORM = """
import asyncio, sys
from pathlib import Path
from vclone_core.models import BuildLimits
from vclone_core.plugins import load_plugins
from vclone_core.protocols import RunnerConfig

async def ignore(stream, data): pass

async def main(name, workspace, script):
    runner = load_plugins().provider("build_runners", name)(RunnerConfig(options={}))
    async with runner.session("dep_x", workspace, BuildLimits()) as session:
        await session.run(["sh", "-c", script], cwd=workspace, env={}, timeout_s=60, on_output=ignore)

asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
"""


async def test_killed_platform_leaves_no_build_process(runner: BuildRunner, workspace: Path) -> None:
    platform = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PLATFORM, runner.name, str(workspace), f"{DAEMON}\necho $$ > pid; sleep 60"
    )
    pids = [await read_pid(workspace / "pid"), await read_pid(workspace / "daemon")]
    assert all(is_alive(pid) for pid in pids)
    platform.send_signal(signal.SIGKILL)
    await platform.wait()
    for pid in pids:
        await wait_gone(pid, within_s=3)


async def test_process_runner_survives_a_killed_supervisor(workspace: Path) -> None:
    runner = load_plugins().provider("build_runners", "process")(RunnerConfig(options={}))
    async with runner.session("dep_x", workspace, LIMITS) as session:
        task = asyncio.create_task(run_shell(session, workspace, f"{DAEMON}\necho $PPID > pid; sleep 60"))
        daemon = await read_pid(workspace / "daemon")
        os.kill(await read_pid(workspace / "pid"), signal.SIGKILL)
        assert (await task).reason == "killed"
    await wait_gone(daemon, within_s=3)
