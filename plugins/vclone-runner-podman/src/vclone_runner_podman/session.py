"""One build's container as the worker sees it: packets to the agent in it, pipes that its commands write to.

The agent is the build's own user in the build's own container, so what it says is output, not truth: it can lie about
how a command ended and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vclone_core import ExitStatus, OnOutput, buildsessions, errors, get_log
from vclone_core.models import BuildLimits
from vclone_runner_podman.cgroups import Cgroup, Counts, find_cgroup
from vclone_runner_podman.containers import INSIDE
from vclone_runner_podman.egress import EgressProxy
from vclone_runner_podman.ownership import hand_over
from vclone_runner_podman.watching import watch

HOME: Final = ".home"
PACKET_BYTES: Final = 4096
PROXY: Final = "http://127.0.0.1:3128"
LAST_WORDS_S: Final = 2.0
END_S: Final = 5.0

log = get_log(__name__)


class Channel:
    """The agent's end of the line: what it said of itself, and how its commands end."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._ended: dict[int, asyncio.Future[int]] = {}
        self.ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self.pid: int = struct.unpack("3i", control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        self._pidfd: int | None = None
        with contextlib.suppress(OSError):
            self._pidfd = os.pidfd_open(self.pid)

    def run(self, number: int, spec: Mapping[str, Any], outputs: Sequence[int]) -> asyncio.Future[int]:
        """Start a command; the result is its exit code. The spec travels in memory: no argument, no file, no size."""
        ended = self._ended[number] = asyncio.get_running_loop().create_future()
        memory = os.memfd_create("spec", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(memory), "wb") as file:
                file.write(json.dumps(spec).encode())
            packet = json.dumps({"do": "run", "number": number}).encode()
            socket.send_fds(self._control, [packet], [memory, *outputs])
        except OSError:
            self._lose()
        finally:
            os.close(memory)
        return ended

    def end(self, number: int) -> None:
        """Ask the agent to end a command's tree."""
        with contextlib.suppress(OSError):
            self._control.send(json.dumps({"do": "end", "number": number}).encode())

    async def close(self) -> bool:
        """Hang up: the agent ends, and with it everything in the container. Say whether that was seen."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._control.close()
        self._lose()
        if self._pidfd is None:
            return False
        try:
            return await _wait_readable(self._pidfd, END_S)
        finally:
            os.close(self._pidfd)
            self._pidfd = None

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while packet := await loop.sock_recv(self._control, PACKET_BYTES):
                try:
                    self._take(json.loads(packet))
                except (ValueError, TypeError, KeyError, AttributeError):
                    log.warning("build.agent_babbles")
        self._lose()

    def _take(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            if not self.ready.done():
                self.ready.set_result(dict(message["ready"]))
        elif (ended := self._ended.pop(message["number"], None)) is not None and not ended.done():
            ended.set_result(int(message["code"]))

    def _lose(self) -> None:
        self.gone.set()
        self.ready.cancel()
        for future in self._ended.values():
            future.cancel()
        self._ended.clear()


class PodmanSession:
    """One build's commands in its container."""

    def __init__(
        self,
        channel: Channel,
        proxy: EgressProxy | None,
        *,
        workspace: Path,
        limits: BuildLimits,
        environment: Mapping[str, str],
        owner: int,
        ends_container: Any,
    ) -> None:
        self._channel = channel
        self._proxy = proxy
        self._workspace = workspace
        self._limits = limits
        self._environment = environment
        self._owner = owner
        self._ends_container = ends_container
        self._numbers = itertools.count(1)
        self._running = 0
        self.cgroup: Cgroup = find_cgroup(channel.pid)

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
        """Run a command; HOME, PATH, TMPDIR and the proxy's variables are there unless `env` has its own."""
        folder = buildsessions.find_folder(self._workspace, cwd)
        if not self._running:
            await asyncio.to_thread(hand_over, self._workspace, owner=self._owner)
        spec = {
            "argv": list(argv),
            "cwd": folder,
            "env": {**self._environment, **env},
            "file_bytes": self._limits.disk_bytes,
        }
        is_open = network and self._proxy is not None
        self._running += 1
        if is_open:
            assert self._proxy is not None
            self._proxy.open()
        try:
            return await self._follow(spec, timeout_s, on_output)
        finally:
            self._running -= 1
            if is_open:
                assert self._proxy is not None
                await self._proxy.shut()

    async def _follow(self, spec: Mapping[str, Any], timeout_s: float, on_output: OnOutput) -> ExitStatus:
        """Start a command, pass its output on until its tree is gone, and say how it ended."""
        number = next(self._numbers)
        turn = asyncio.Lock()
        before = self.cgroup.count()
        reasons: list[str] = []

        def end(reason: str) -> None:
            reasons.append(reason)
            self._channel.end(number)

        (out_read, out_write), (error_read, error_write) = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        ended = self._channel.run(number, spec, (out_write, error_write))
        os.close(out_write)
        os.close(error_write)
        pumps = [
            asyncio.create_task(_pump(out_read, "stdout", on_output, turn)),
            asyncio.create_task(_pump(error_read, "stderr", on_output, turn)),
        ]
        finish = asyncio.create_task(_finish(ended, pumps))
        watcher = asyncio.create_task(watch(self.cgroup, self._workspace, self._limits, end))
        try:
            done, _ = await asyncio.wait([finish, *pumps], timeout=timeout_s, return_when=asyncio.FIRST_EXCEPTION)
            if not finish.done() and not any(task.exception() for task in done):
                end("timeout")
                await asyncio.wait([finish], timeout=END_S)
            for pump in pumps:
                if pump.done():
                    pump.result()
            code = finish.result() if finish.done() else None
            if code is None and not self._channel.gone.is_set():
                log.error("build.agent_stuck", pid=self._channel.pid)
            await self._tell_refusals(on_output, turn)
            return _read_status(code, reasons, before, self.cgroup.count())
        finally:
            await buildsessions.uninterrupted(self._end(number, ended, [finish, watcher, *pumps]))

    async def _tell_refusals(self, on_output: OnOutput, turn: asyncio.Lock) -> None:
        if self._proxy is not None and (lines := self._proxy.take_refusals()):
            async with turn:
                await on_output("stderr", "".join(f"vclone: {line}\n" for line in lines).encode())

    async def _end(self, number: int, ended: asyncio.Future[int], tasks: Sequence[asyncio.Task[Any]]) -> None:
        """Make sure that the tree is gone: by the agent, else with the container."""
        if not ended.done():
            self._channel.end(number)
            await asyncio.wait([ended], timeout=END_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not ended.done():
            await self._ends_container()


async def _wait_readable(descriptor: int, timeout_s: float) -> bool:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        async with asyncio.timeout(timeout_s):
            await readable.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
    return True


async def _finish(ended: asyncio.Future[int], pumps: Sequence[asyncio.Task[None]]) -> int | None:
    """Return the exit code once all output was read; None where the container went."""
    await asyncio.wait([ended])
    code = None if ended.cancelled() else ended.result()
    await asyncio.wait(pumps, timeout=None if code is not None else LAST_WORDS_S)
    return code


async def _pump(descriptor: int, name: str, on_output: OnOutput, turn: asyncio.Lock) -> None:
    reader = asyncio.StreamReader(limit=buildsessions.CHUNK_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    try:
        await buildsessions.pass_output(reader, name, on_output, turn)
    finally:
        transport.close()


def _read_status(code: int | None, reasons: Sequence[str], before: Counts, after: Counts) -> ExitStatus:
    """Return how a command ended. An exit of 137 alone says nothing: the kernel's count of the container does.

    Nothing in a container can end its first process, so where that went the build is not to blame.
    """
    lacked = (after.out_of_memory or 0) > (before.out_of_memory or 0)
    if code == 0 and not reasons:
        return ExitStatus(0)
    number = -9 if code is None else code
    if lacked and reasons[:1] != ["timeout"]:
        return ExitStatus(number, "memory")
    if reasons:
        return ExitStatus(number, reasons[0])
    if code is None:
        raise errors.RunnerUnavailable(why="the build's container was ended from outside")
    if code == -25:  # SIGXFSZ
        return ExitStatus(number, "disk")
    return ExitStatus(number, "signal" if number < 0 else "exit")


def plan_environment(home: Path, path: str, *, has_proxy: bool, has_bundle: bool) -> dict[str, str]:
    """Return the variables of every command: a private home, and how each tool finds the proxy and the CA bundle."""
    given = {**buildsessions.base_environment(home, path), "USER": "build"}
    if has_proxy:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "YARN_HTTP_PROXY", "YARN_HTTPS_PROXY"):
            given[name] = PROXY
        # fetch() of Node.js asks for the variables only when it is told to.
        given |= {"no_proxy": "localhost,127.0.0.1,::1", "NO_PROXY": "localhost,127.0.0.1,::1"}
        given["NODE_USE_ENV_PROXY"] = "1"
    if has_bundle:
        for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT",
                     "REQUESTS_CA_BUNDLE"):  # fmt: skip
            given[name] = f"{INSIDE}-ca.pem"
    return given
