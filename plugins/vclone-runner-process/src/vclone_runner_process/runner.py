"""`ProcessRunner`: a session is a private home; each command of it runs below a supervisor of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from vclone_core import BuildSession, ExitStatus, Held, OnOutput, RunnerConfig, buildsessions, errors, get_log
from vclone_core.models import BuildLimits
from vclone_runner_process.sandbox import Sandbox, open_sandbox, write_user

# In the workspace, so that whoever cleans up after a dead worker finds it there.
HOME: Final = ".home"
SUPERVISOR: Final = Path(__file__).with_name("supervisor.py")
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a tree may still say after it was told to end, and how long its supervisor may take over it.
LAST_WORDS_S: Final = 2.0
END_S: Final = 10.0
# Every process of a session carries it, so that what outlives a killed supervisor is found.
MARK: Final = "VCLONE_BUILD_SESSION"

MODES: Final = ("auto", "bubblewrap", "none")

log = get_log(__name__)


class ProcessRunner:
    """Runs builds as processes of this machine's user, inside bubblewrap where that works here.

    It doesn't isolate them: without bubblewrap from nothing, with it not from the machine's network and kernel.
    """

    name = "process"
    is_isolating = False
    note: str | None = (
        "Builds run as ordinary processes of this machine and are not isolated: deploy only code you trust."
    )

    def __init__(self, config: RunnerConfig) -> None:
        self._path = config.options.get("path") or DEFAULT_PATH
        self._mode = config.options.get("sandbox") or "auto"
        shown = (config.options.get("visible") or "").split(":")
        self._visible = [path for path in (*shown, *_own_folders(self._path)) if path.startswith("/")]
        self._sandbox: Sandbox | None = None
        self._probed = asyncio.Lock()
        self._problem: str | None = "not looked at yet"
        self._environment = {
            name.removeprefix("env."): value for name, value in config.options.items() if name.startswith("env.")
        }

    async def check(self) -> str | None:
        """Say why builds can't run here; None when they can. `note` says what a build is not protected from."""
        if not sys.platform.startswith("linux") or not os.path.exists("/proc/self/stat"):  # noqa: PTH110, ASYNC240
            return "The process runner needs Linux with /proc."
        if shutil.which("sh", path=self._path) is None:
            return f"The process runner found no sh on {self._path}."
        if self._mode not in MODES:
            return f"The option sandbox of the process runner is one of {', '.join(MODES)}."
        why = await self._open_sandbox()
        if why is not None and self._mode == "bubblewrap":
            return f"The process runner is to use bubblewrap: {why}."
        return None

    async def _open_sandbox(self) -> str | None:
        """Find the sandbox that works here, once; return why there is none."""
        async with self._probed:
            if self._problem != "not looked at yet":
                return self._problem
            if self._mode == "none":
                self._problem = "it is switched off"
            else:
                found = await open_sandbox(self._visible)
                self._problem = found if isinstance(found, str) else None
                self._sandbox = None if isinstance(found, str) else found
            self.note = self._sandbox.note if self._sandbox else f"{ProcessRunner.note} Bubblewrap: {self._problem}."
            return self._problem

    @asynccontextmanager
    async def session(self, build_id: str, workspace: Path, limits: BuildLimits) -> AsyncIterator[BuildSession]:
        """Open a session with a home of its own in `workspace`, which goes when the session ends."""
        why = await self._open_sandbox()
        if why is not None and self._mode == "bubblewrap":
            raise errors.RunnerUnavailable(why=why)
        mark = secrets.token_hex(16)
        workspace = Path(os.path.realpath(workspace))  # noqa: ASYNC240
        home = workspace / HOME
        await asyncio.to_thread(_make_home, home)
        environment = {**buildsessions.base_environment(home, self._path), **self._environment}
        try:
            yield ProcessSession(workspace, limits, environment, mark, self._sandbox)
        finally:
            await buildsessions.uninterrupted(asyncio.to_thread(_clean_up, home, mark, build_id))

    async def reap(self, builds_dir: Path, held: Held) -> None:
        """Do nothing: the supervisor of each command ends with the worker."""


class ProcessSession:
    """One build's home and limits."""

    def __init__(
        self,
        workspace: Path,
        limits: BuildLimits,
        environment: Mapping[str, str],
        mark: str,
        sandbox: Sandbox | None,
    ) -> None:
        self._workspace = workspace
        self._sandbox = sandbox
        self._limits = limits
        self._environment = environment
        self._mark = mark
        self._numbers = itertools.count(1)

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        timeout_s: float,
        on_output: OnOutput,
        network: bool = True,
    ) -> ExitStatus:
        """Run a command; HOME, PATH, TMPDIR and LANG are there unless `env` has its own. `on_output` never overlaps."""
        folder = buildsessions.find_folder(self._workspace, cwd)
        mark = f"{self._mark}.{next(self._numbers)}."
        if self._sandbox is not None:
            home = self._workspace / HOME
            argv = self._sandbox.wrap(argv, workspace=self._workspace, home=home, cwd=folder, network=network)
        spec = {
            "parent": os.getpid(),
            "argv": list(argv),
            "cwd": folder,
            "env": {**self._environment, **env, MARK: mark},
            "memory_bytes": self._limits.memory_bytes,
            "processes": self._limits.processes,
            "file_bytes": self._limits.disk_bytes,
        }
        report_read, report_write = os.pipe()
        try:
            # The command line says nothing of the command, its environment may hold secrets.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(SUPERVISOR), str(report_write),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                pass_fds=(report_write,), start_new_session=True, cwd="/", env={}, limit=buildsessions.CHUNK_BYTES,
            )  # fmt: skip
        except BaseException:
            os.close(report_read)
            raise
        finally:
            os.close(report_write)
        report = asyncio.create_task(_read_report(report_read))
        status = await _follow(process, json.dumps(spec).encode() + b"\n", report, mark, timeout_s, on_output)
        return status if self._sandbox is None else _read_wrapped(status)


