"""A real worker that is struck by a signal at one moment of a build, or that lists the moments which it passes.

A moment is a query of the build's, or a file that the worker makes, moves or removes, or a process that it starts.
Each line of standard input (JSON: `doom`, a step, a number and a signal; or `list`, a file) forks a worker of its own;
its id is said at once, and how it ended, or that it was stopped, when that is so. Forking spares each the imports.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from vclone_core.actions.platform import open_platform
from vclone_core.build.worker import Worker, pipeline_with
from vclone_core.plugins import load_plugins
from vclone_core.protocols import RunnerConfig
from vclone_core.settings import load_settings
from vclone_core.stores.postgres import Database, Transaction

# What a worker asks whether it builds or not.
BACKGROUND = frozenset(
    {
        "extend_lease", "list_expired", "cancel_orphans", "list_unrung", "list_building", "take_lease", "drop_lease",
        "list_kept_projects", "fetch_collection_time", "list_standings", "list_marked", "list_blobs", "list_unneeded",
        "forget_collected",
    }
)  # fmt: skip
CHANGES = frozenset({"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "subprocess.Popen"})
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Moments:
    """Counts what the build does in each step, and strikes at the chosen moment, before it happens."""

    def __init__(self, *, doom: tuple[str, int, int] | None, listing: str | None, root: str) -> None:
        self.step: str | None = None
        self._doom = doom
        self._root = root
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._listing = os.open(listing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if listing else None

    def come(self, what: str) -> None:
        with self._lock:
            if self.step is None:
                return
            self._counts[self.step] += 1
            number = self._counts[self.step]
            if self._listing is not None:
                os.write(self._listing, f"{self.step} {number} {what}\n".encode())
        if self._doom is not None and (self.step, number) == self._doom[:2]:
            os.kill(os.getpid(), self._doom[2])

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an audit event of the interpreter."""
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
            return
        if event not in CHANGES and event != "open":
            return
        places = [argument for argument in arguments[:2] if isinstance(argument, str | os.PathLike)]
        if event == "subprocess.Popen" or any(os.fspath(place).startswith(self._root) for place in places):
            self.come(f"{event} {arguments[0]!r:.120}")


class WatchedTransaction(Transaction):
    """A transaction whose queries are moments."""

    def __init__(self, inner: Transaction, moments: Moments) -> None:
        super().__init__(inner._connection, inner._queries)
        self._moments = moments

    async def fetch(self, name: str, *args: Any) -> Any:
        self._moments.come(f"query {name}")
        return await super().fetch(name, *args)

    async def fetch_one(self, name: str, *args: Any) -> Any:
        self._moments.come(f"query {name}")
        return await super().fetch_one(name, *args)

    async def execute(self, name: str, *args: Any) -> int:
        self._moments.come(f"query {name}")
        return await super().execute(name, *args)


class WatchedDatabase(Database):
    """A database whose queries are moments; the first of a step is the note that it has begun."""

    def __init__(self, inner: Database, moments: Moments) -> None:
        super().__init__(inner._pool)
        self._moments = moments

    async def _run(self, method: str, name: str, args: tuple[Any, ...]) -> Any:
        moments = self._moments
        if name == "record_step" and args[3] is not None:
            moments.step = args[3]
        if name not in BACKGROUND and name != "claim_deployment":
            moments.come(f"query {name}")
        found = await super()._run(method, name, args)
        if name == "claim_deployment" and found is not None:
            moments.step = "claim"
            moments.come("claimed")
        return found

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with super().transaction() as transaction:
            yield WatchedTransaction(transaction, self._moments)
            self._moments.come("commit")
        self._moments.come("committed")


async def run(moments: Moments) -> None:
    settings = load_settings(os.environ)
    async with open_platform(settings, plugins=PLUGINS) as platform:
        platform = replace(platform, db=WatchedDatabase(platform.db, moments))
        runner = PLUGINS.provider("build_runners", settings.runner)(RunnerConfig(options=settings.runner_options))
        worker = Worker(platform, pipeline_with(platform, runner), reap=runner.reap)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()


def begin(order: dict[str, Any]) -> None:
    os.dup2(2, 1)  # a worker logs on its standard output
    doom = order.get("doom")
    moments = Moments(
        doom=(doom[0], doom[1], signal.Signals[doom[2]]) if doom else None,
        listing=order.get("list"),
        root=order["root"],
    )
    sys.addaudithook(moments.hear)
    asyncio.run(run(moments))


PLUGINS = load_plugins()
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        try:
            begin(json.loads(line))
        finally:
            os._exit(0)
    print(pid, flush=True)
    _, status = os.waitpid(pid, os.WUNTRACED)
    print("stopped" if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status), flush=True)
