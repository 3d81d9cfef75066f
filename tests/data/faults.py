"""A wire that breaks on demand, between the program and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote, urlsplit, urlunsplit


class Wire:
    """A TCP relay to the server of `url`. `url` of the wire itself is where a client connects.

    `mode` is `pass`; `cut`, where every connection is closed at once; or `mute`, where what the client says still
    reaches the server, and the server's next answer closes the connection instead of coming back. With
    `swallow_commit` it goes mute when a client says COMMIT.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._mode = "pass"
        self.swallow_commit = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return urlunsplit(self._target._replace(netloc=f"{self._target.username}@127.0.0.1:{port}"))

    async def close(self) -> None:
        self.set("cut")
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set(self, mode: str) -> None:
        self._mode = mode
        if mode == "cut":
            for writer in self._writers:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self._mode != "cut":
                await self._relay(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = unquote(self._target.hostname or "")
        if host.startswith("/"):
            up_reader, up_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{self._target.port}")
        else:
            up_reader, up_writer = await asyncio.open_connection(host, self._target.port)
        self._writers.add(up_writer)
        ways = [
            asyncio.create_task(self._pump(reader, up_writer, is_answer=False)),
            asyncio.create_task(self._pump(up_reader, writer, is_answer=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            up_writer.transport.abort()
            self._writers.discard(up_writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        while data := await reader.read(65536):
            if is_answer and self._mode == "mute":
                return
            if not is_answer and self.swallow_commit and b"COMMIT;" in data:
                self.swallow_commit, self._mode = False, "mute"
            writer.write(data)
            await writer.drain()
