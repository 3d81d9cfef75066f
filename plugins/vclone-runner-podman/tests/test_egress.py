"""The way out of a build: how requests are read, who has the word on them, and a proxy that can't be talked round."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_runner_podman.egress import (
    EgressProxy,
    Refused,
    Target,
    is_own_address,
    parse_request,
    refuse_name,
    refuse_target,
)
from vclone_runner_podman.options import Egress


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("93.184.215.14", None),
        ("169.254.169.254", "it has the address 169.254.169.254 (link-local)"),
        ("::ffff:10.0.0.1", "it has the address 10.0.0.1 (private)"),
        ("9.9.9.9", "it has the address 9.9.9.9, which the operator refuses"),
        ("::ffff:9.9.9.9", "it has the address 9.9.9.9, which the operator refuses"),
    ],
)
def test_addresses_are_public_ones_that_the_operator_does_not_refuse(address: str, why: str | None) -> None:
    assert refuse_target(ip_address(address), Egress(denied=("9.9.9.0/24", "bad.example"))) == why


@pytest.mark.parametrize(
    ("head", "target"),
    [
        (b"CONNECT Example.COM:443 HTTP/1.1\r\nHost: x\r\n\r\n", Target("example.com", 443)),
        (b"CONNECT example.com.:443 HTTP/1.0\r\n\r\n", Target("example.com", 443)),
        (b"CONNECT [2001:db8::1]:22 HTTP/1.1\r\n\r\n", Target("2001:db8::1", 22)),
        (
            b"GET http://example.com/a?b HTTP/1.1\r\nHost: example.com\r\nProxy-Connection: x\r\nConnection: y\r\n\r\n",
            Target("example.com", 80, b"GET /a?b HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"),
        ),
        (b"GET http://h:8080 HTTP/1.1\r\n\r\n", Target("h", 8080, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")),
    ],
)
def test_requests_say_where_they_go(head: bytes, target: Target) -> None:
    assert parse_request(head) == target


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET https://example.com/ HTTP/1.1\r\n\r\n",
        b"CONNECT example.com HTTP/1.1\r\n\r\n",
        b"CONNECT example.com:0 HTTP/1.1\r\n\r\n",
        b"CONNECT example.com:99999 HTTP/1.1\r\n\r\n",
        b"CONNECT a@b:443 HTTP/1.1\r\n\r\n",
        b"CONNECT :443 HTTP/1.1\r\n\r\n",
        b"CONNECT example.com:443 HTTP/2\r\n\r\n",
        b"\xff\xfe",
        b"",
    ],
)
def test_other_requests_are_refused(head: bytes) -> None:
    with pytest.raises(Refused):
        parse_request(head)


@given(st.binary(max_size=300))
def test_a_request_is_read_or_refused(head: bytes) -> None:
    try:
        target = parse_request(head)
    except Refused:
        return
    assert target.host and 0 < target.port < 65536


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (Target("example.com", 443), None),
        (Target("example.com", 25), "port 25 is not one that builds may use"),
        (Target("mirror.lan", 4873), None),
        (Target("mirror.lan", 22), None),
        (Target("cache.lan", 8081), None),
        (Target("cache.lan", 8082), "port 8082 is not one that builds may use"),
        (Target("bad.example", 443), "the operator refuses this host"),
        (Target("deep.bad.example", 443), "the operator refuses this host"),
        (Target("notbad.example", 443), None),
    ],
)
def test_the_operator_has_the_word_on_hosts_and_ports(target: Target, why: str | None) -> None:
    egress = Egress(allowed=frozenset({"mirror.lan", "cache.lan:8081"}), denied=("bad.example", "9.9.9.0/24"))
    assert refuse_name(target, egress) == why


def test_own_addresses_are_told_from_others() -> None:
    assert is_own_address(ip_address("127.0.0.1"))
    assert not is_own_address(ip_address("9.9.9.9"))


class Canary:
    """A server on loopback that counts its connections and answers each with `hello`."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # Whoever only tries the port says nothing.
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                self.seen.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"hello")
        finally:
            writer.close()


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    made = Canary()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@asynccontextmanager
async def proxying(folder: Path, egress: Egress, answers: Sequence[Sequence[str]]) -> AsyncIterator[EgressProxy]:
    """Run a proxy whose resolver gives these answers one after the other, the last for ever."""
    asked = 0

    async def resolve(host: str, port: int) -> Sequence[str]:
        nonlocal asked
        asked += 1
        return answers[min(asked, len(answers)) - 1]

    proxy = EgressProxy(egress, resolve)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "egress"))
    await proxy.start(listener)
    yield proxy
    await proxy.close()


async def ask(folder: Path, request: str) -> str:
    """Send one request; return all that comes back."""
    reader, writer = await asyncio.open_unix_connection(folder / "egress")
    writer.write(request.encode())
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer.decode()


async def test_a_named_host_is_reached_by_both_ways(tmp_path: Path, canary: Canary) -> None:
    egress = Egress(allowed=frozenset({f"mirror.lan:{canary.port}"}))
    async with proxying(tmp_path, egress, [["127.0.0.1"]]) as proxy:
        proxy.open()
        head = f"CONNECT mirror.lan:{canary.port} HTTP/1.1\r\n\r\nGET /tunnelled HTTP/1.1\r\n\r\n"
        assert await ask(tmp_path, head) == "HTTP/1.1 200 Connection established\r\n\r\nhello"
        assert await ask(tmp_path, f"GET http://mirror.lan:{canary.port}/plain HTTP/1.1\r\n\r\n") == "hello"
    assert [head.split()[1] for head in canary.seen] == [b"/tunnelled", b"/plain"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"])
async def test_no_spelling_of_this_machine_gets_a_connection(tmp_path: Path, canary: Canary, host: str) -> None:
    proxy = EgressProxy(Egress(ports=frozenset({canary.port})))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "egress"))
    await proxy.start(listener)
    proxy.open()
    answer = await ask(tmp_path, f"CONNECT {host}:{canary.port} HTTP/1.1\r\n\r\n")
    assert answer.startswith(("HTTP/1.1 403", "HTTP/1.1 502"))
    assert canary.seen == []
    await proxy.close()


async def test_one_private_address_among_public_ones_is_enough(tmp_path: Path, canary: Canary) -> None:
    egress = Egress(ports=frozenset({canary.port}))
    async with proxying(tmp_path, egress, [["9.9.9.9", "127.0.0.1"]]) as proxy:
        proxy.open()
        answer = await ask(tmp_path, f"CONNECT rebinding.example:{canary.port} HTTP/1.1\r\n\r\n")
        assert answer.startswith("HTTP/1.1 403 Forbidden")
        told = f"no connection to rebinding.example:{canary.port}: it has the address 127.0.0.1 (loopback)"
        assert proxy.take_refusals() == [told]
        assert proxy.take_refusals() == []
    assert canary.seen == []


async def test_a_shut_proxy_lets_nothing_through_and_ends_what_ran(tmp_path: Path, canary: Canary) -> None:
    egress = Egress(allowed=frozenset({"mirror.lan"}))
    async with proxying(tmp_path, egress, [["127.0.0.1"]]) as proxy:
        assert "this command has no network" in await ask(tmp_path, "CONNECT mirror.lan:1 HTTP/1.1\r\n\r\n")
        proxy.open()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "egress")
        writer.write(f"CONNECT mirror.lan:{canary.port} HTTP/1.1\r\n\r\n".encode())
        assert b"200" in await reader.readuntil(b"\r\n\r\n")
        await proxy.shut()
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
    assert canary.seen == []
