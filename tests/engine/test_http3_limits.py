"""HTTP/3: what a stranger can take, to each limit and past it. The engine runs in this process.

The rows of the table in docs/discussion/engines.md, in their order; times that a whole edge keeps are in
`test_http3.py`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from aioquic.h3.connection import H3_ALPN, ErrorCode, Setting
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicErrorCode
from tests.engine import trivial
from tests.engine.conftest import MIB
from tests.engine.h3client import Http3Client, open_http3, until
from tests.ports import pick_port

from vclone_certificates_internal import make_issuer
from vclone_core.protocols import IssuerConfig
from vclone_edge import http3, http3_engine
from vclone_edge.gate import Gate
from vclone_edge.http3 import CONNECTION_BYTES, SHARE_BYTES, STREAM_BYTES, Connection, Http3Limits
from vclone_edge.http3_engine import CONNECTIONS, HANDSHAKES, HANDSHAKES_UNPROVEN, HELD_BYTES, Http3Engine
from vclone_edge.quic import STREAM_WINDOW_BYTES
from vclone_edge.tls import Certificates
from vclone_edge.workers import CONNECTION_WINDOW_BYTES, HEADER_BYTES, STREAMS

BASE = "apps.example"
HOST = f"shop.{BASE}"
KIB = 1024
PAGE = Path(__file__).parents[2] / "docs" / "discussion" / "engines.md"


@asynccontextmanager
async def serving(folder: Path, *, handshake_s: float = 10, per_address: int = 1000) -> AsyncIterator[Http3Engine]:
    """Run an engine with the app of `trivial.py`, and have nothing left of it."""
    certificates = Certificates(None, make_issuer(IssuerConfig(folder, BASE)), base_domain=BASE)
    gate = Gate(fronts=1, per_address=per_address, per_front=1000)
    limits = Http3Limits(handshake_s=handshake_s, header_s=10, idle_s=60, stall_s=60)
    # What it asks of hypercorn's part is to follow its tasks.
    tasks: set[asyncio.Task[None]] = set()
    engine = Http3Engine(SimpleNamespace(follow=tasks.add), trivial.app(), certificates, gate, limits)
    life = asyncio.create_task(engine.live([("127.0.0.1", pick_port())]))
    await until(lambda: bool(engine._sockets))
    try:
        yield engine
    finally:
        engine.drain()
        for connection in list(engine._connections):
            connection.close(ErrorCode.H3_NO_ERROR, "")
        await asyncio.wait_for(life, 20)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (engine._handshakes, engine._by_cid, gate._total) == (0, {}, 0)


def port_of(engine: Http3Engine) -> int:
    return int(engine._sockets[0].getsockname()[1])


def only(engine: Http3Engine) -> Connection:
    (connection,) = engine._connections
    return connection


def send_hello(engine: Http3Engine, *, token: bytes = b"") -> None:
    """Begin a handshake, and never go on with it."""
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, server_name=HOST, token=token)
    half = QuicConnection(configuration=configuration)
    half.connect(("127.0.0.1", port_of(engine)), now=0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for data, _address in half.datagrams_to_send(now=0):
            sock.sendto(data, ("127.0.0.1", port_of(engine)))


async def is_served(client: Http3Client) -> bool:
    return (await client.fetch(HOST, "/")).status == 200


def in_work() -> int:
    return trivial.RUNNING["requests"]


# Connections


@pytest.mark.product("B12.4")
async def test_connections_in_all_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http3_engine, "CONNECTIONS", 3)
    async with serving(tmp_path) as engine, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(open_http3(port_of(engine), HOST)) for _ in range(3)]
        fourth = asyncio.create_task(stack.enter_async_context(open_http3(port_of(engine), HOST)))
        await until(lambda: engine._refusals["all_places_taken"] > 0)
        assert not fourth.done()
        for client in clients:
            assert await is_served(client)
        clients[0].close()
        # It has gone on asking.
        assert await is_served(await asyncio.wait_for(fourth, 20))


async def test_connections_of_an_address_have_an_end(tmp_path: Path) -> None:
    async with serving(tmp_path, per_address=2) as engine, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(open_http3(port_of(engine), HOST)) for _ in range(3)]
        await until(lambda: clients[2].closed is not None)
        assert await is_served(clients[0])
        assert await is_served(clients[1])


@pytest.mark.product("B12.4")
async def test_handshakes_at_once_have_an_end_and_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http3_engine, "HANDSHAKES", 4)
    async with serving(tmp_path, handshake_s=3) as engine, AsyncExitStack() as stack:
        established = await stack.enter_async_context(open_http3(port_of(engine), HOST))
        for _ in range(6):
            send_hello(engine)
        await until(lambda: engine._refusals["all_places_taken"] == 2)
        assert engine._handshakes == 4
        later = asyncio.create_task(stack.enter_async_context(open_http3(port_of(engine), HOST)))
        await until(lambda: engine._refusals["all_places_taken"] > 2)
        assert await is_served(established)
        assert await is_served(await asyncio.wait_for(later, 20))


async def test_from_the_32nd_handshake_on_addresses_are_to_be_shown(tmp_path: Path) -> None:
    async with serving(tmp_path, handshake_s=60) as engine:
        for _ in range(HANDSHAKES_UNPROVEN - 1):
            send_hello(engine)
        await until(lambda: engine._handshakes == HANDSHAKES_UNPROVEN - 1)
        async with open_http3(port_of(engine), HOST) as client:
            assert client.retries == 0
        send_hello(engine)
        await until(lambda: engine._handshakes == HANDSHAKES_UNPROVEN)
        send_hello(engine)
        async with open_http3(port_of(engine), HOST) as client:
            assert client.retries == 1
            assert await is_served(client)
        send_hello(engine, token=b"made up")
        await until(lambda: engine._refusals["bad_token"] == 1)
        assert engine._handshakes == HANDSHAKES_UNPROVEN


# Requests


async def test_a_hundred_requests_at_once_and_no_more(tmp_path: Path) -> None:
    async with serving(tmp_path) as engine:
        async with open_http3(port_of(engine), HOST) as client:
            numbers = [client.start(HOST, "/sleep/1") for _ in range(STREAMS + 50)]
            await until(lambda: in_work() == STREAMS)
            most = 0
            while not all(client.answers[number].ended.is_set() for number in numbers):
                most = max(most, in_work())
                await asyncio.sleep(0.01)
            assert most == STREAMS
            assert all(bytes(client.answers[number].body) == b"slept" for number in numbers)
        async with open_http3(port_of(engine), HOST) as watcher, open_http3(port_of(engine), HOST) as client:
            client._quic._remote_max_streams_bidi = 1 << 20
            for _ in range(STREAMS + 50):
                client.start(HOST, "/stream/100000000")
            await until(lambda: client.closed is not None)
            assert client.closed is not None
            assert client.closed.error_code == QuicErrorCode.STREAM_LIMIT_ERROR
            await until(lambda: in_work() == 0)
            assert await is_served(watcher)


async def test_giving_up_most_of_too_many_requests_ends_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert http3._REQUESTS_PER_S == 500
    monkeypatch.setattr(http3, "_REQUESTS_PER_S", 40)
    async with serving(tmp_path) as engine, open_http3(port_of(engine), HOST) as watcher:
        async with open_http3(port_of(engine), HOST) as client:
            for _ in range(3):
                for number in [client.start(HOST, "/") for _ in range(60)]:
                    assert (await client.finish(number)).status == 200
            given_up = [client.start(HOST, "/stream/100000000") for _ in range(20)]
            await until(lambda: in_work() == 20)
            for number in given_up:
                client.leave(number)
            await until(lambda: in_work() == 0)
            assert await is_served(client)
            for _ in range(500):
                # As many as the server allows: it is to end this for another reason than that.
                left = client._quic._remote_max_streams_bidi - client._quic._local_next_stream_id_bidi // 4
                for number in [client.start(HOST, "/stream/100000000") for _ in range(left)]:
                    client.leave(number)
                await asyncio.sleep(0.01)
                if client.closed is not None:
                    break
            assert client.closed is not None
            assert (client.closed.error_code, client.closed.reason_phrase) == (
                ErrorCode.H3_EXCESSIVE_LOAD,
                "rapid reset",
            )
        await until(lambda: in_work() == 0)
        assert await is_served(watcher)


@pytest.mark.product("B12.4")
async def test_header_fields_to_the_last_byte(tmp_path: Path) -> None:
    fields = {":method": "GET", ":scheme": "https", ":authority": HOST, ":path": "/", "x-a": ""}
    room = HEADER_BYTES - sum(len(name) + len(value) + 32 for name, value in fields.items())
    async with serving(tmp_path) as engine, open_http3(port_of(engine), HOST) as client:
        assert (await client.fetch(HOST, "/", extra=[("x-a", "~" * room)])).status == 200
        assert (await client.fetch(HOST, "/", extra=[("x-a", "~" * (room + 1))])).status == 431
        assert (await client.fetch(HOST, "/", extra=[("x-a", "~" * 40_000), ("x-b", "~" * 25_000)])).status == 431
        await client.fetch(HOST, "/", extra=[("x-a", "~" * 40_000), ("x-b", "~" * 25_600)])
        assert client.closed is not None
        assert client.closed.error_code == ErrorCode.H3_EXCESSIVE_LOAD


async def test_there_is_no_dynamic_table(tmp_path: Path) -> None:
    async with serving(tmp_path) as engine, open_http3(port_of(engine), HOST) as client:
        assert await is_served(client)
        said = client.http.received_settings
        assert said is not None
        assert said.get(Setting.QPACK_MAX_TABLE_CAPACITY, 0) == said.get(Setting.QPACK_BLOCKED_STREAMS, 0) == 0
        assert said[Setting.MAX_FIELD_SECTION_SIZE] == HEADER_BYTES
        # Set Dynamic Table Capacity to 4096 (RFC 9204 §4.3.1).
        assert client.http._local_encoder_stream_id is not None
        client._quic.send_stream_data(client.http._local_encoder_stream_id, b"\x3f\xe1\x1f")
        client.transmit()
        await until(lambda: client.closed is not None)
        assert client.closed is not None
        assert client.closed.error_code == ErrorCode.QPACK_ENCODER_STREAM_ERROR


# Bytes


@pytest.mark.product("B10.2")
async def test_answers_that_are_not_read(tmp_path: Path) -> None:
    slack = 2 * KIB  # heads and frames
    async with serving(tmp_path) as engine:
        async with open_http3(port_of(engine), HOST, max_data=4 * KIB, max_stream_data=KIB) as client:
            client.stop_reading()
            first = client.start(HOST, f"/stream/{64 * MIB}")
            await until(lambda: only(engine).quic.held(first) >= STREAM_BYTES)
            await asyncio.sleep(0.2)
            assert only(engine).quic.held(first) <= STREAM_BYTES + SHARE_BYTES + slack
            others = [client.start(HOST, f"/stream/{64 * MIB}") for _ in range(30)]
            quic = only(engine).quic
            await until(lambda: in_work() == 31 and all(quic.held(number) >= SHARE_BYTES for number in others))
            await asyncio.sleep(0.2)
            assert only(engine).weight > CONNECTION_BYTES
            assert only(engine).weight <= CONNECTION_BYTES + 32 * (SHARE_BYTES + slack)
        await until(lambda: in_work() == 0)


async def test_bodies_that_are_not_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as engine, open_http3(port_of(engine), HOST) as watcher:
        async with open_http3(port_of(engine), HOST) as client:
            (sender,) = [each for each in engine._connections if each.quic.get_peer_address()[1] == client_port(client)]

            def post() -> int:
                number = client.start(HOST, "/sleep/60", method="POST", end=False)
                client.http.send_data(number, bytes(2 * MIB), end_stream=True)
                client.transmit()
                return number

            first = post()
            await until(lambda: sender.weight >= STREAM_WINDOW_BYTES - KIB)  # less the head
            await asyncio.sleep(0.2)
            assert sender.weight <= STREAM_WINDOW_BYTES
            for _ in range(7):
                post()
            await until(lambda: sender.weight >= CONNECTION_WINDOW_BYTES - 64 * KIB)
            await asyncio.sleep(0.2)
            assert sender.weight <= CONNECTION_WINDOW_BYTES
            # Who takes no notice of the window is not a client.
            client._quic._streams[first].max_stream_data_remote = client._quic._remote_max_data = 1 << 30
            client.transmit()
            await until(lambda: client.closed is not None)
            assert client.closed is not None
            assert client.closed.error_code == QuicErrorCode.FLOW_CONTROL_ERROR
        assert await is_served(watcher)


def client_port(client: Http3Client) -> int:
    return int(client._transport.get_extra_info("sockname")[1])


async def test_who_holds_most_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path) as engine:
        small = {"max_data": 4 * KIB, "max_stream_data": KIB}
        async with (
            open_http3(port_of(engine), HOST, **small) as light,
            open_http3(port_of(engine), HOST, **small) as heavy,
        ):
            for client, count in ((light, 1), (heavy, 31)):
                client.stop_reading()
                for _ in range(count):
                    client.start(HOST, f"/stream/{64 * MIB}")
            await until(lambda: engine.weight > MIB)
            await asyncio.sleep(1.5)
            assert (light.closed, heavy.closed) == (None, None)
            monkeypatch.setattr(http3_engine, "HELD_BYTES", MIB)
            await until(lambda: heavy.closed is not None)
            assert heavy.closed is not None
            assert (heavy.closed.error_code, heavy.closed.reason_phrase) == (ErrorCode.H3_EXCESSIVE_LOAD, "memory")
            await until(lambda: in_work() == 1)
            assert light.closed is None
            assert engine.weight <= MIB
        await until(lambda: in_work() == 0)


async def test_every_byte_is_accounted_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as engine, open_http3(port_of(engine), HOST) as client:
        for path, status in (("/read", 200), ("/refuse", 413), ("/none", 404)):
            for size in (0, 1, 100_000, 3 * MIB):
                number = client.start(HOST, path, method="POST", end=False)
                client.http.send_data(number, bytes(size), end_stream=True)
                client.transmit()
                assert (await client.finish(number)).status == status
        given_up = client.start(HOST, "/sleep/9", method="POST", end=False)
        client.http.send_data(given_up, bytes(MIB), end_stream=False)
        client.transmit()
        await until(lambda: engine.weight > 200_000)
        client._quic.reset_stream(given_up, 0x10C)
        client.transmit()
        await until(lambda: engine.weight == 0)
        assert await is_served(client)


def test_the_page_says_these_limits() -> None:
    _, _, rest = PAGE.read_text().partition("| What a stranger can take | Limit |\n")
    rows = dict(line.strip("| ").split(" | ", 1) for line in rest.split("\n\n")[0].splitlines()[1:])
    assert f"{CONNECTIONS:,}" in rows["connections"]
    assert f"{HANDSHAKES}," in rows["handshakes at once"]
    assert f"from the {HANDSHAKES_UNPROVEN}nd on" in rows["handshakes at once"]
    assert f"{STREAMS} a connection" in rows["requests at once"]
    assert f"{http3._REQUESTS_PER_S} in a second" in rows["requests at once"]
    assert f"{HEADER_BYTES // KIB} KiB" in rows["header fields"]
    unread = rows["an answer that isn't read"]
    for size in (STREAM_BYTES, CONNECTION_BYTES, SHARE_BYTES):
        assert f"{size // KIB} KiB" in unread
    assert f"{STREAM_WINDOW_BYTES // KIB} KiB a stream" in rows["a request's body that isn't read"]
    assert f"{CONNECTION_WINDOW_BYTES // MIB} MiB a connection" in rows["a request's body that isn't read"]
    assert f"{HELD_BYTES // MIB} MiB" in rows["both together"]
