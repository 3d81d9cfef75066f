"""HTTP/1.1 by hypercorn 0.18, and how a connection from the front comes to a protocol.

Everything here stands in for a class of hypercorn's; each change names what it is for.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import h11
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Request, Response
from hypercorn.protocol.h11 import STREAM_ID, H2ProtocolAssumedError, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.typing import ConnectionState

from vclone_edge.hypercorn_h2 import EdgeH2
from vclone_edge.hypercorn_inbox import AppSpawner, Inbox

UNREAD_BYTES = 64 * 1024


class EdgeH1(H11Protocol):
    """One HTTP/1.1 connection."""

    _head_timer: asyncio.TimerHandle | None = None
    _held_head = b""

    async def handle(self, event: Event) -> None:
        await super().handle(event)
        if isinstance(event, Closed) or self.stream is not None or not self.connection.trailing_data[0]:
            self._stop_timer()
        elif self._head_timer is None:
            self._head_timer = asyncio.get_running_loop().call_later(
                self.config.keep_alive_timeout, lambda: self.task_group.spawn(self.send, Closed())
            )

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Response) and event.status_code >= 200 and self.context.terminated.is_set():
            event = replace(event, headers=[*event.headers, (b"connection", b"close")])
        await super().stream_send(event)

    async def _send_h11_event(self, event: Any) -> None:
        """Send a response's head together with the first of its body: one write, and never a head alone."""
        try:
            data = self._held_head + (self.connection.send(event) or b"")
        except h11.LocalProtocolError:
            if self.connection.their_state != h11.ERROR:
                raise
            return
        self._held_head = b""
        if isinstance(event, h11.Response):
            self._held_head = data
        elif data:
            await self.send(RawData(data=data))

    async def _check_protocol(self, event: Any) -> None:
        """Change to HTTP/2 only where the front has seen its preface, and never by `Upgrade` (RFC 9113 §3.1)."""
        is_preface = event.method == b"PRI" and event.target == b"*" and event.http_version == b"2.0"
        if is_preface and not self.keep_alive_requests:
            raise H2ProtocolAssumedError(b"PRI * HTTP/2.0\r\n\r\n" + self.connection.trailing_data[0])

    async def _create_stream(self, request: Any) -> None:
        if request.http_version not in (b"1.0", b"1.1"):
            await self._send_error_response(505)
            await self.send(Closed())
            return
        inbox = Inbox(limit=UNREAD_BYTES)
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            AppSpawner(self.task_group, inbox),  # type: ignore[arg-type]
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1


class EdgeWrapper(ProtocolWrapper):
    """A connection that begins as HTTP/1.1 and may turn out to be HTTP/2."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.protocol = EdgeH1(*self._parts)

    @property
    def _parts(self) -> tuple[Any, ...]:
        return (
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.state,
            self.ssl,
            self.client,
            self.server,
            self.send,
        )

    async def handle(self, event: Event) -> None:
        try:
            await self.protocol.handle(event)
        except H2ProtocolAssumedError as error:
            self.protocol = EdgeH2(*self._parts)
            await self.protocol.initiate()
            await self.protocol.handle(RawData(data=error.data))


class EdgeConnection(TCPServer):
    """A connection from the front: its name says who the client is. Idle ones are the front's to end."""

    async def run(self) -> None:
        try:
            async with TaskGroup(self.loop) as group:
                self._task_group = group
                self.protocol = EdgeWrapper(
                    self.app,
                    self.config,
                    self.context,
                    group,
                    ConnectionState(self.state),
                    False,
                    (self.writer.get_extra_info("peername"), 0),
                    None,
                    self.protocol_send,
                    None,
                )
                await self.protocol.initiate()
                await self.idle_task.restart(group, self._idle_timeout)
                await self._read_data()
                # It would keep the group, and with it everything of this connection, until the process ends.
                await self.idle_task.stop()
        except OSError:
            pass
        finally:
            await self._close()

    async def _idle_timeout(self) -> None:
        await self.context.terminated.wait()
        await asyncio.shield(self._initiate_server_close())
