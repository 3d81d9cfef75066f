"""The way out of a build: an HTTP proxy on a Unix socket of the worker. A container has no network but this.

request head -> host and port -> every address of the host is checked -> a connection to a checked one -> bytes
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from vclone_core import get_log, tell_special
from vclone_runner_podman.options import Egress

HEAD_BYTES: Final = 16 * 1024
HEAD_S, RESOLVE_S, CONNECT_S, IDLE_S = 15.0, 10.0, 10.0, 300.0
CHUNK_BYTES: Final = 64 * 1024
CONNECTIONS: Final = 256
NO_NETWORK: Final = "this command has no network"

log = get_log(__name__)

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request wants to go. `first` is what the origin server is sent first: nothing, or a request head."""

    host: str
    port: int
    first: bytes = b""


class Refused(Exception):
    """The proxy does not do what was asked; `status` is the answer's."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


def parse_request(head: bytes) -> Target:
    """Return where a request head (RFC 9112 §3.2.2 and §3.2.3) leads; raise `Refused`.

    >>> parse_request(b"CONNECT example.com:443 HTTP/1.1\\r\\n\\r\\n")
    Target(host='example.com', port=443, first=b'')
    """
    line, _, rest = head.partition(b"\r\n")
    try:
        method, target, version = line.decode("ascii").split(" ")
    except ValueError as error:
        raise Refused("400 Bad Request", "this is not an HTTP request") from error
    if not version.startswith("HTTP/1."):
        raise Refused("400 Bad Request", "this is not an HTTP/1 request")
    if method == "CONNECT":
        return Target(*_split_authority(target, None))
    scheme, separator, after = target.partition("://")
    if scheme.lower() != "http" or not separator:
        raise Refused("400 Bad Request", "only CONNECT and http:// are understood")
    authority, slash, path = after.partition("/")
    host, port = _split_authority(authority, 80)
    dropped = (b"proxy-", b"connection:", b"keep-alive:")
    fields = [field for field in rest.split(b"\r\n") if field and not field.lower().startswith(dropped)]
    first = b"\r\n".join([f"{method} {slash}{path} HTTP/1.1".encode() if slash else f"{method} / HTTP/1.1".encode(),
                          *fields, b"Connection: close", b"", b""])  # fmt: skip
    return Target(host, port, first)


def _split_authority(text: str, default: int | None) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        host, port = text, str(default or "")
    if not port.isdigit() or not 0 < int(port) < 65536 or "@" in host or not host:
        raise Refused("400 Bad Request", f"{text[:200]!r} is not a host and a port")
    return host.strip("[]").rstrip(".").lower(), int(port)


def refuse_name(target: Target, egress: Egress) -> str | None:
    """Say why a host or port is refused whatever its addresses are; None: that depends on them."""
    if is_allowed(target, egress):
        return None
    if target.port not in egress.ports:
        return f"port {target.port} is not one that builds may use"
    labels = target.host.split(".")
    parents = {".".join(labels[index:]) for index in range(len(labels))}
    if parents & set(egress.denied):
        return "the operator refuses this host"
    return None


def is_allowed(target: Target, egress: Egress) -> bool:
    """Say whether the operator named this host, or this host and port, as one to be reached."""
    return bool({target.host, f"{target.host}:{target.port}"} & egress.allowed)


def refuse_target(address: Address, egress: Egress) -> str | None:
    """Say why a connection to an address is refused; None: it may be made."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if (special := tell_special(address)) is not None:
        return f"it has the address {address} ({special})"
    if any(address in ip_network(item) for item in egress.denied if "/" in item):
        return f"it has the address {address}, which the operator refuses"
    return None


class EgressProxy:
    """The proxy of one build. Closed at first; what is refused is kept for the build's log."""

    def __init__(self, egress: Egress, resolve: Resolve | None = None) -> None:
        self._egress = egress
        self._resolve = resolve or resolve_host
        self._openings = 0
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._refusals: dict[str, None] = {}

    async def start(self, listener: socket.socket) -> None:
        """Serve on a bound socket."""
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=HEAD_BYTES)

    async def close(self) -> None:
        """End every connection."""
        if self._server is not None:
            self._server.close()
        await self._cut()

    def open(self) -> None:
        """Let connections through, until `shut` was called as often."""
        self._openings += 1

    async def shut(self) -> None:
        """Undo one `open`; with the last, every connection ends."""
        self._openings -= 1
        if not self._openings:
            await self._cut()

    def take_refusals(self) -> list[str]:
        """Return, once, a line for each thing that was refused."""
        lines, self._refusals = list(self._refusals), {}
        return lines

    async def _cut(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with self._slots:
                await self._carry(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # one side went; a cancelled task of a server would be logged as an error
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        try:
            target = parse_request(head)
            there, out = await self._connect(target)
        except Refused as error:
            body = f"vclone: {error}\n".encode()
            writer.write(f"HTTP/1.1 {error.status}\r\nContent-Type: text/plain\r\nConnection: close\r\n".encode())
            writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            return
        try:
            if target.first:
                out.write(target.first)
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await join((reader, writer), (there, out))
        finally:
            out.close()

    async def _connect(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection to `target`, if it may be reached, by an address that was checked."""
        if not self._openings:
            self._refuse(target, NO_NETWORK)
        if (why := refuse_name(target, self._egress)) is not None:
            self._refuse(target, why)
        try:
            async with asyncio.timeout(RESOLVE_S):
                addresses = list(dict.fromkeys(await self._resolve(target.host, target.port)))
        except (OSError, UnicodeError, TimeoutError) as error:
            raise Refused("502 Bad Gateway", f"{target.host} has no address") from error
        if not is_allowed(target, self._egress):
            for text in addresses:
                address = ip_address(text.partition("%")[0])
                why = refuse_target(address, self._egress) or (
                    f"it has this machine's own address {address}" if is_own_address(address) else None
                )
                if why is not None:
                    self._refuse(target, why)
        for text in addresses:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_S):
                    return await asyncio.open_connection(text, target.port, limit=CHUNK_BYTES)
        raise Refused("502 Bad Gateway", f"{target.host}:{target.port} does not answer")

    def _refuse(self, target: Target, why: str) -> None:
        line = f"no connection to {target.host[:200]}:{target.port}: {why}"
        if len(self._refusals) < 20:
            self._refusals[line] = None
        raise Refused("403 Forbidden", line)


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def join(one: Ends, other: Ends) -> None:
    """Pass bytes both ways until both have ended, one fails, or nothing moves for `IDLE_S`."""
    moved = [asyncio.get_running_loop().time()]

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            moved[0] = asyncio.get_running_loop().time()
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    ways = [asyncio.ensure_future(copy(one[0], other[1])), asyncio.ensure_future(copy(other[0], one[1]))]
    try:
        while not all(way.done() for way in ways):
            done, _ = await asyncio.wait(ways, timeout=IDLE_S, return_when=asyncio.FIRST_EXCEPTION)
            for way in done:
                way.result()
            if asyncio.get_running_loop().time() - moved[0] >= IDLE_S:
                return
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """Return a host's addresses, as this machine finds them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(item[4][0]) for item in found]


def is_own_address(address: Address) -> bool:
    """Say whether packets to an address end at this machine: it would send them from that address itself."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))  # sends nothing
            own = str(probe.getsockname()[0])
    except OSError:
        return False
    return ip_address(own.partition("%")[0]) == address
