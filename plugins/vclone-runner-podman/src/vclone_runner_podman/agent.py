"""Process 1 of a build's container: runs commands for the worker, `python3 -I -S agent.py`, and holds nothing of value.

The worker listens on Unix sockets in this file's folder. `agent` is the lifeline: a packet says what to run or to end,
with file descriptors for the command and its output; its end ends the container. `egress`, where there is one, is the
worker's proxy, made reachable on loopback. It runs as the build's own user, so the worker believes nothing it says.
As `agent.py connect HOST PORT` it is what ssh reaches a host through.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
PROXY_PORT = 3128
CONNECTIONS = 256
CHUNK_BYTES = 64 * 1024
PACKET_BYTES = 4096
PR_SET_DUMPABLE, SURE_S = 4, 5.0


class Agent:
    """The commands that run, by the worker's number for each."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.pids: dict[int, int] = {}
        self.is_over = asyncio.Event()

    def read(self) -> None:
        """Take one packet: `run` or `end` of a command; an empty one means that the worker is gone."""
        try:
            packet, descriptors, _, _ = socket.recv_fds(self.control, PACKET_BYTES, 3)
        except BlockingIOError:
            return
        except OSError:
            packet, descriptors = b"", []
        if not packet:
            self.is_over.set()
            return
        message = json.loads(packet)
        if message["do"] == "run":
            self.start(message["number"], descriptors)
        elif (pid := self.pids.get(message["number"])) is not None:
            end_tree(pid)

    def start(self, number: int, descriptors: list[int]) -> None:
        """Run the command that the first descriptor describes, with the others as its output."""
        spec_fd, out_fd, error_fd = descriptors
        with os.fdopen(spec_fd, "rb") as file:
            file.seek(0)
            spec = json.load(file)
        try:
            pid = os.fork()
        except OSError as error:
            os.write(error_fd, f"{spec['argv'][0]}: {error.strerror}\n".encode())
            pid = None
        if pid == 0:
            become(spec, out_fd, error_fd)
        os.close(out_fd)
        os.close(error_fd)
        if pid is None:
            self.say({"number": number, "code": 126})
        else:
            self.pids[number] = pid

    def reap(self) -> None:
        """Take back what ended, and end whatever a command left running."""
        ended: dict[int, int] = {}
        with contextlib.suppress(ChildProcessError):
            while (one := os.waitpid(-1, os.WNOHANG))[0]:
                ended[one[0]] = os.waitstatus_to_exitcode(one[1])
        for number, pid in list(self.pids.items()):
            if pid not in ended:
                continue
            del self.pids[number]
            if self.pids:
                # Whose the strays are can't be told while others run: they end with the last one.
                end_session(pid)
            else:
                end_everything()
            self.say({"number": number, "code": ended[pid]})

    def say(self, message: dict[str, Any]) -> None:
        """Send the worker a packet."""
        with contextlib.suppress(OSError):
            self.control.send(json.dumps(message).encode())


def become(spec: dict[str, Any], out_fd: int, error_fd: int) -> NoReturn:
    """Turn this fresh child into the command; never returns."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (spec["file_bytes"], spec["file_bytes"]))
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("800")
        os.umask(0o022)
        os.chdir(spec["cwd"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out_fd, 1)
        os.dup2(error_fd, 2)
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606
    except OSError as error:
        os.write(error_fd, f"{spec['argv'][0]}: {error.strerror}\n".encode())
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)
    finally:
        os._exit(126)


def processes() -> Iterator[tuple[int, int, int]]:
    """Yield (process, parent, session) of everything in the container."""
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                # The name in parentheses may hold anything, also parentheses.
                fields = file.read().rpartition(b")")[2].split()
                yield int(name), int(fields[1]), int(fields[3])


def end_tree(root: int) -> None:
    """End a command with all that is still below it."""
    found, grows = {root}, True
    while grows:
        more = {pid for pid, parent, session in processes() if parent in found or session == root} - found
        found |= more
        grows = bool(more)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in found - {1}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def end_session(root: int) -> None:
    """End what is left of a command's session."""
    for pid, _, session in processes():
        if session == root:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def end_everything() -> None:
    """End every other process: the kernel kills all at once, so that none can start another meanwhile."""
    deadline = time.monotonic() + SURE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Join one connection of the build to the worker's proxy."""
    try:
        there, out = await asyncio.open_unix_connection(HERE + "/egress")
    except OSError:
        writer.close()
        return
    ways = [asyncio.ensure_future(copy(reader, out)), asyncio.ensure_future(copy(there, writer))]
    try:
        await asyncio.gather(*ways)
    except OSError:
        pass
    finally:
        for way in ways:
            way.cancel()
        out.close()
        writer.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on to their end, then say so."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def main() -> None:
    """Serve the worker until it goes."""
    forbid_inspection()
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.connect(HERE + "/agent")
    control.setblocking(False)
    agent = Agent(control)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, agent.reap)
    loop.add_signal_handler(signal.SIGTERM, agent.is_over.set)
    if os.path.exists(HERE + "/egress"):  # noqa: ASYNC240, PTH110
        allowed = asyncio.Semaphore(CONNECTIONS)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async with allowed:
                await carry(reader, writer)

        await asyncio.start_server(serve, "127.0.0.1", PROXY_PORT, backlog=CONNECTIONS)
    with open("/proc/self/status") as file:  # noqa: ASYNC230, PTH123
        status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    with open("/proc/self/uid_map") as file:  # noqa: ASYNC230, PTH123
        uid_map = file.read().split()
    facts = {name: status[name] for name in ("CapEff", "NoNewPrivs", "Seccomp")}
    agent.say({"ready": {**facts, "uid_map": uid_map}})
    loop.add_reader(control, agent.read)
    await agent.is_over.wait()
    end_everything()


def connect(host: str, port: str) -> int:
    """Join standard input and output to a host, through the proxy; what refuses it is said."""
    try:
        line = socket.create_connection(("127.0.0.1", PROXY_PORT))
        line.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            if not (piece := line.recv(1)):
                break
            answer += piece
    except OSError as error:
        answer = f"HTTP/1.1 502 {error.strerror}".encode()
    if answer.split(b" ")[1:2] != [b"200"]:
        sys.stderr.write(f"ssh: no connection to {host}: {answer.decode(errors='replace').splitlines()[0]}\n")
        return 1
    if os.fork() == 0:
        while data := os.read(0, CHUNK_BYTES):
            line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        os._exit(0)
    while data := line.recv(CHUNK_BYTES):
        os.write(1, data)
    return 0


def forbid_inspection() -> None:
    """Keep the build, which is the same user, from reading or steering this process."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["connect"]:
        sys.exit(connect(*sys.argv[2:4]))
    asyncio.run(main())
    sys.exit(0)
