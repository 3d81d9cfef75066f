"""What every build runner promises (`protocols.BuildRunner`), run on each that is installed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.contracts.runners import make_bubblewrap, make_podman, make_process

from vclone_core.models import BuildLimits
from vclone_core.protocols import BuildRunner, BuildSession, ExitStatus

RUNNERS = ("process", "process+bwrap", pytest.param("podman", marks=pytest.mark.podman))
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
async def runner(request: pytest.FixtureRequest) -> BuildRunner:
    makers = {"process": make_process, "process+bwrap": make_bubblewrap, "podman": make_podman}
    return await makers[request.param]()


@pytest.fixture
def python(runner: BuildRunner) -> str:
    """An interpreter that every build finds; the tests' own may be out of its sight."""
    return "python3"


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


class Life:
    """Tells whether processes of a build live, wherever that is: each holds the writing end of one FIFO.

    A shell that runs `HOLD` holds it, and whatever it starts; a line on descriptor 8 says that one has begun.
    """

    HOLD = "exec 8>life; echo begun >&8"

    def __init__(self, workspace: Path) -> None:
        path = workspace / "life"
        os.mkfifo(path)
        path.chmod(0o666)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    async def begin(self, count: int) -> None:
        """Wait until so many have begun."""
        seen = 0
        async with asyncio.timeout(60):
            while seen < count:
                with suppress(BlockingIOError):
                    seen += os.read(self._descriptor, 4096).count(b"\n")
                await asyncio.sleep(0.02)

    def is_over(self) -> bool:
        """Say whether all that held it have ended."""
        try:
            return os.read(self._descriptor, 4096) == b""
        except BlockingIOError:
            return False

    async def end(self, *, within_s: float) -> None:
        """Wait until all have ended."""
        deadline = time.monotonic() + within_s
        while not self.is_over():
            assert time.monotonic() < deadline, "a process of the build is still there"
            await asyncio.sleep(0.02)


@pytest.fixture
def life(workspace: Path) -> Life:
    return Life(workspace)


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


async def test_timeout_ends_the_tree_and_keeps_what_was_said(runner: BuildRunner, workspace: Path, life: Life) -> None:
    output = Output()
    async with runner.session("dep_x", workspace, LIMITS) as session:
        started = time.monotonic()
        status = await run_shell(session, workspace, f"echo first; {life.HOLD}; sleep 60", timeout_s=1.5, output=output)
        assert time.monotonic() - started < 5
        await life.begin(1)
        assert life.is_over()
    assert status.reason == "timeout"
    assert output.text == "first\n"


def daemon(python: str) -> str:
    """A script that leaves behind a process of a session of its own, and the shell beside it."""
    return f"""{Life.HOLD}
{python} - <<'PY' >/dev/null 2>&1
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(8, b"begun\\n")
        time.sleep(60)
    os._exit(0)
os.wait()
PY
"""


async def test_daemon_of_another_session_ends_with_its_command(
    runner: BuildRunner, workspace: Path, life: Life, python: str
) -> None:
    async with runner.session("dep_x", workspace, LIMITS) as session:
        script = f"{daemon(python)}\nwhile [ ! -e go ]; do sleep 0.05; done"
        task = asyncio.create_task(run_shell(session, workspace, script))
        await life.begin(2)
        (workspace / "go").touch()
        assert (await task).is_ok
        assert life.is_over()


async def test_cancelling_ends_the_tree_before_it_returns(
    runner: BuildRunner, workspace: Path, life: Life, python: str
) -> None:
    async with runner.session("dep_x", workspace, LIMITS) as session:
        task = asyncio.create_task(run_shell(session, workspace, f"{daemon(python)}\nsleep 60"))
        await life.begin(2)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert life.is_over()
        assert time.monotonic() - started < 5


async def test_failing_reader_ends_the_command_and_is_raised(runner: BuildRunner, workspace: Path, life: Life) -> None:
    async def refuse(stream: str, data: bytes) -> None:
        raise LookupError(stream)

    async with runner.session("dep_x", workspace, LIMITS) as session:
        with pytest.raises(LookupError):
            await run_shell(session, workspace, f"{life.HOLD}; echo x; sleep 60", output=refuse)
        await life.begin(1)
        assert life.is_over()


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


async def test_too_much_memory_has_its_reason(runner: BuildRunner, workspace: Path, python: str) -> None:
    limits = BuildLimits(memory_bytes=200 * 1024**2)
    script = f"{python} -c 'import time; x = bytearray(400 * 1024 * 1024); time.sleep(20)'"
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


async def test_killed_platform_leaves_no_build_process(
    runner: BuildRunner, workspace: Path, life: Life, python: str
) -> None:
    platform = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PLATFORM, runner.name, str(workspace), f"{daemon(python)}\nsleep 60"
    )
    await life.begin(2)
    assert not life.is_over()
    platform.send_signal(signal.SIGKILL)
    await platform.wait()
    await life.end(within_s=5)


async def test_reaping_spares_what_is_held(runner: BuildRunner, workspace: Path) -> None:
    async def held() -> set[str]:
        return {workspace.name}

    async with runner.session("dep_x", workspace, LIMITS) as session:
        await runner.reap(workspace.parent, held)
        assert (await run_shell(session, workspace, "true")).is_ok


async def test_process_runner_survives_a_killed_supervisor(workspace: Path, life: Life) -> None:
    runner = await make_process()
    async with runner.session("dep_x", workspace, LIMITS) as session:
        script = f"echo $PPID > pid.new; mv pid.new pid; {daemon('python3')}\nsleep 60"
        task = asyncio.create_task(run_shell(session, workspace, script))
        await life.begin(2)
        os.kill(int((workspace / "pid").read_text()), signal.SIGKILL)
        assert (await task).reason == "killed"
    await life.end(within_s=5)