async def _follow(
    process: asyncio.subprocess.Process,
    spec: bytes,
    report: asyncio.Task[bytes],
    mark: str,
    timeout_s: float,
    on_output: OnOutput,
) -> ExitStatus:
    """Start the command of `spec`, pass its output on until its tree is gone, and say how it ended."""
    assert process.stdin and process.stdout and process.stderr
    turn = asyncio.Lock()
    pumps = [
        asyncio.create_task(buildsessions.pass_output(process.stdout, "stdout", on_output, turn)),
        asyncio.create_task(buildsessions.pass_output(process.stderr, "stderr", on_output, turn)),
    ]
    finish = asyncio.create_task(_finish(report, pumps, mark))
    try:
        process.stdin.write(spec)
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        done, _ = await asyncio.wait([finish, *pumps], timeout=timeout_s, return_when=asyncio.FIRST_EXCEPTION)
        is_late = not finish.done() and not any(task.exception() for task in done)
        if is_late:
            process.stdin.close()
            await asyncio.wait([finish], timeout=END_S)
        for pump in pumps:
            if pump.done():
                pump.result()
        return _read_status(finish.result() if finish.done() else b"", is_late=is_late)
    finally:
        await buildsessions.uninterrupted(_end(process, [report, finish, *pumps], mark))


async def _finish(report: asyncio.Task[bytes], pumps: Sequence[asyncio.Task[None]], mark: str) -> bytes:
    """Return the supervisor's report once all output was read; what still writes then has lost its supervisor."""
    text = await asyncio.shield(report)
    _, open_ones = await asyncio.wait(pumps, timeout=LAST_WORDS_S)
    if open_ones:
        await asyncio.to_thread(_kill_marked, mark)
        await asyncio.wait(pumps)
    return text


async def _read_report(descriptor: int) -> bytes:
    # The pipe's end is the sign that the supervisor is gone; asyncio's own wait() also waits for the output.
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    try:
        return await reader.read()
    finally:
        transport.close()


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(buildsessions.CHUNK_BYTES):
        pass


async def _end(process: asyncio.subprocess.Process, tasks: Sequence[asyncio.Task[Any]], mark: str) -> None:
    """Make sure that the supervisor, and with it the tree, is gone, and nothing reads from it any more."""
    assert process.stdin and process.stdout and process.stderr
    process.stdin.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    rest = asyncio.gather(_drain(process.stdout), _drain(process.stderr), process.wait())
    try:
        async with asyncio.timeout(END_S):
            await asyncio.shield(rest)
    except TimeoutError:
        log.error("build.supervisor_stuck", pid=process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.to_thread(_kill_marked, mark)
        await rest


def _read_status(text: bytes, *, is_late: bool) -> ExitStatus:
    """Return how the command ended; a supervisor that could not say it was killed itself."""
    try:
        report: dict[str, Any] = json.loads(text)
    except ValueError:
        report = {"code": -signal.SIGKILL, "ended_by": "killed"}
    if report.get("left"):
        log.error("build.processes_left", count=report["left"])
    code = int(report["code"])
    if is_late:
        return ExitStatus(code, "timeout")
    match report["ended_by"]:
        case "memory":
            return ExitStatus(code, "memory")
        case "killed" | "processes":
            return ExitStatus(code, "killed")
    if code == -signal.SIGKILL:
        # Nobody here sent it: the kernel does, when memory is short.
        return ExitStatus(code, "memory")
    if code == -signal.SIGXFSZ:
        return ExitStatus(code, "disk")
    return ExitStatus(code, "signal" if code < 0 else "exit")


def _read_wrapped(status: ExitStatus) -> ExitStatus:
    """Return how a command inside bubblewrap ended, which says 128 + N of one that signal N ended."""
    if status.reason != "exit" or not 128 < status.code < 160:
        return status
    number = status.code - 128
    reasons = {signal.SIGKILL: "memory", signal.SIGXFSZ: "disk"}
    return ExitStatus(-number, reasons.get(signal.Signals(number), "signal") if number in _SIGNALS else "exit")


_SIGNALS: Final = frozenset(int(one) for one in signal.Signals)


def _own_folders(path: str) -> list[str]:
    """Return the folders of programs that lie beside the system's: of `/home/x/node/bin` it is `/home/x/node`."""
    folders = [os.path.realpath(folder) for folder in path.split(":") if folder.startswith("/")]
    own = [folder for folder in folders if not folder.startswith(("/usr/", "/bin", "/sbin"))]
    return [os.path.dirname(folder) if folder.endswith("/bin") else folder for folder in own]  # noqa: PTH120


def _make_home(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700, parents=True)
    (home / "tmp").mkdir()
    write_user(home)


def _clean_up(home: Path, mark: str, build_id: str) -> None:
    if killed := _kill_marked(mark):
        log.warning("build.stray_processes", build=build_id, count=killed)
    shutil.rmtree(home, ignore_errors=True)


def _kill_marked(mark: str) -> int:
    """End every process whose environment was given `mark`, or a mark that begins with it; say how many."""
    killed: set[int] = set()
    wanted = f"\0{MARK}={mark}".encode()
    while True:
        # The variables of a zombie are empty, so a killed process isn't found again.
        found = [pid for pid in _list_processes() if wanted in b"\0" + _read_environment(pid)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        # One that can't be killed (another user's) must not hold this up for ever.
        if killed.issuperset(found):
            return len(killed)
        killed.update(found)


def _list_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _read_environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
