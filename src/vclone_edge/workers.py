"""The processes that run the app: granian behind the front, or hypercorn on the public sockets themselves.

Both functions run in a process forked for them and return when it is told to stop. Settings, listeners and the app's
name come by memory; nothing secret is ever in a command line.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import logging
import multiprocessing
import os
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vclone_edge.peers import is_health_probe
from vclone_edge.tls import Certificates

Scope = Mapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]

_PR_SET_PDEATHSIG = 1

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


def load_app(target: str) -> App:
    """Return what the factory `module:function` makes, with the supervisor's health probe answered before it."""
    module, _, name = target.partition(":")
    app: App = getattr(importlib.import_module(module), name)()

    def guarded(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        if scope["type"] == "http" and is_health_probe(scope):
            return _answer_probe(send)
        return app(scope, receive, send)

    return guarded


async def _answer_probe(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


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
    server.serve(target_loader=partial(_load_below, target, os.getpid()), wrap_loader=False)


def _load_below(target: str, parent: int) -> App:
    die_with(parent)
    return load_app(target)


def run_hypercorn(
    *,
    target: str,
    plain: Sequence[socket.socket],
    secure: Sequence[socket.socket],
    certificates: Certificates | None,
    header_s: float,
    drain_s: float,
) -> None:
    """Serve the app on the public sockets until SIGTERM, without the front.

    So there are no connection caps, stall limits or retries here, and hypercorn's own gaps stand: HTTP/2 without
    back-pressure, aborted downloads that leak, prior knowledge always on. It is the engine to reach for when
    something needs it (HTTP/3, trailers, early hints), not the one to put on the open internet.
    """
    import uvloop
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    class EdgeConfig(Config):
        def create_ssl_context(self) -> ssl.SSLContext | None:
            return certificates.context if certificates is not None else None

        @property
        def ssl_enabled(self) -> bool:
            return bool(secure)

    config = EdgeConfig()
    config.bind = [f"fd://{listener.fileno()}" for listener in secure or plain]
    config.insecure_bind = [f"fd://{listener.fileno()}" for listener in plain] if secure else []
    config.include_server_header = False
    config.keep_alive_timeout = header_s
    # It ends HTTP/2 connections at the limit without letting their streams finish.
    config.keep_alive_max_requests = 2**31
    config.graceful_timeout = drain_s
    config.ssl_handshake_timeout = 10.0
    config.h2_max_concurrent_streams = STREAMS
    config.h2_max_header_list_size = HEADER_BYTES
    config.h11_max_incomplete_size = HEADER_BYTES
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        # Without a mode it guesses, and takes a plain function for WSGI.
        await serve(load_app(target), config, shutdown_trigger=stop.wait, mode="asgi")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
