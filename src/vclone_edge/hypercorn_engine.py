"""The process that runs the app under hypercorn, on a socket that the front connects to.

hypercorn's own `serve` is not used: it takes public sockets and makes its own protocol objects, and ours
(`hypercorn_http.py`) are the reason why it can be an engine of the edge at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, Final

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.utils import LifespanFailureError

from vclone_core.errors import BadSettings
from vclone_core.log import get_log
from vclone_edge.hypercorn_http import EdgeConnection

# What `hypercorn_http.py` and its like were written against: they reach into classes that promise nothing.
TESTED: Final = "0.18.0"

_log = get_log(__name__)


def check_version() -> None:
    """Raise `BadSettings` unless hypercorn is the version that our changes to it were written for."""
    found = version("hypercorn")
    if found != TESTED:
        raise BadSettings(problems=f"VCLONE_EDGE_SERVER: hypercorn {found} is installed; the edge needs {TESTED}.")


def make_config(*, header_s: float) -> Config:
    """Return hypercorn's settings: what the front doesn't already see to."""
    config = Config()
    config.include_server_header = False
    # Here it is only how long a second request's head may take: the front ends idle connections.
    config.keep_alive_timeout = header_s
    # It ends connections in the middle of their streams when this many requests were served (hypercorn#146).
    config.keep_alive_max_requests = 2**31
    config.h11_max_incomplete_size = 32 * 1024
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    return config


class Engine:
    """The app with its lifespan, and the connections that use it, until SIGTERM."""

    def __init__(self, app: Any, config: Config) -> None:
        self.app = ASGIWrapper(app)
        self.config = config
        self.context = WorkerContext(None)
        self.state: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def follow(self, task: asyncio.Task[Any] | None) -> None:
        """Have a stop wait for this task."""
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self, listen: Callable[[Engine], Awaitable[Callable[[], None]]], *, drain_s: float) -> None:
        """Start the app, `listen`, and serve until SIGTERM; then call what `listen` returned, and drain."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        lifespan = Lifespan(self.app, self.config, loop, self.state)
        living = loop.create_task(lifespan.handle_lifespan())
        await lifespan.wait_for_startup()
        if living.done() and isinstance(living.exception(), LifespanFailureError):
            _log.error("app.not_started", why=str(living.exception()))
            raise SystemExit(1)
        close = await listen(self)
        await stop.wait()
        close()
        await self.context.terminated.set()
        if self._tasks:
            # On Python 3.12 and newer a server's own `wait_closed` would wait for the slowest client, without limit.
            await asyncio.wait(self._tasks, timeout=drain_s)
        await lifespan.wait_for_shutdown()
        living.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await living


async def listen_unix(engine: Engine, path: str) -> Callable[[], None]:
    """Serve the front's connections on a Unix socket; return what ends that."""
    loop = asyncio.get_running_loop()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine.follow(asyncio.current_task())
        await EdgeConnection(engine.app, loop, engine.config, engine.context, engine.state, reader, writer)

    server = await asyncio.start_unix_server(take, path, backlog=4096)
    return server.close


def run_hypercorn(*, app: Any, path: str, header_s: float, drain_s: float) -> None:
    """Serve the app on a Unix socket until SIGTERM."""
    import uvloop

    check_version()
    engine = Engine(app, make_config(header_s=header_s))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(engine.run(lambda engine: listen_unix(engine, path), drain_s=drain_s))
