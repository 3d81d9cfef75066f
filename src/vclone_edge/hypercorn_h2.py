"""HTTP/2 by hypercorn 0.18, with what an edge needs put right; each change names what it is for.

The front before it owns connections, TLS, floods and stalls; this is about requests and bodies.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import h2.events
import h2.exceptions
import h2.settings
from h2.errors import ErrorCodes
from hypercorn.asyncio.worker_context import AsyncioSingleTask
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, Request, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER, BUFFER_LOW_WATER, BufferCompleteError, H2Protocol, StreamBuffer
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.utils import filter_pseudo_headers
from priority.priority import MissingStreamError

from vclone_edge.hypercorn_inbox import AppSpawner, Inbox
from vclone_edge.workers import CONNECTION_WINDOW_BYTES, HEADER_BYTES, STREAMS

_FIRST_WINDOW_BYTES = 65_535
# GOAWAY with NO_ERROR that leaves every stream be (RFC 9113 §6.8).
_FAREWELL = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + b"\x7f\xff\xff\xff" + bytes(4)


class Buffer(StreamBuffer):
    """Holds its writer back by what waits to be sent. hypercorn asks how large the last piece was, so it never does."""

    async def push(self, data: bytes) -> None:
        if self._complete:
            raise BufferCompleteError()
        self.buffer.extend(data)
        await self._is_empty.clear()
        while len(self.buffer) >= BUFFER_HIGH_WATER and not self._complete:
            await self._paused.clear()
            await self._paused.wait()

    async def pop(self, max_length: int) -> bytes:
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data


class EdgeH2(H2Protocol):
    """One HTTP/2 connection."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # No extended CONNECT: there is nothing behind the edge that it could reach.
        self.connection.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: HEADER_BYTES,
            },
        )
        self._inboxes: dict[int, Inbox] = {}
        self._unfinished: set[int] = set()
        self._farewell = AsyncioSingleTask()

    async def initiate(self, headers: Any = None, settings: bytes | None = None) -> None:
        await super().initiate()
        self.connection.increment_flow_control_window(CONNECTION_WINDOW_BYTES - _FIRST_WINDOW_BYTES)
        await self._flush()
        await self._farewell.restart(self.task_group, self._say_farewell)

    async def _say_farewell(self) -> None:
        """Have the client ask elsewhere as soon as this process is going to stop."""
        await self.context.terminated.wait()
        await self.send(RawData(data=_FAREWELL))

    async def handle(self, event: Event) -> None:
        if isinstance(event, Closed):
            await self._farewell.stop()
        await super().handle(event)

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.RequestReceived):
                assert event.stream_id is not None
                if event.stream_ended is None:
                    self._unfinished.add(event.stream_id)
                if self.context.terminated.is_set():
                    # REFUSED_STREAM says that it may be tried again; hypercorn says that all went well.
                    self._reset(event.stream_id, ErrorCodes.REFUSED_STREAM)
                    continue
            elif isinstance(event, h2.events.DataReceived):
                await self._take_data(event)
                continue
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                assert event.stream_id is not None
                self._unfinished.discard(event.stream_id)
            elif isinstance(event, h2.events.PriorityUpdated):
                # Deprecated (RFC 9113 §5.3.2), and a thousand of them end a connection with a traceback.
                continue
            await super()._handle_events([event])
        await self._flush()

    async def _take_data(self, event: h2.events.DataReceived) -> None:
        """Give a body's piece to the app; it is acknowledged when the app takes it, so it can't pile up.

        A piece for a stream that was answered already is dropped; hypercorn drops the connection.
        """
        number, size, counted = event.stream_id, len(event.data or b""), event.flow_controlled_length or 0
        assert number is not None
        stream = self.streams.get(number)
        if stream is None:
            self._acknowledge(number, counted)
            return
        self._acknowledge(number, counted - size)
        await stream.handle(Body(stream_id=number, data=event.data or b""))

    def _acknowledge(self, stream_id: int, size: int) -> None:
        if size:
            self.connection.acknowledge_received_data(size, stream_id)

    async def _on_taken(self, stream_id: int, size: int) -> None:
        try:
            self._acknowledge(stream_id, size)
        except h2.exceptions.ProtocolError:
            return
        await self._flush()

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        number = request.stream_id
        assert number is not None
        fields = {bytes(name): bytes(value) for name, value in request.headers or ()}
        method, path = fields.get(b":method", b""), fields.get(b":path", b"")
        lacks_body = request.stream_ended is not None and fields.get(b"content-length", b"0") != b"0"
        if not method.isascii() or not path.isascii() or lacks_body:
            # Malformed (RFC 9113 §8): an error of this stream. hypercorn drops the connection with a traceback, or
            # doesn't mind.
            self._reset(number, ErrorCodes.PROTOCOL_ERROR)
            return
        inbox = self._inboxes[number] = Inbox(on_taken=partial(self._on_taken, number))
        self.streams[number] = HTTPStream(
            self.app,
            self.config,
            self.context,
            AppSpawner(self.task_group, inbox),  # type: ignore[arg-type]
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            number,
        )
        self.stream_buffers[number] = Buffer(self.context.event_class)
        self.priority.insert_stream(number)
        self.priority.block(number)
        await self.streams[number].handle(
            Request(
                stream_id=number,
                headers=filter_pseudo_headers(request.headers),
                http_version="2",
                method=method.decode().upper(),
                raw_path=path,
                state=self.connection_state,
            )
        )

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, StreamClosed):
            buffer = self.stream_buffers.get(event.stream_id)
            if buffer is not None and not buffer._complete:
                # The app ended in the middle of a body: say so, or the client waits for the rest.
                self._reset(event.stream_id, ErrorCodes.INTERNAL_ERROR)
                await self._flush()
        await super().stream_send(event)

    async def _send_data(self, stream_id: int) -> None:
        buffer = self.stream_buffers.get(stream_id)
        if buffer is None:
            self._forget_priority(stream_id)
            return
        try:
            room = min(self.connection.local_flow_control_window(stream_id), self.connection.max_outbound_frame_size)
            data = await buffer.pop(max(0, room))
            is_last = buffer.complete
            if data or is_last:
                self.connection.send_data(stream_id, data, end_stream=is_last)
            else:
                self.priority.block(stream_id)
            if is_last:
                self.stream_buffers.pop(stream_id, None)
                self._forget_priority(stream_id)
                if stream_id in self._unfinished:
                    # Answered before it was whole: the rest isn't wanted (RFC 9113 §8.1).
                    self._reset(stream_id, ErrorCodes.NO_ERROR)
            await self._flush()
        except (h2.exceptions.ProtocolError, KeyError):
            await self._drop(stream_id)

    async def _close_stream(self, stream_id: int) -> None:
        await super()._close_stream(stream_id)
        inbox = self._inboxes.pop(stream_id, None)
        if inbox is not None and (unread := inbox.clear()):
            self._acknowledge(stream_id, unread)
            await self._flush()
        buffer = self.stream_buffers.get(stream_id)
        if buffer is not None and not buffer.complete:
            # Nobody is going to read what waits here, and its writer waits for that. hypercorn keeps both for ever.
            await self._drop(stream_id)

    async def _drop(self, stream_id: int) -> None:
        buffer = self.stream_buffers.pop(stream_id, None)
        self._forget_priority(stream_id)
        if buffer is not None:
            await buffer.close()

    def _forget_priority(self, stream_id: int) -> None:
        try:
            self.priority.remove_stream(stream_id)
        except MissingStreamError:
            return

    def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        self._unfinished.discard(stream_id)
        try:
            self.connection.reset_stream(stream_id, error_code=code)
        except h2.exceptions.ProtocolError:
            return
