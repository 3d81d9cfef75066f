"""Requests to servers that strangers named reach public addresses, and nothing else."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from tests.pairs import trusting, write_pair
from yarl import URL

from vclone_core.errors import AddressRefused
from vclone_core.rules.addresses import OutboundPolicy, parse_allowed
from vclone_core.stores.outbound import Outbound

PUBLIC = "93.184.216.34"


class Canary:
    """A listener that answers HTTP and counts who came."""

    def __init__(self) -> None:
        self.connections = 0
        self.heads: list[bytes] = []
        self.names: list[str | None] = []
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def canary(tls: ssl.SSLContext | None = None) -> AsyncIterator[Canary]:
    made = Canary()
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: made.names.append(name)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@asynccontextmanager
async def outbound(
    *addresses: Sequence[str], allow: str = "", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Outbound]:
    """A client whose look-ups are answered with these addresses in turn, the last one for ever."""
    turns = [*addresses]

    async def resolve(host: str, port: int) -> Sequence[str]:
        return turns.pop(0) if len(turns) > 1 else turns[0]

    made = Outbound(parse_allowed(allow.split(",")), resolve=resolve if addresses else None, tls=tls)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def ask(client: Outbound, url: str) -> tuple[int, bytes]:
    async with client.request("GET", URL(url)) as response:
        return response.status, await response.read()


@pytest.mark.parametrize("url", [
    "http://127.0.0.1:{port}/", "http://[::1]:{port}/", "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/", "http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://127.1:{port}/",
    "http://0177.0.0.1:{port}/", "http://0.0.0.0:{port}/", "http://localhost:{port}/", "http://x.localhost:{port}/",
    "http://good.example@127.0.0.1:{port}/", "http://user:pw@good.example:{port}/", "http://169.254.169.254/latest",
])  # fmt: skip
async def test_local_addresses_in_every_spelling(url: str) -> None:
    async with canary() as local, outbound() as client:
        with pytest.raises(AddressRefused):
            await ask(client, url.format(port=local.port))
        assert local.connections == 0


@pytest.mark.parametrize(
    "answers",
    [
        [["127.0.0.1"]],
        [["::1"]],
        [[PUBLIC, "127.0.0.1"]],
        [["127.0.0.1", PUBLIC]],
        [["169.254.169.254"]],
        [["fe80::1%eth0"]],
        [["64:ff9b::7f00:1"]],
        [[]],
    ],
)
@pytest.mark.parametrize("port", [80, 443])
async def test_names_that_have_a_local_address(answers: list[list[str]], port: int) -> None:
    async with outbound(*answers) as client:
        with pytest.raises(AddressRefused):
            await ask(client, f"http://innocent.example:{port}/")


@pytest.mark.product("B5.3")
async def test_answer_that_changes_after_it_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the first answer is public, every later one is loopback. The connection goes to the first."""
    reached: list[tuple[str, int]] = []
    async with canary() as local, outbound([PUBLIC], ["127.0.0.1"]) as client:
        loop = asyncio.get_running_loop()
        connect = loop.sock_connect

        async def watched(sock: object, address: tuple[str, int]) -> None:
            reached.append(address[:2])
            raise ConnectionRefusedError  # Nothing leaves this machine in a test.

        monkeypatch.setattr(loop, "sock_connect", watched)
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(client, "http://rebinding.example/")
        monkeypatch.setattr(loop, "sock_connect", connect)
        assert reached == [(PUBLIC, 80)]
        for _ in range(3):
            with pytest.raises((AddressRefused, aiohttp.ClientError, OSError)):
                client._session._connector.clear_dns_cache()  # type: ignore[union-attr]
                await ask(client, "http://rebinding.example/")
        assert local.connections == 0


async def test_last_door_refuses_what_no_rule_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a client whose judge of names is broken connects to no local address."""
    async with canary() as local, outbound(["127.0.0.1"], allow=f"other.example:{local.port}") as client:
        monkeypatch.setattr(OutboundPolicy, "refuse_name", lambda self, host, port: None)

        async def let_through(host: str, port: int) -> list[object]:
            return [ipaddress.ip_address("127.0.0.1")]

        monkeypatch.setattr(client, "find_addresses", let_through)
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(client, f"http://innocent.example:{local.port}/")
        assert local.connections == 0
        assert await ask(client, f"http://other.example:{local.port}/") == (200, b"hi")


async def test_redirect_is_an_answer() -> None:
    async with canary() as local, canary() as behind, outbound(allow="127.0.0.0/8") as client:
        local.answer = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:%d/\r\n\r\n" % behind.port
        assert (await ask(client, f"http://127.0.0.1:{local.port}/"))[0] == 302
        assert behind.connections == 0


async def test_other_ports_need_permission() -> None:
    async with outbound([PUBLIC]) as client:
        for port in (22, 25, 6379, 8080):
            with pytest.raises(AddressRefused, match=f"at port {port}"):
                await ask(client, f"http://innocent.example:{port}/")


async def test_host_and_tls_name_are_the_original_ones(tmp_path: Path) -> None:
    server, client_tls = make_tls("api.example", tmp_path)
    async with (
        canary(server) as local,
        outbound(["127.0.0.1"], allow=f"*.example:{local.port}", tls=client_tls) as client,
    ):
        assert await ask(client, f"https://api.example:{local.port}/") == (200, b"hi")
        assert local.names == ["api.example"]
        assert f"Host: api.example:{local.port}".encode() in local.heads[0]
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(client, f"https://other.example:{local.port}/")


async def test_certificates_nobody_vouches_for_are_refused(tmp_path: Path) -> None:
    server, _ = make_tls("api.example", tmp_path)
    async with canary(server) as local, outbound(["127.0.0.1"], allow=f"*.example:{local.port}") as client:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(client, f"https://api.example:{local.port}/")


async def test_addresses_for_programs_that_connect_by_themselves() -> None:
    async with outbound([PUBLIC, "2606:4700::1"], ["10.0.0.1"]) as client:
        assert [str(found) for found in await client.find_addresses("git.example", 443)] == [PUBLIC, "2606:4700::1"]
        with pytest.raises(AddressRefused, match="private"):
            await client.find_addresses("git.example", 443)


def make_tls(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context for a name, and a client's that trusts it."""
    write_pair(folder, "server", name)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.crt", folder / "server.key")
    return server, trusting(folder)
