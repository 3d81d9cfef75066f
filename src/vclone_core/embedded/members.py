"""The five processes of `vclone up`: how each is started, and how it is known to be ready.

postgres, valkey -> api, edge, worker
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vclone_core.embedded.children import Command
from vclone_core.embedded.datadir import DataDir
from vclone_core.embedded.ports import reachable
from vclone_core.embedded.postgres import START_S, is_postgres_ready, prepare_postgres
from vclone_core.embedded.supervisor import Member
from vclone_core.embedded.valkey import is_valkey_ready, prepare_valkey
from vclone_core.settings import Settings

ANSWER_S: Final = 2.0
# For an answer of a process that runs: it may be busy.
PATIENCE_S: Final = 10.0
# Two plugins whose import hangs take `plugins.LOAD_S` each.
READY_S: Final = 60.0
# The edge gets no way to the database, and nothing that signs sessions.
_NOT_FOR_EDGE: Final = (
    "VCLONE_DATABASE_URL",
    "VCLONE_REDIS_URL",
    "VCLONE_SECRET_KEY",
    "VCLONE_SECRET_KEY_PREVIOUS",
    "VCLONE_AUTH_PROVIDERS",
)


@dataclass(slots=True)
class Databases:
    """The embedded servers of one run, and their URLs once they were prepared."""

    folder: DataDir
    run_dir: Path
    settings: Settings
    postgres_url: str = ""
    valkey_url: str = ""

    def postgres(self) -> Member:
        """PostgreSQL on the folder's cluster."""
        data = self.folder.path / "postgres"

        def command() -> Command:
            made, self.postgres_url = prepare_postgres(
                data,
                self.run_dir,
                is_durable=True,
                bin_dir=self.settings.postgres_bin,
                log_path=self.folder.logs / "postgres.log",
            )
            return made

        async def is_ready(pid: int) -> bool:
            return is_postgres_ready(data, pid)

        return Member("postgres", command, is_ready, ready_s=START_S, stop_s=8.0)

    def valkey(self) -> Member:
        """Valkey on the folder's file."""
        data = self.folder.path / "valkey"

        def command() -> Command:
            made, self.valkey_url = prepare_valkey(
                data, self.run_dir, is_durable=True, program=self.settings.valkey_bin
            )
            return made

        async def is_ready(_pid: int) -> bool:
            return is_valkey_ready(self.run_dir)

        return Member("valkey", command, is_ready, ready_s=START_S, stop_s=3.0)


@dataclass(slots=True)
class Gate:
    """Holds processes back that have done their imports, until the database is theirs to use.

    All read the end of one pipe; the kernel tells them when this side is closed, also by our death.
    """

    inside: int
    outside: int | None

    @classmethod
    def make(cls) -> Gate:
        outside, inside = os.pipe()
        return cls(inside, outside)

    def open(self) -> None:
        """Let everyone through, now and from now on."""
        if self.outside is not None:
            os.close(self.inside)
            os.close(self.outside)
            self.outside = None


def own_processes(settings: Settings, environ: Mapping[str, str], cwd: Path, gate: Gate) -> tuple[Member, ...]:
    """Return api, edge and worker: this program again, told everything by `environ`, never by arguments."""

    def member(
        name: str,
        is_ready_at: tuple[str, int, str, str] | None,
        stop_s: float,
        is_answering: Callable[[], Awaitable[bool]] | None,
    ) -> Member:
        hidden = _NOT_FOR_EDGE if name == "edge" else ()
        env = {key: value for key, value in environ.items() if key not in hidden}
        argv = (sys.executable, "-P", "-m", "vclone_core.cli", name, "--supervised", str(os.getpid()))

        async def is_ready(_pid: int) -> bool:
            return is_ready_at is None or await answers(*is_ready_at)

        return Member(
            name,
            lambda: Command(argv, env, cwd=cwd, stdin=gate.outside),
            is_ready,
            ready_s=READY_S,
            stop_s=stop_s,
            is_answering=is_answering,
            tells_where=True,
        )

    health = (settings.api_host, settings.api_port, "/api/health", "localhost")

    async def is_api_answering() -> bool:
        return await ask_status(*health, within_s=PATIENCE_S) != 0

    return (
        member("api", health, 5.0, is_api_answering),
        # A malformed host: the app refuses it by itself, so an edge is ready also while the API is away. It looks after
        # its workers itself, and must not fall because a flood of visitors keeps us out.
        member("edge", (settings.edge_host, settings.edge_port, "/", "ready..invalid"), 10.0, None),
        member("worker", None, 8.0, touched(Path(environ["VCLONE_WORKER_BEAT"]))),
    )


def touched(path: Path) -> Callable[[], Awaitable[bool]]:
    """Return a question: whether a file was touched since the question before. No clock is asked.

    One that isn't there tells nothing: a worker is not to be ended because somebody tidied up.
    """
    before = 0

    async def is_touched() -> bool:
        nonlocal before
        try:
            before, last = path.stat().st_mtime_ns, before  # noqa: ASYNC240 - of a file of this run
        except OSError:
            return True
        return before != last

    return is_touched


async def answers(host: str, port: int, path: str, asked_host: str) -> bool:
    """Say whether an HTTP server answers there with anything but a server's error."""
    return 200 <= await ask_status(host, port, path, asked_host, within_s=ANSWER_S) < 500


async def ask_status(host: str, port: int, path: str, asked_host: str, *, within_s: float) -> int:
    """Return the status that an HTTP server answers with; 0: it doesn't answer."""
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(reachable(host), port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nhost: {asked_host}\r\nconnection: close\r\n\r\n".encode())
                status = (await reader.readline()).split(b" ")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0
    is_answer = len(status) > 1 and status[0].startswith(b"HTTP/1") and status[1][:3].isdigit()
    return int(status[1][:3]) if is_answer else 0
