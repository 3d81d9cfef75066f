"""Keeps the edge's processes: fronts, workers and HTTP/3's are forked from here, watched, replaced, ended in order.

The supervisor itself serves nobody. It holds the public listeners, so that the death of a front loses no connection
that it had not accepted yet, and it has no threads, so that forking is safe at any time. Its death is the death of
all: the kernel sees to that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vclone_core.log import get_log
from vclone_edge.lane import lane_path
from vclone_edge.peers import HEALTH_NAME
from vclone_edge.roster import Roster, Standing
from vclone_edge.workers import die_with, name_process

_WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP)
_TICK_S = 0.02
_CALM_TICK_S = 0.5
_PROBE_EVERY_S = 2.0
_PROBE_PATIENCE_S = 30.0
_STEADY_S = 5.0
_LONGEST_PAUSE_S = 10.0
_HOPELESS_STARTS = 5
_FRONTS_FIRST_S = 0.25
_PROBE = b"GET / HTTP/1.1\r\nhost: health\r\nconnection: close\r\n\r\n"

_log = get_log(__name__)


@dataclass(slots=True)
class Post:
    """A place that a process fills: front 0, worker 1. `run` is what the process does, given its generation."""

    kind: str
    index: int
    run: Callable[[int], None]
    pid: int = 0
    generation: int = -1
    started_at: float = 0.0
    start_at: float = 0.0
    failures: int = 0
    is_ready: bool = False
    probe: socket.socket | None = None
    heard_at: float = 0.0
    probe_at: float = 0.0


class Supervisor:
    """Runs `fronts`, `workers` and `quic` until SIGTERM or SIGINT; a second signal doesn't wait for anybody."""

    def __init__(
        self,
        *,
        fronts: list[Callable[[int], None]],
        workers: list[Callable[[int], None]],
        quic: list[Callable[[int], None]],
        listeners: list[socket.socket],
        roster: Roster,
        drain_s: float,
    ) -> None:
        self._listeners = listeners
        self._roster = roster
        self._drain_s = drain_s
        self._posts = [Post("front", index, run) for index, run in enumerate(fronts)]
        self._posts += [Post("worker", index, run) for index, run in enumerate(workers)]
        self._posts += [Post("quic", index, run) for index, run in enumerate(quic)]
        self._has_served = False

    def run(self) -> int:
        """Return the exit code: 0 after a stop that was asked for, 1 if no worker could ever be started."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            return self._watch()
        finally:
            self._end_all(signal.SIGKILL)
            self._reap(wait=True)

    def _watch(self) -> int:
        while True:
            now = time.monotonic()
            for post in self._posts:
                if not post.pid and now >= post.start_at:
                    self._start(post, now)
                elif post.kind == "worker":
                    self._look_after(post, now)
            if not self._has_served and any(post.failures >= _HOPELESS_STARTS for post in self._posts):
                _log.error("edge.given_up", why="its processes end as soon as they start; the lines above say why")
                return 1
            received = signal.sigtimedwait(_WATCHED, self._pause(now))
            if received is None or received.si_signo == signal.SIGHUP:
                continue
            if received.si_signo == signal.SIGCHLD:
                self._reap()
                continue
            self._stop()
            return 0

    def _pause(self, now: float) -> float:
        """How long nothing can happen but a signal."""
        pause = _CALM_TICK_S
        for post in self._posts:
            if not post.pid:
                pause = min(pause, max(0.0, post.start_at - now))
            elif post.kind == "worker" and (post.probe is not None or not post.is_ready):
                pause = _TICK_S
        return pause

    def _start(self, post: Post, now: float) -> None:
        post.generation += 1
        post.started_at = post.heard_at = now
        post.probe_at = 0.0
        post.is_ready = False
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            post.pid = pid
            return
        code = 1
        try:
            # A Ctrl-C is for the supervisor, which ends things in order.
            os.setpgid(0, 0)
            for number in _WATCHED:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            die_with(parent)
            name_process(f"edge-{post.kind}-{post.index}")
            post.run(post.generation)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            _log.exception("process.failed", post=post.kind, index=post.index)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code)

    def _reap(self, *, wait: bool = False) -> None:
        """Take note of everybody who has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, 0 if wait else os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for post in self._posts:
                if post.pid == pid:
                    self._on_end(post, status)

    def _on_end(self, post: Post, status: int) -> None:
        now = time.monotonic()
        if post.kind == "worker":
            self._roster.note(post.index, post.generation, Standing.DOWN)
            with contextlib.suppress(OSError):
                Path(self._roster.socket_path(post.index, post.generation)).unlink()
            with contextlib.suppress(OSError):
                Path(lane_path(self._roster.socket_path(post.index, post.generation))).unlink()
        if post.probe is not None:
            post.probe.close()
            post.probe = None
        lived_s = now - post.started_at
        # The first death is replaced at once; only those who die young wait for their next life.
        post.failures = 0 if lived_s >= _STEADY_S else post.failures + 1
        pause = 0.0 if post.failures <= 1 else min(_LONGEST_PAUSE_S, 0.1 * 2.0**post.failures)
        post.start_at = now + pause
        _log.warning(
            "process.ended",
            post=post.kind,
            index=post.index,
            pid=post.pid,
            outcome=_outcome(status),
            lived_s=round(lived_s, 1),
            again_in_s=pause,
        )
        post.pid = 0

    # Workers' health

    def _look_after(self, post: Post, now: float) -> None:
        """Ask a worker for a sign of life, hear its answer, and end one that has been silent for too long."""
        if post.probe is None:
            if now >= post.probe_at:
                self._ask(post, now)
        else:
            try:
                answer = post.probe.recv(4096)
            except BlockingIOError:
                answer = None
            except OSError:
                answer = b""
            if answer is not None:
                post.probe.close()
                post.probe = None
                post.probe_at = now + (_PROBE_EVERY_S if answer else _TICK_S)
                if answer.startswith(b"HTTP/1.1 200 "):
                    self._on_sign_of_life(post, now)
        if now - post.heard_at >= _PROBE_PATIENCE_S:
            _log.error("worker.silent", index=post.index, pid=post.pid, silent_s=round(now - post.heard_at))
            os.kill(post.pid, signal.SIGKILL)
            post.heard_at = now

    def _ask(self, post: Post, now: float) -> None:
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        name = f"{self._roster.folder}/{HEALTH_NAME}"
        try:
            try:
                probe.bind(name)
                probe.connect(self._roster.socket_path(post.index, post.generation))
                probe.send(_PROBE)
            finally:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
        except OSError:
            # Not listening yet, or busy.
            probe.close()
            post.probe_at = now + _TICK_S
            return
        post.probe = probe

    def _on_sign_of_life(self, post: Post, now: float) -> None:
        post.heard_at = now
        if post.is_ready:
            return
        post.is_ready = self._has_served = True
        self._roster.note(post.index, post.generation, Standing.READY)
        _log.info("worker.ready", index=post.index, pid=post.pid, after_s=round(now - post.started_at, 2))

    # Ending

    def _stop(self) -> None:
        """Let fronts stop accepting, then workers finish what they have; return when all have ended, or are late."""
        _log.info("edge.draining", limit_s=self._drain_s)
        self._end_all(signal.SIGTERM, kind="front")
        self._end_all(signal.SIGTERM, kind="quic")
        # Whoever shares them, the next edge, goes on listening; with nobody left, visitors are refused at once.
        for listener in self._listeners:
            listener.close()
        began = time.monotonic()
        workers_told = False
        while any(post.pid for post in self._posts):
            passed = time.monotonic() - began
            if not workers_told and (passed >= _FRONTS_FIRST_S or not self._any("front")):
                self._end_all(signal.SIGTERM, kind="worker")
                workers_told = True
            if passed >= self._drain_s + 2.0:
                _log.warning("edge.drain_over", left=sum(1 for post in self._posts if post.pid))
                return
            received = signal.sigtimedwait(_WATCHED, _TICK_S)
            if received is None:
                continue
            if received.si_signo in (signal.SIGTERM, signal.SIGINT) and passed >= _FRONTS_FIRST_S:
                return
            self._reap_quietly()

    def _any(self, kind: str) -> bool:
        return any(post.pid for post in self._posts if post.kind == kind)

    def _reap_quietly(self) -> None:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for post in self._posts:
                if post.pid == pid:
                    post.pid = 0

    def _end_all(self, number: signal.Signals, *, kind: str | None = None) -> None:
        for post in self._posts:
            if post.pid and kind in (None, post.kind):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(post.pid, number)


def _outcome(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name
