"""Keeps the processes of `vclone up` running: starts them, waits until each is ready, restarts, stops in order.

Everything runs on one loop in the main thread, because a child's death signal follows the thread that forked it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vclone_core.embedded.children import Command, kill_group, spawn
from vclone_core.embedded.logfiles import cut_log, open_log, read_tail
from vclone_core.errors import ChildEnded, ServiceFailed
from vclone_core.log import get_log
from vclone_core.rules.restarts import GiveUp, is_silent, plan_restart

READY_POLL_S: Final = 0.02
LOG_CHECK_S: Final = 5.0
STOP_S: Final = 30.0
LAST_LINES: Final = 15
# Between two questions whether a process still answers.
QUESTION_S: Final = 5.0
# Our own processes write to their log where each thread stands when they get it, whatever they are doing.
TELL_SIGNAL: Final = signal.SIGUSR2
TELL_S: Final = 0.5

log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """One process to keep running.

    `command` is asked before every start and may do what the start needs. `is_ready` gets the process id. `stop_s` is
    how long it may take to end by itself. `is_answering` is asked every few seconds while it runs; one that doesn't for
    too long is killed, and started again like any that ended. `tells_where` says that it knows `TELL_SIGNAL`.
    """

    name: str
    command: Callable[[], Command]
    is_ready: Callable[[int], Awaitable[bool]]
    ready_s: float = 30.0
    stop_s: float = 8.0
    is_answering: Callable[[], Awaitable[bool]] | None = None
    tells_where: bool = False


@dataclass(slots=True)
class Running:
    """What is known of a member just now; `process` is None between two lives."""

    member: Member
    command: Command | None = None
    process: subprocess.Popen[bytes] | None = None
    state: str = "starting"
    restarts: int = 0
    keeper: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Supervisor:
    """The processes of one `up`, in the order they were started. `on_change` is called when any state changes."""

    log_dir: Path
    on_change: Callable[[], None] = field(default=lambda: None)
    running: dict[str, Running] = field(default_factory=dict)
    # Set to the reason when a member can't be kept running.
    failure: asyncio.Future[ServiceFailed] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _chores: list[asyncio.Task[None]] = field(default_factory=list)

    def spawn(self, *members: Member) -> None:
        """Start members; `wait_ready` must follow. Raises `ServiceFailed` when one can't even be prepared."""
        if not self._chores:
            self._chores.append(asyncio.create_task(self._keep_logs_small()))
        for member in members:
            self.running[member.name] = life = Running(member)
            self._spawn(life)

    async def wait_ready(self, *members: Member) -> None:
        """Return when all these members are ready; from then on each is kept running until `stop`.

        Raises `ServiceFailed` for the first that isn't.
        """
        waits = [asyncio.create_task(self._until_ready(self.running[member.name])) for member in members]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        for wait in done:
            wait.result()
        for member in members:
            life = self.running[member.name]
            life.keeper = asyncio.create_task(self._keep(life))

    async def stop(self) -> None:
        """End every member, the last started first, each waited for before the next; by force after 30 s in all."""
        deadline = time.monotonic() + STOP_S
        for task in (*self._chores, *(life.keeper for life in self.running.values() if life.keeper)):
            task.cancel()
        for life in reversed(self.running.values()):
            self._note(life, "stopping")
            await self._end(life, within_s=min(life.member.stop_s, max(deadline - time.monotonic(), 0.1)))
            self._note(life, "stopped")

    def kill(self) -> None:
        """End every member now, by force."""
        for life in reversed(self.running.values()):
            if life.process is not None and life.process.poll() is None:
                kill_group(life.process.pid)
                life.process.wait()

    def last_lines(self, name: str) -> str:
        """Return the end of a member's log, indented for a message."""
        text = read_tail(self._log_path(name), lines=LAST_LINES)
        return "\n".join(f"    {line}" for line in text.splitlines())

    def _log_path(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def _spawn(self, life: Running) -> None:
        life.command = life.member.command()
        with open_log(self._log_path(life.member.name)) as output:
            life.process = spawn(life.command, output)
        self._note(life, "starting")

    async def _until_ready(self, life: Running) -> None:
        member, process = life.member, life.process
        assert process is not None
        deadline = time.monotonic() + member.ready_s
        while not await member.is_ready(process.pid):
            if (code := process.poll()) is not None:
                raise self._ended(life, f"ended with {code}")
            if time.monotonic() > deadline:
                await self._tell_where(life)
                raise self._ended(life, f"was not ready after {member.ready_s:.0f} s")
            await asyncio.sleep(READY_POLL_S)
        self._note(life, "running")

    async def _keep(self, life: Running) -> None:
        """Wait for the member's end, start it again, and so on until it can't be kept running."""
        quick_ends, name = 0, life.member.name
        while True:
            assert life.process is not None
            born = time.monotonic()
            watch = asyncio.create_task(self._end_when_silent(life))
            try:
                code = await wait_for_end(life.process)
            finally:
                watch.cancel()
            lived_s = time.monotonic() - born
            self._note(life, "restarting")
            while True:
                plan = plan_restart(lived_s=lived_s, quick_ends=quick_ends)
                if isinstance(plan, GiveUp):
                    self._give_up(self._ended(life, f"ended {plan.quick_ends} times, the last time with {code}"))
                    return
                quick_ends = plan.quick_ends
                log.warning("child.ended", name=name, code=code, restart_after_s=plan.wait_s)
                await asyncio.sleep(plan.wait_s)
                life.restarts += 1
                try:
                    self._spawn(life)
                    await self._until_ready(life)
                except (ServiceFailed, OSError) as error:
                    await self._end(life, within_s=1.0)
                    log.warning("child.not_ready", name=name, why=str(error))
                    lived_s = 0.0
                    continue
                break

    async def _end_when_silent(self, life: Running) -> None:
        """Kill a member that does not answer any more."""
        ask, process = life.member.is_answering, life.process
        assert process is not None
        heard_at, unanswered = time.monotonic(), 0
        while ask is not None:
            await asyncio.sleep(QUESTION_S)
            if await ask():
                heard_at, unanswered = time.monotonic(), 0
                continue
            unanswered += 1
            silent_s = time.monotonic() - heard_at
            if is_silent(unanswered=unanswered, unanswered_s=silent_s):
                log.error(
                    "child.silent",
                    name=life.member.name,
                    silent_s=round(silent_s),
                    log=self._log_path(life.member.name),
                )
                await self._tell_where(life)
                kill_group(process.pid)
                return

    async def _tell_where(self, life: Running) -> None:
        """Let a member that hangs write down where, before it is ended."""
        if life.member.tells_where and life.process is not None and life.process.poll() is None:
            life.process.send_signal(TELL_SIGNAL)
            await asyncio.sleep(TELL_S)

    def _ended(self, life: Running, how: str) -> ChildEnded:
        name = life.member.name
        return ChildEnded(name=name, how=how, log=self._log_path(name), lines=self.last_lines(name))

    def _give_up(self, error: ServiceFailed) -> None:
        if not self.failure.done():
            self.failure.set_result(error)

    async def _end(self, life: Running, *, within_s: float) -> None:
        process, command = life.process, life.command
        if process is None or command is None:
            return
        if process.poll() is None:
            process.send_signal(command.stop_signal)
            try:
                async with asyncio.timeout(within_s):
                    await wait_for_end(process)
            except TimeoutError:
                log.warning("child.killed", name=life.member.name, after_s=within_s)
                kill_group(process.pid)
                await wait_for_end(process)

    def _note(self, life: Running, state: str) -> None:
        if life.state != state or state == "starting":
            life.state = state
            self.on_change()

    async def _keep_logs_small(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_S)
            for name in self.running:
                cut_log(self._log_path(name))


async def wait_for_end(process: subprocess.Popen[bytes]) -> int:
    """Return how a child ended, without a thread and, on Linux, without polling; kill what it left in its group."""
    try:
        handle = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # another system, or it is gone
        while process.poll() is None:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.1)
        return process.wait()
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    # Before it is reaped: until then its number, which is its group's, can't be given to another.
    kill_group(process.pid)
    return process.wait()


def stop_signals(loop: asyncio.AbstractEventLoop, on_first: Callable[[], None], on_second: Callable[[], None]) -> None:
    """Call `on_first` for the first Ctrl-C, SIGTERM or closed terminal, `on_second` for any later one.

    Below `nohup` a closed terminal stays ignored.
    """
    seen: list[int] = []

    def on_signal(number: int) -> None:
        seen.append(number)
        (on_second if len(seen) > 1 else on_first)()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, on_signal, number)
