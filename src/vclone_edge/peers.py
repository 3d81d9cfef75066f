"""Who is on the other end of a request.

Behind the front, a worker sees connections that come from the front's Unix socket, never from the client. So the
front binds its end of each such connection to a socket name that says for whom it is, `…/https,203.0.113.7,50312`,
with the identity of the certificate that was served where the client named a server (`…/https-1b2c3d4e,…`), and the
server hands that name to the app as `scope["client"]`. The folder is private to the edge: nobody else can name a
socket in it, and an address that arrives over TCP never starts with a slash.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

# Where the supervisor's own connections come from: they ask a worker whether it is well.
HEALTH_NAME = "health"


class Peer(NamedTuple):
    """A client: its address, empty if that isn't known, whether it speaks TLS to us, and under which certificate."""

    address: str
    is_tls: bool
    certificate: str = ""


def socket_name(address: str, port: int, *, is_tls: bool, certificate: str = "") -> str:
    """Return the name, within the edge's folder, for a connection made on behalf of this client."""
    scheme = f"https-{certificate}" if certificate else "https" if is_tls else "http"
    return f"{scheme},{address},{port}"


def plain_address(address: str) -> str:
    """Return an address as people write it: IPv4 without its IPv6 clothes, link-local without the interface."""
    if ":" in address:
        address = address.partition("%")[0]
        if address.startswith("::ffff:") and "." in address:
            return address[7:]
    return address


@lru_cache(maxsize=16_384)
def _read_name(path: str) -> Peer:
    scheme, _, rest = path.rpartition("/")[2].partition(",")
    scheme, _, certificate = scheme.partition("-")
    return Peer(rest.partition(",")[0], scheme == "https", certificate)


def lookup(scope: Mapping[str, Any]) -> Peer:
    """Return who sent a request."""
    client = scope.get("client")
    if not client:
        return Peer("", scope.get("scheme") in ("https", "wss"))
    address: str = client[0]
    if address[:1] == "/":
        return _read_name(address)
    return Peer(plain_address(address), scope.get("scheme") in ("https", "wss"))


def is_health_probe(scope: Mapping[str, Any]) -> bool:
    """Say whether a request is the supervisor's own."""
    client = scope.get("client")
    return client is not None and client[0].endswith("/" + HEALTH_NAME)
