"""One HTTP/3 request as an ASGI app sees it: the scope, what it receives and what it says."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from vclone_core.log import get_log
from vclone_edge.stream import StreamAborted

if TYPE_CHECKING:
    from vclone_edge.http3 import Connection

_PIECE_BYTES: Final = 32 * 1024
# Fields about a connection, which HTTP/3 has no place for (RFC 9114 §4.2).
_HOP: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})

_log = get_log(__name__)


class MalformedRequest(Exception):
    """A request that no app should see (RFC 9114 §4.1.2)."""


def build_scope(headers: Iterable[tuple[bytes, bytes]], *, client: str) -> dict[str, Any]:
    """Return the ASGI scope of a request whose fields aioquic has checked. Raises `MalformedRequest`.

    `:authority` comes first among the hosts; a `Host` that says the same is dropped, another stays for the app's
    rules to refuse.
    """
    pseudo: dict[bytes, bytes] = {}
    fields: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name[:1] == b":":
            pseudo[name] = value
        else:
            fields.append((name, value))
    method, target, authority = pseudo.get(b":method", b""), pseudo.get(b":path", b""), pseudo.get(b":authority", b"")
    if not target or method == b"CONNECT" or b":protocol" in pseudo or pseudo.get(b":scheme") != b"https":
        raise MalformedRequest
    try:
        path, _, query = target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "3",
            "method": method.decode("ascii"),
            "scheme": "https",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(b"host", authority), *(field for field in fields if field != (b"host", authority))],
            "client": (client, 0),
            "server": None,
            "state": {},
            "extensions": {},
        }
    except UnicodeDecodeError:
        raise MalformedRequest from None


class Exchange:
    """One request and its response. Once it `is_over` the app receives `http.disconnect`, and is heard no more."""

    def __init__(self, connection: Connection, number: int, *, is_whole: bool) -> None:
        self.number = number
        self.is_over = False
        self.is_answered = False
        self._connection = connection
        self._messages: deque[Mapping[str, Any]] = deque()
        self._news = asyncio.Event()
        self._head: list[tuple[bytes, bytes]] | None = None
        if is_whole:
            self.put(b"", is_last=True)

    async def run(self, app: Any, scope: dict[str, Any]) -> None:
        """Have the app answer."""
        try:
            await app(scope, self.receive, self.send)
        except StreamAborted:
            pass  # The app has said what there is to say.
        except Exception as error:
            # A stranger must not be able to fill the log with tracebacks.
            _log.warning("request.broken_off", why=repr(error)[:200])
        finally:
            self._connection.finish(self)

    def put(self, data: bytes, *, is_last: bool) -> None:
        """Hand on a piece of the request's body."""
        self._messages.append({"type": "http.request", "body": data, "more_body": not is_last})
        self._news.set()

    def end(self) -> None:
        """Nobody listens any more."""
        self.is_over = True
        self._messages.clear()
        self._news.set()

    async def receive(self) -> Mapping[str, Any]:
        """Return the next ASGI message."""
        while not self._messages:
            if self.is_over:
                return {"type": "http.disconnect"}
            self._news.clear()
            await self._news.wait()
        message = self._messages.popleft()
        if message["body"]:
            self._connection.on_taken(self.number, len(message["body"]))
        return message

    async def send(self, message: Mapping[str, Any]) -> None:
        """Take an ASGI message, and as long for it as the client."""
        if self.is_over:
            # An app that talks on must not keep everybody else from being heard.
            await asyncio.sleep(0)
        elif message["type"] == "http.response.start":
            kept = [(name.lower(), value) for name, value in message["headers"] if name.lower() not in _HOP]
            self._head = [(b":status", b"%d" % message["status"]), *kept]
        elif message["type"] == "http.response.body":
            await self._send_body(message.get("body", b""), is_last=not message.get("more_body", False))

    async def _send_body(self, body: bytes, *, is_last: bool) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            self._connection.send_head(self.number, head, is_last=is_last and not body)
        elif is_last and not body:
            self._connection.send_piece(self.number, b"", is_last=True)
        view = memoryview(body)
        for start in range(0, len(body), _PIECE_BYTES):
            await self._connection.wait_for_room(self)
            if self.is_over:
                return
            piece = bytes(view[start : start + _PIECE_BYTES])
            self._connection.send_piece(self.number, piece, is_last=is_last and start + _PIECE_BYTES >= len(body))
        self.is_answered = self.is_answered or is_last
