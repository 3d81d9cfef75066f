"""Podman's API: the operator's service where there is one, else one of our own that ends with this process.

podman-py is synchronous, so every call runs in a thread.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, TypeVar

import requests
from podman import PodmanClient
from podman.errors import APIError, PodmanError

from vclone_core import errors, get_log
from vclone_runner_podman.machine import Arrangement

CALL_S: Final = 60.0
PING_S: Final = 3.0
START_S: Final = 20.0
PR_SET_PDEATHSIG: Final = 1
PREFIX: Final = "vclone-podman-"
MISSING: Final = "Podman is not installed (on Debian: apt-get install podman)"

log = get_log(__name__)
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


class Podman:
    """A way to Podman that is looked for at the first call, and again when it was lost."""

    def __init__(self, socket: Path | None, arrangement: Arrangement) -> None:
        self._socket = socket
        self._arrangement = arrangement
        self._found: Path | None = None
        self._is_own = False
        self._lock = threading.Lock()

    @property
    def is_own(self) -> bool:
        """Whether the service is ours, with our arrangement, and not the operator's."""
        return self._is_own

    async def call(self, work: Callable[[PodmanClient], T], *, timeout_s: float = CALL_S) -> T:
        """Return what `work` returns for a client; raise `RunnerUnavailable` when Podman can't be reached.

        What Podman itself answers (`podman.errors.APIError`) stays as it is.
        """
        return await asyncio.to_thread(self._call, work, timeout_s)

    def _call(self, work: Callable[[PodmanClient], T], timeout_s: float) -> T:
        with self._lock:
            if self._found is None or not _answers(self._found):
                self._found = self._find()
            found = self._found
        try:
            with PodmanClient(base_url=f"unix://{found}", timeout=timeout_s) as client:
                return work(client)
        except APIError:
            raise
        except (requests.RequestException, OSError) as error:
            raise errors.RunnerUnavailable(why=f"Podman at {found}: {error}") from error

    def _find(self) -> Path:
        if self._socket is not None:
            if _answers(self._socket):
                return self._socket
            raise errors.RunnerUnavailable(why=f"nothing answers at Podman's socket {self._socket}")
        for path in usual_sockets():
            if _answers(path):
                return path
        self._is_own = True
        return _own_service(self._arrangement)


def usual_sockets() -> list[Path]:
    """Return where Podman's own units put its socket for this user."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    own = [Path(runtime) / "podman/podman.sock"] if runtime else []
    system = Path("/run/podman/podman.sock" if os.geteuid() == 0 else f"/run/user/{os.geteuid()}/podman/podman.sock")
    return list(dict.fromkeys([*own, system]))


def _answers(path: Path) -> bool:
    if not path.is_socket():
        return False
    try:
        with PodmanClient(base_url=f"unix://{path}", timeout=PING_S) as client:
            return bool(client.ping())
    except (PodmanError, requests.RequestException, OSError):
        return False


class _Own:
    """Services that this process started, one for each arrangement."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: dict[Arrangement, tuple[subprocess.Popen[bytes], Path]] = {}


_own = _Own()


def _own_service(arrangement: Arrangement) -> Path:
    with _own.lock:
        if (there := _own.running.get(arrangement)) is not None:
            if there[0].poll() is None and _answers(there[1]):
                return there[1]
            _end(*there)
        process, socket = _start(arrangement)
        if not _own.running:
            atexit.register(_end_all)
        _own.running[arrangement] = (process, socket)
        return socket


def _start(arrangement: Arrangement) -> tuple[subprocess.Popen[bytes], Path]:
    if shutil.which("podman") is None:
        raise errors.RunnerUnavailable(why=MISSING)
    _remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=_runtime_dir()))
    socket, said = folder / "podman.sock", folder / "log"
    with said.open("wb") as output:
        process = _spawn(plan_service(arrangement, socket), folder, output)
    deadline = time.monotonic() + START_S
    while not _answers(socket):
        if process.poll() is not None or time.monotonic() > deadline:
            why = said.read_text(encoding="utf-8", errors="replace").strip()[-500:]
            _end(process, socket)
            raise errors.RunnerUnavailable(why=f"`podman system service` did not start: {why or 'no answer'}")
        time.sleep(0.05)
    log.info("podman.started", pid=process.pid, runtime=arrangement.runtime, cgroups=arrangement.cgroup_manager)
    return process, socket


def _spawn(argv: list[str], folder: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
    parent = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    # The kernel sends the death signal when the *thread* that forked ends, so that thread must live as long as we do.
    made: list[subprocess.Popen[bytes] | OSError] = []
    ready = threading.Event()

    def keep() -> None:
        try:
            process = subprocess.Popen(
                argv,
                cwd=folder,  # where conmon leaves a file that says that memory was short
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            made.append(error)
            ready.set()
            return
        made.append(process)
        ready.set()
        process.wait()

    threading.Thread(target=keep, name="podman service", daemon=True).start()
    ready.wait()
    if isinstance(made[0], OSError):
        raise errors.RunnerUnavailable(why=f"podman could not be started: {made[0]}")
    return made[0]


def plan_service(arrangement: Arrangement, socket: Path) -> list[str]:
    """Return the command of a service of ours. What it is told by options it hands on to those that outlive it."""
    runtime = ["--runtime", arrangement.runtime] if arrangement.runtime else []
    options = ["--cgroup-manager", arrangement.cgroup_manager, "--events-backend", "file", *runtime]
    return ["podman", *options, "system", "service", "--time=0", f"unix://{socket}"]


def _runtime_dir() -> str | None:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return runtime if runtime and os.access(runtime, os.W_OK) else None


def _remove_leftovers() -> None:
    """Remove the folders of processes that were killed."""
    for path in Path(_runtime_dir() or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)


def _end(process: subprocess.Popen[bytes], socket: Path) -> None:
    with contextlib.suppress(OSError):
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    shutil.rmtree(socket.parent, ignore_errors=True)


def _end_all() -> None:
    for process, socket in _own.running.values():
        _end(process, socket)
    _own.running.clear()
