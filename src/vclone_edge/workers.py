"""What the processes that run the app have in common, and granian's (hypercorn's is `hypercorn_engine.py`).

A worker runs in a process forked for it and returns when it is told to stop. Settings and the app's name come by
memory; nothing secret is ever in a command line.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vclone_edge.lane import AnswerNow, open_lane
from vclone_edge.peers import is_health_probe
from vclone_edge.stream import ClientStalled, StreamAborted

Scope = Mapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]

_SAID = (StreamAborted.__name__, ClientStalled.__name__)
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15

HEADER_BYTES = 32 * 1024
STREAMS = 100
STREAM_WINDOW_BYTES = 64 * 1024
CONNECTION_WINDOW_BYTES = 1024 * 1024
SEND_BUFFER_BYTES = 64 * 1024


def die_with(parent: int) -> None:
    """Have the kernel end this process when `parent`, which forked it, ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        # It was gone before it was asked for.
        os.kill(os.getpid(), signal.SIGKILL)


def name_process(name: str) -> None:
    """Show this process, and those it forks, under a name of at most 15 letters (`ps -o comm`)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def load_app(target: str, *, lane: str | None = None) -> App:
    """Return what the factory `module:function` makes, with the supervisor's health probe answered before it.

    An app that has `answer_now` is also asked over lanes beside the socket `lane`, from its start to its end.
    """
    module, _, name = target.partition(":")
    app: App = getattr(importlib.import_module(module), name)()
    answer_now: AnswerNow | None = getattr(app, "answer_now", None)

    def guarded(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        if scope["type"] == "http":
            return _answer_probe(send) if is_health_probe(scope) else app(scope, receive, send)
        if scope["type"] == "lifespan" and lane is not None and answer_now is not None:
            return _live_with_lane(app, scope, receive, send, lane, answer_now)
        return app(scope, receive, send)

    return guarded


async def _live_with_lane(app: App, scope: Any, receive: Any, send: Any, path: str, answer_now: AnswerNow) -> None:
    lanes: asyncio.Server | None = None

    async def tell(message: Any) -> None:
        nonlocal lanes
        if message["type"] == "lifespan.startup.complete":
            lanes = await open_lane(path, answer_now)
        await send(message)

    try:
        await app(scope, receive, tell)
    finally:
        if lanes is not None:
            lanes.close()


async def _answer_probe(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class _Brief(logging.Filter):
    """Cuts down to one line what granian says of an app that failed, and to none where the app has said it itself.

    A stranger must not be able to fill the log with tracebacks.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text.startswith("Application callable raised an exception"):
            why = text.rstrip().rpartition("\n")[2]
            if why.startswith(_SAID):
                return False
            record.msg, record.args = f"request.broken_off: {why[:200]}", ()
        return True


def run_granian(*, target: str, path: str, header_s: float, connections: int) -> None:
    """Serve the app on a Unix socket until SIGTERM. Needs a process of its own; granian forks another below it."""
    from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
    from granian.http import HTTP1Settings, HTTP2Settings
    from granian.log import LogLevels
    from granian.server import Server

    # Memory is how settings travel: a spawned worker would have to be told everything again.
    multiprocessing.set_start_method("fork", force=True)
    server = Server(
        target,
        uds=Path(path),
        interface=Interfaces.ASGI,
        workers=1,
        http=HTTPModes.auto,
        loop=Loops.uvloop,
        runtime_mode=RuntimeModes.mt,
        backlog=4096,
        # A permit is held for a connection's whole life, so this is a cap on connections: the front has its own.
        backpressure=connections,
        runtime_blocking_threads=32,
        http1_settings=HTTP1Settings(header_read_timeout=int(header_s * 1000), max_buffer_size=HEADER_BYTES),
        http2_settings=HTTP2Settings(
            initial_connection_window_size=CONNECTION_WINDOW_BYTES,
            initial_stream_window_size=STREAM_WINDOW_BYTES,
            max_concurrent_streams=STREAMS,
            max_headers_size=HEADER_BYTES,
            max_send_buffer_size=SEND_BUFFER_BYTES,
        ),
        log_level=LogLevels.warning,
        # Its lines go through our own handlers.
        log_dictconfig={
            "handlers": {},
            "formatters": {},
            "loggers": {"_granian": {"propagate": True}, "granian.access": {"propagate": True}},
        },
    )
    server.serve(target_loader=partial(_load_below, target, os.getpid(), path), wrap_loader=False)


def _load_below(target: str, parent: int, path: str) -> App:
    die_with(parent)
    logging.getLogger("_granian.utils").addFilter(_Brief())
    return load_app(target, lane=path)
