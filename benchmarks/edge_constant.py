"""An ASGI app that answers 1 KiB and looks at nothing: what remains is the engine."""

from __future__ import annotations

from typing import Any

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/css"), (b"content-length", b"1024"), (b"server", b"vclone")],
}
_BODY = {"type": "http.response.body", "body": b"a" * 1024}


def app() -> Any:
    """Return the app."""
    return _constant


async def _constant(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send(_START)
        await send(_BODY)
        return
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
