"""HTTP to servers that strangers named: rewrites to other servers, outgoing webhooks.

    name -> addresses, every one of them judged (`rules/addresses.py`) -> a connection to one of those, and no other

A name is looked up once, and the connection goes to what was judged, with the name in Host and in TLS: an answer that
changes between look-up and connection (DNS rebinding) changes nothing. Redirects are never followed here.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from ipaddress import ip_address
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from vclone_core.errors import AddressRefused
from vclone_core.rules.addresses import Address, OutboundPolicy, parse_address

CONNECT_S: Final = 5.0  # Name, connection and TLS together.
# Servers close idle connections after 5 s (Node.js) or later: a request that can't be repeated must not meet that.
IDLE_S: Final = 4.0
LOOK_UPS_AT_ONCE: Final = 16
FIELD_BYTES: Final = 32 * 1024
BUFFER_BYTES: Final = 64 * 1024

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

# For whom a connection is being made: the client's own layers say only where to.
_asked_host: ContextVar[str] = ContextVar("asked_host", default="")


class Outbound:
    """A client that speaks to the servers its policy allows. `start` before the first request, `close` at the end.

    `resolve` returns the addresses of a name; without it the machine's own look-up is asked. `tls` says which
    certificates are trusted; without it the machine's own.
    """

    def __init__(
        self, policy: OutboundPolicy, *, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.policy = policy
        self._tls = tls
        self._threads: ThreadPoolExecutor | None = None
        self._resolve = resolve or self._ask_system
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Make the client ready; nothing is connected yet."""
        connector = aiohttp.TCPConnector(
            resolver=_Judge(self),
            socket_factory=self._make_socket,
            ssl=self._tls or True,
            limit=0,
            keepalive_timeout=IDLE_S,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
            read_bufsize=BUFFER_BYTES,
            max_line_size=FIELD_BYTES,
            max_field_size=FIELD_BYTES,
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S),
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def find_addresses(self, host: str, port: int) -> list[Address]:
        """Return the addresses a host may be reached at; raise `AddressRefused`, or `OSError` for an unknown name.

        For programs that connect by themselves, such as git: they have to be told which address to take.
        """
        reason = self.policy.refuse_name(host, port)
        if reason is None:
            literal = parse_address(host)
            found = [str(literal)] if literal is not None else await self._resolve(host, port)
            # Whatever is behind the percent sign names one of this machine's own networks.
            addresses = [ip_address(text.partition("%")[0]) for text in found]
            reason = self.policy.refuse_addresses(host, port, addresses)
            if reason is None:
                return addresses
        raise AddressRefused(host=host, why=reason)

    @asynccontextmanager
    async def request(
        self, method: str, url: URL, *, headers: Sequence[tuple[bytes, bytes]] = (), data: Any = None
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """Send a request and wait for the head of its answer, however long that takes once it is connected.

        A redirect is an answer like others. Raises `AddressRefused`, `TimeoutError` when there is no connection within
        5 s, and `aiohttp.ClientError`.
        """
        assert self._session is not None
        host, port = url.raw_host or "", url.port or 0
        reason = self.policy.refuse_name(host, port)
        if reason is not None or url.raw_user is not None or url.raw_password is not None:
            raise AddressRefused(host=host, why=reason or "is asked for with a user")
        _asked_host.set(host)
        named = CIMultiDict([(name.decode("latin-1"), _decode(value)) for name, value in headers])
        response = await self._session.request(method, url, headers=named, data=data, allow_redirects=False)
        try:
            yield response
        finally:
            # What was not read to its end can't be followed by another answer.
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    def _make_socket(self, found: Any) -> socket.socket:
        """Return the socket for one address: the last place where it can be said no."""
        family, kind, protocol, _, (text, port, *_) = found
        reason = self.policy.refuse_addresses(_asked_host.get(), port, [ip_address(text)])
        if reason is not None:
            raise OSError(errno.EACCES, reason)
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    async def _ask_system(self, host: str, port: int) -> Sequence[str]:
        if self._threads is None:
            # Not the loop's own threads: a name whose servers are silent must not keep files from being read.
            self._threads = ThreadPoolExecutor(LOOK_UPS_AT_ONCE, thread_name_prefix="look-up")
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _Judge(AbstractResolver):
    """What the client asks for a name's addresses: it gives none that was not judged."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = await self._outbound.find_addresses(host, port)
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


def _decode(value: bytes) -> str:
    # The client writes texts as UTF-8: what is no UTF-8 would otherwise arrive as other bytes than were sent.
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("ascii", "replace")
