"""Runs the API and the dashboard: one process, hypercorn on uvloop, from settings to a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from typing import Final

import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config

from vclone_core.actions.domain_checks import keep_checking
from vclone_core.actions.platform import open_platform
from vclone_core.actions.protection import note_enter_url
from vclone_core.errors import PortTaken
from vclone_core.log import get_log
from vclone_core.settings import Settings

from .app import begin_stop, create_app

log = get_log(__name__)

GRACE_S: Final = 5.0


def main(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises `Unavailable` when the database does not answer at the start."""
    uvloop.run(run(settings))


def build_config(settings: Settings) -> Config:
    """Return hypercorn's configuration."""
    config = Config()
    config.bind = [f"{settings.api_host}:{settings.api_port}"]
    config.accesslog = None  # the app logs requests itself, with their ids and without their secrets
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.graceful_timeout = GRACE_S
    # Both default to cutting what should last: event streams stay open, and keep-alive spares the CLI's uploads a
    # connection each. The limit on requests is not graceful with HTTP/2.
    config.keep_alive_timeout = 75.0
    config.keep_alive_max_requests = 10**9
    config.h11_max_incomplete_size = 32 * 1024
    return config


def check_port(settings: Settings) -> None:
    """Raise `PortTaken` when another program listens at the API's address; hypercorn would say it in a traceback."""
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.api_host, settings.api_port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortTaken(port=settings.api_port, option="--api-port") from None


async def run(settings: Settings) -> None:
    """Serve until a signal comes, then end event streams, let requests finish for `GRACE_S`, and close everything."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    check_port(settings)
    async with open_platform(settings) as platform:
        app = create_app(platform)
        checking = asyncio.create_task(keep_checking(platform), name="domain-checks")
        platform.start(note_enter_url(platform), name="note where visitors are asked")
        serving = asyncio.ensure_future(serve(app, build_config(settings), shutdown_trigger=stop.wait))
        stopped = asyncio.ensure_future(stop.wait())
        log.info("api.started", host=settings.api_host, port=settings.api_port)
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        checking.cancel()
        begin_stop(app)
        # From Python 3.12 on hypercorn waits for the slowest reader without a limit.
        await asyncio.wait({serving}, timeout=GRACE_S + 1)
        if not serving.done():
            serving.cancel()
        stopped.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    log.info("api.stopped")
