"""Child processes that never outlive this one: how a command is started, watched and ended.

Linux sends a child its death signal when the *thread* that forked it ends, so call `spawn` from the main thread.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine that a child runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Command:
    """One program to run. `env` is its whole environment; `death_signal` is what it gets when this process dies.

    `stdin` is a descriptor of this process's that it reads from; None: it has nothing to read.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path | None = None
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGTERM
    stdin: int | None = None


def spawn(command: Command, output: IO[bytes] | int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, so that Ctrl-C in the terminal reaches only this process.

    The working directory is entered before the account changes: the child may stand in a folder whose parents its
    account can't pass. Raises `OSError` when the program can't be started.
    """
    account = command.account
    return subprocess.Popen(
        command.argv,
        env=dict(command.env),
        cwd=command.cwd,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        stdin=subprocess.DEVNULL if command.stdin is None else command.stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        umask=0o077,
        start_new_session=True,
        # Runs after the change of user, which would clear the death signal again.
        preexec_fn=_die_with_parent(command.death_signal),
    )


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = _libc().prctl
    parent = os.getpid()

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return in_child


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Service:
    """A running server of this machine's own: where it answers, and how it ends."""

    url: str
    command: Command
    process: subprocess.Popen[bytes]
    on_stopped: Callable[[], None] = field(default=lambda: None)

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self, timeout_s: float = 10.0) -> None:
        """End it in an orderly way, by force after `timeout_s`, and remove what it kept for its run. Safe to repeat."""
        end(self.process, self.command.stop_signal, timeout_s=timeout_s)
        self.on_stopped()


def end(process: subprocess.Popen[bytes], stop_signal: signal.Signals, *, timeout_s: float) -> int:
    """Signal a child and wait for it; kill its process group when it takes longer. Return how it ended."""
    if process.poll() is None:
        process.send_signal(stop_signal)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            kill_group(process.pid)
    return process.wait()


def kill_group(pid: int) -> None:
    """Kill a child and everything that stayed in its session's first group; no error when it is gone."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group that has ended
        return


def plain_environment(environ: Mapping[str, str], keep: Sequence[str] = ()) -> dict[str, str]:
    """Return the few variables a database server needs: nothing of this process's secrets or locale."""
    kept = {name: environ[name] for name in ("PATH", "TZ", *keep) if name in environ}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C"}
