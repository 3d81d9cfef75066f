"""An ASGI server's half of a conversation with the app, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reply:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    pieces: list[int] = field(default_factory=list)
    path: str | None = None
    is_whole: bool = False

    def __getitem__(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


class Client:
    """Sends requests to an app, and leaves when told to."""

    def __init__(self, app: Callable[..., Awaitable[None]], *, address: str = "192.0.2.7") -> None:
        self.app = app
        self.address = address

    async def get(self, url: str, *, method: str = "GET", **facts: Any) -> Reply:
        return await self.request(method, url, **facts)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        fields: Sequence[tuple[bytes, bytes]] = (),
        body: Sequence[bytes] = (),
        http_version: str = "1.1",
        extensions: dict[str, Any] | None = None,
        leave_after: int | None = None,
        pause_s: float = 0.0,
        hold: asyncio.Event | None = None,
        raw_path: bytes | None = None,
    ) -> Reply:
        """One exchange. The client leaves after `leave_after` bytes; `pause_s` and `hold` make it read slowly."""
        host, _, rest = url.removeprefix("http://").partition("/")
        path, _, query = f"/{rest}".partition("?")
        named = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": http_version,
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode() if raw_path is None else raw_path,
            "query_string": query.encode(),
            "headers": [*([(b"host", host.encode())] if host else []), *named, *fields],
            "client": (self.address, 50000),
            "server": ("127.0.0.1", 8080),
            "extensions": extensions or {},
        }
        reply = Reply()
        gone = asyncio.Event()
        received = bytearray()
        messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
        messages.append({"type": "http.request", "body": b"", "more_body": False})

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop(0)
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            assert not reply.is_whole, "the app sent more than a response"
            if message["type"] == "http.response.start":
                assert reply.status == 0
                reply.status = message["status"]
                reply.headers = [
                    (name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]
                ]
                return
            if message["type"] == "http.response.pathsend":
                reply.path, reply.is_whole = message["path"], True
                return
            received.extend(message.get("body", b""))
            reply.pieces.append(len(message.get("body", b"")))
            reply.is_whole = not message.get("more_body", False)
            if leave_after is not None and len(received) >= leave_after:
                gone.set()
            if hold is not None:
                await hold.wait()
            await asyncio.sleep(pause_s)

        await self.app(scope, receive, send)
        reply.body = bytes(received)
        return reply
