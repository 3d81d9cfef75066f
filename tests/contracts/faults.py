"""A TCP proxy that breaks connections in the ways networks and dying servers do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import Literal

PIECE_BYTES = 16 * 1024


@dataclass
class FaultProxy:
    """Passes bytes between clients and `target`; its fields say what goes wrong and may change at any time.

    `cut_after`: after so many bytes towards the client the connection is ended, by `cut_by` (an orderly FIN or a RST).
    `is_silent`: connections are accepted and nothing is ever answered. `delay_s`: each piece towards the client waits.
    """

    target: tuple[str, int]
    cut_after: int | None = None
    cut_by: Literal["fin", "rst"] = "fin"
    cuts_left: int | None = None
    is_silent: bool = False
    delay_s: float = 0.0
    port: int = 0
    opened: int = 0
    open_now: int = 0
    sent_bytes: int = 0
    _server: asyncio.Server | None = field(default=None, init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def listen(self) -> None:
        """Accept connections, on the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=PIECE_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse connections from now on, and reset the ones there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def restart(self) -> None:
        """End every connection, and accept new ones: what is set now holds for all of them."""
        await self.refuse()
        await self.listen()

    def mend(self) -> None:
        """Let everything through again."""
        self.cut_after, self.cuts_left, self.is_silent, self.delay_s = None, None, False, 0.0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.opened += 1
        self.open_now += 1
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            _reset(writer)
        finally:
            self.open_now -= 1
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_silent:
            while await reader.read(PIECE_BYTES):
                pass
            return
        up_reader, up_writer = await asyncio.open_connection(*self.target, limit=PIECE_BYTES)
        requests = asyncio.create_task(self._pass_requests(reader, up_writer))
        try:
            await self._pass_answers(up_reader, writer)
        finally:
            up_writer.close()
            requests.cancel()
            await asyncio.gather(requests, return_exceptions=True)

    async def _pass_requests(self, reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                up_writer.write(piece)
                await up_writer.drain()
        up_writer.close()

    async def _pass_answers(self, up_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = 0
        while piece := await up_reader.read(PIECE_BYTES):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            while self.is_silent:
                await asyncio.sleep(0.01)
            if self.cut_after is not None and self.cuts_left != 0 and sent + len(piece) > self.cut_after:
                writer.write(piece[: self.cut_after - sent])
                await writer.drain()
                if self.cuts_left is not None:
                    self.cuts_left -= 1
                if self.cut_by == "rst":
                    await asyncio.sleep(0.05)  # the bytes before it arrive; a RST may overtake them
                    _reset(writer)
                return
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
            self.sent_bytes += len(piece)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
