"""Runs one command and ends everything it started: `python -I -S supervisor.py STATUS_FD`, started by `runner.py`.

Standard input is the lifeline: one line of JSON says what to run, then its end (the platform is gone, or wants the
command gone) ends the tree. As reaper of its descendants it finds also those that left the session. The answer is one
JSON object on STATUS_FD. Imports are few, because every command of a build waits for them.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
WATCH_S = 0.5
# A process in an uninterruptible system call can't be waited for without end.
KILL_S = 5.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_libc = ctypes.CDLL(None, use_errno=True)


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Run the command of `spec` to its end, or until it must end; then end all it left behind."""
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    is_told = [False]
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: is_told.__setitem__(0, True))
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != spec["parent"]:
        return {"code": -9, "ended_by": "killed"}
    main = os.fork()
    if main == 0:
        _become_command(spec)
    status, ended_by = _wait(spec, main, wake, is_told)
    left = _kill_descendants()
    return {"code": os.waitstatus_to_exitcode(status) if status is not None else -9, "ended_by": ended_by, "left": left}


def _wait(spec: dict[str, Any], main: int, wake: int, is_told: list[bool]) -> tuple[int | None, str | None]:
    """Return the command's wait status, or why it must end: `killed`, `memory`, `processes`."""
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    poll.register(wake, select.POLLIN)
    watch_at = time.monotonic() + WATCH_S
    while True:
        ready = poll.poll(max(0.0, watch_at - time.monotonic()) * 1000)
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 512)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == main:
                    return ended[1], None
        if is_told[0] or any(descriptor == 0 for descriptor, _ in ready):
            return None, "killed"
        if time.monotonic() >= watch_at:
            watch_at = time.monotonic() + WATCH_S
            found = list_descendants(os.getpid())
            if len(found) > spec["processes"]:
                return None, "processes"
            if sum(_own_memory(pid) for pid in found) > spec["memory_bytes"]:
                return None, "memory"


def _become_command(spec: dict[str, Any]) -> None:
    """Turn this fresh child into the command; never returns."""
    try:
        os.setsid()
        _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _lower(resource.RLIMIT_FSIZE, spec["file_bytes"])
        os.nice(5)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("800")
        os.umask(0o022)
        os.chdir(spec["cwd"])
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606
    except OSError as error:
        os.write(2, f"{spec['argv'][0]}: {error.strerror}\n".encode())
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _lower(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (limit, limit))


def list_descendants(root: int) -> list[int]:
    """Return every process below `root`, nearest first, zombies left out."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                # The name in parentheses may hold anything, also parentheses.
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state not in (b"Z", b"X"):
            children.setdefault(int(parent), []).append(int(name))
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def _own_memory(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
            _, resident, shared = file.read().split()[:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * PAGE_BYTES


def _kill_descendants() -> int:
    """End everything below this process; say how many would not end in `KILL_S`."""
    deadline = time.monotonic() + KILL_S
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return 0
        found = list_descendants(os.getpid())
        if time.monotonic() > deadline:
            return len(found)
        # All stop before the first ends, or one could start another while it is looked for.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        time.sleep(0.001)


def _read_line(descriptor: int) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(descriptor, 65536)
        if not piece:
            sys.exit(1)
        line += piece
    return bytes(line)


if __name__ == "__main__":
    status_fd = int(sys.argv[1])
    os.set_inheritable(status_fd, False)
    os.write(status_fd, json.dumps(run(json.loads(_read_line(0)))).encode())
