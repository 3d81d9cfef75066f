"""Authoritative DNS servers for tests.

`TellingServer` is a small one of our own: it says exactly what a test tells it to, also what no real server would (a
lie, silence, another answer each time, an endless chain). What real servers say is asked of BIND: `named.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

# What is said about a name: lines of records (`CNAME other.example`), or a reply made by hand; None: nothing at all.
Reply = list[str] | Callable[[dns.message.Message], dns.message.Message | bytes | None] | None


@dataclass
class TellingServer:
    """Answers from `names`; what stands there may change between questions. `asked` are the questions so far."""

    port: int = 0
    names: dict[str, Reply] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answer(self, wire: bytes, *, by_tcp: bool) -> bytes | None:
        question = dns.message.from_wire(wire)
        (asked,) = question.question
        name = asked.name.to_text(omit_final_dot=True).lower()
        self.asked.append(f"{name} {dns.rdatatype.to_text(asked.rdtype)}")
        said = self.names.get(name, [])
        if said is None:
            return None
        if callable(said):
            made = said(question)
            return made if made is None or isinstance(made, bytes) else made.to_wire()
        reply = dns.message.make_response(question)
        reply.flags |= dns.flags.AA
        if name not in self.names:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        for line in said:
            kind, _, value = line.partition(" ")
            if kind in ("CNAME", dns.rdatatype.to_text(asked.rdtype)):
                reply.answer.append(dns.rrset.from_text(asked.name, 1, "IN", kind, value))
        sent = reply.to_wire(max_size=65535)
        if by_tcp or len(sent) <= question.payload:
            return sent
        cut = dns.message.make_response(question)
        cut.flags |= dns.flags.TC | dns.flags.AA
        return cut.to_wire()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: TellingServer) -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if (reply := self._server.answer(data, by_tcp=False)) is not None:
            self._transport.sendto(reply, addr)


@contextlib.asynccontextmanager
async def telling(names: dict[str, Reply] | None = None) -> AsyncIterator[TellingServer]:
    """Run one on a free port of 127.0.0.1, by UDP and TCP."""
    server = TellingServer(names=names if names is not None else {})
    loop = asyncio.get_running_loop()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = int.from_bytes(await reader.readexactly(2))
                reply = server.answer(await reader.readexactly(size), by_tcp=True)
                if reply is None:
                    await reader.read()
                    break
                writer.write(len(reply).to_bytes(2) + reply)
                await writer.drain()
        writer.close()

    while True:
        listener = await asyncio.start_server(talk, "127.0.0.1", 0)
        server.port = listener.sockets[0].getsockname()[1]
        plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            plain.bind(("127.0.0.1", server.port))
            break
        except OSError:  # the UDP port of that number is another's
            plain.close()
            listener.close()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(server), sock=plain)
    try:
        yield server
    finally:
        transport.close()
        listener.close()


def servfail(*, is_signed_wrongly: bool = False, code: int | None = None) -> Reply:
    """SERVFAIL; one that DNSSEC is the cause of goes away when the client says not to check, or says so (RFC 8914)."""

    def make(question: dns.message.Message) -> dns.message.Message:
        options = [] if code is None else [dns.edns.EDEOption(code)]
        reply = dns.message.make_response(question)
        reply.use_edns(0, options=options)
        if not (is_signed_wrongly and question.flags & dns.flags.CD):
            reply.set_rcode(dns.rcode.SERVFAIL)
        return reply

    return make


def referral(question: dns.message.Message) -> dns.message.Message:
    """What a server says of a zone that isn't its own."""
    return dns.message.make_response(question)


def nonsense(_question: dns.message.Message) -> bytes:
    return b"\0" * 7


def in_turn(*replies: list[str]) -> Reply:
    """Another answer for each question, then the first again."""
    left: list[list[str]] = []

    def make(question: dns.message.Message) -> dns.message.Message:
        if not left:
            left.extend(replies)
        (asked,) = question.question
        reply = dns.message.make_response(question)
        for line in left.pop(0):
            kind, _, value = line.partition(" ")
            if kind in ("CNAME", dns.rdatatype.to_text(asked.rdtype)):
                reply.answer.append(dns.rrset.from_text(asked.name, 1, "IN", kind, value))
        return reply

    return make
