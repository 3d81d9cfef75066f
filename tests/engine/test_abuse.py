"""Clients that misbehave cost the edge little, end in time, and leave the others alone.

Limits are set to a second or two here; each probe is bounded in count and time.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests.engine import probes
from tests.engine.conftest import Edge, StartEdge, wait_until
from tests.engine.test_basics import trusting, write_pair

MIB = 1024 * 1024


def assert_serves(edge: Edge, within_s: float = 2, source: str = "127.0.0.2") -> None:
    """Somebody else is served, and soon."""
    began = time.monotonic()
    assert probes.get(edge.port, "/", source=source).status == 200
    assert time.monotonic() - began < within_s


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def ends_within(sock: socket.socket, timeout_s: float) -> float:
    began = time.monotonic()
    probes.read_until_end(sock, timeout_s)
    return time.monotonic() - began


# Readers that don't read


@pytest.mark.parametrize("pings", [False, True])
@pytest.mark.product("B10.2", "B12.4")
def test_zero_window_stream_costs_nothing_and_ends(start_edge: StartEdge, pings: bool) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True, edge_idle_s=2, edge_stall_s=2)
    assert_serves(edge)
    before = edge.rss()
    client = probes.H2Client(probes.connect(edge.port), window=0)
    client.start(f"/stream/{300 * MIB}")
    began = time.monotonic()
    while not client.is_closed and time.monotonic() - began < 12:
        if pings:
            client.connection.ping(b"12345678")
            with suppress(OSError):
                client.flush()
        client.pump(0.3)
        assert edge.rss() - before < 32 * MIB
    assert client.is_closed, "a stream that doesn't move must not hold its connection"
    wait_until(lambda: edge.running() == 0)
    assert_serves(edge)


@pytest.mark.product("B10.2")
def test_reader_that_stops_costs_nothing_and_ends(start_edge: StartEdge) -> None:
    edge = start_edge(edge_stall_s=2, edge_idle_s=2)
    before = edge.rss()
    sleepers = [probes.connect(edge.port) for _ in range(20)]
    for sock in sleepers:
        sock.sendall(probes.request(f"/stream/{300 * MIB}"))
    time.sleep(1)
    assert edge.running() == 20
    assert edge.rss() - before < 32 * MIB
    assert_serves(edge)
    wait_until(lambda: edge.running() == 0, 12)
    assert "stalled=20" in wait_for_log(edge, "connections.refused")


def wait_for_log(edge: Edge, word: str) -> str:
    wait_until(lambda: word in edge.log_text(), 12)
    return edge.log_text()


def test_slow_but_steady_reader_is_left_alone(start_edge: StartEdge) -> None:
    edge = start_edge(edge_stall_s=1, edge_idle_s=1)
    with probes.connect(edge.port) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.sendall(probes.request(f"/stream/{50 * MIB}"))
        began, size = time.monotonic(), 0
        while time.monotonic() - began < 4:
            size += len(sock.recv(65536))
            time.sleep(0.05)
    assert size > 2 * MIB


@pytest.mark.parametrize("ending", ["close", "reset", "rst_stream"])
def test_aborted_downloads_are_forgotten(start_edge: StartEdge, ending: str) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True)
    probes.get(edge.port, f"/stream/{5 * MIB}")
    before = edge.rss()
    for _ in range(10):
        if ending == "rst_stream":
            client = probes.H2Client(probes.connect(edge.port))
            number = client.start(f"/stream/{50 * MIB}")
            client.pump(0.05)
            client.connection.reset_stream(number)
            client.flush()
        else:
            sock = probes.connect(edge.port)
            sock.sendall(probes.request(f"/stream/{50 * MIB}"))
            sock.recv(MIB)
            if ending == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
    wait_until(lambda: edge.running() == 0)
    assert edge.rss() - before < 24 * MIB
    assert "ASGI transport error" not in edge.log_text()


# Bodies nobody asked for


def test_data_after_an_early_answer_harms_nobody(start_edge: StartEdge) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True)
    client = probes.H2Client(probes.connect(edge.port))
    victim = client.start(f"/stream/{2 * MIB}/0.01")
    refused = client.start("/refuse", method="POST", end=False)
    client.pump(0.3)
    assert client.streams[refused].status == 413
    for _ in range(3):
        client.sock.sendall(frame(0, 0, refused, bytes(1000)))
    client.pump(10, until=victim)
    assert len(client.streams[victim].body) == 2 * MIB
    with probes.connect(edge.port) as sock:
        sock.sendall(probes.request("/refuse", method="POST", extra="content-length: 10000000\r\n"))
        assert probes.read_answer(sock).status == 413
        with suppress(OSError):
            for _ in range(100):
                sock.sendall(bytes(100_000))
    assert_serves(edge)


def test_unread_bodies_stop_neither_their_connection_nor_others(start_edge: StartEdge) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True)
    client = probes.H2Client(probes.connect(edge.port))
    bodies = [client.start("/", method="POST", end=False) for _ in range(10)]
    for number in bodies:
        for _ in range(3):
            client.sock.sendall(frame(0, 0, number, bytes(1000)))
    stream = client.fetch("/", timeout_s=2)
    assert (stream.status, stream.is_ended) == (200, True)
    for _ in range(20):
        sock = probes.connect(edge.port)
        sock.sendall(probes.request("/", method="POST", extra="content-length: 1000000\r\n") + bytes(30_000))
        assert probes.read_answer(sock).status == 200
        sock.close()
    assert_serves(edge)


@pytest.mark.product("B10.4")
def test_an_error_in_mid_body_never_looks_complete(start_edge: StartEdge) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True)
    with probes.connect(edge.port) as sock:
        sock.sendall(probes.request("/break"))
        with pytest.raises((EOFError, ConnectionError)):
            probes.read_answer(sock)
    client = probes.H2Client(probes.connect(edge.port))
    stream = client.fetch("/break", timeout_s=3)
    assert stream.reset is not None
    assert client.fetch("/").status == 200


# Openings


@pytest.mark.product("B12.4")
def test_slow_heads_end_in_time(start_edge: StartEdge, tmp_path: Path) -> None:
    write_pair(tmp_path / "certificates", "default", "site.localhost")
    edge = start_edge(edge_header_s=1, edge_h2_prior_knowledge=True, edge_certificates=tmp_path / "certificates")
    no_handshake = probes.connect(edge.tls_port)
    silent = probes.connect(edge.port)
    half = probes.connect(edge.port)
    half.sendall(b"GET / HTTP/1.1\r\nhost: a")
    preface_only = probes.connect(edge.port)
    preface_only.sendall(probes.PREFACE + frame(4, 0, 0))
    second = probes.connect(edge.port)
    second.sendall(probes.request("/"))
    assert probes.read_answer(second).status == 200
    second.sendall(b"GET / HTTP/1.1\r\nhost: a")
    dribble = probes.connect(edge.port)
    dribble.settimeout(0.05)
    began, got = time.monotonic(), b""
    head = iter(b"GET / HTTP/1.1\r\n" + b"x-filler: y\r\n" * 1000)
    while time.monotonic() - began < 5:
        try:
            dribble.sendall(bytes([next(head)]))
            piece = dribble.recv(4096)
        except TimeoutError:
            continue
        except OSError:
            break
        if not piece:
            break
        got += piece
    assert time.monotonic() - began < 4.5
    assert got.startswith(b"HTTP/1.1 408 ")
    assert probes.read_until_end(half, 3).startswith(b"HTTP/1.1 408 ")
    for sock in (no_handshake, silent, preface_only, second):
        assert ends_within(sock, 4) < 4
    assert_serves(edge)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"HTTP/1.1 400 "),
        (b"SSH-2.0-OpenSSH_9.2\r\n", b""),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", b"HTTP/1.1 431 "),
        (b"GET /" + b"y" * 20_000, b"HTTP/1.1 431 "),
        (b"\r\n\r\n\r\n", b"HTTP/1.1 400 "),
    ],
    ids=["tls_on_a_plain_port", "ssh", "long_head", "long_line", "empty_lines"],
)
def test_what_is_no_request_is_answered_by_the_front(start_edge: StartEdge, sent: bytes, expected: bytes) -> None:
    edge = start_edge(edge_header_s=1)
    with probes.connect(edge.port) as sock:
        sock.sendall(sent)
        assert probes.read_until_end(sock, 4).startswith(expected)
    assert_serves(edge)


def test_idle_connections_end(start_edge: StartEdge) -> None:
    edge = start_edge(edge_idle_s=1, edge_h2_prior_knowledge=True)
    with probes.connect(edge.port) as sock:
        sock.sendall(probes.request("/"))
        assert probes.read_answer(sock).status == 200
        assert 0.5 < ends_within(sock, 6) < 5
    client = probes.H2Client(probes.connect(edge.port))
    assert client.fetch("/").status == 200
    client.pump(6)
    assert client.is_closed


# Floods


def _resets(client: probes.H2Client) -> None:
    for _ in range(1200):
        number = client.connection.get_next_available_stream_id()
        client.connection.send_headers(number, [*probes.HEADERS, (":path", "/stream/10000000")], end_stream=True)
        client.connection.reset_stream(number)
    client.flush()


def _pings(client: probes.H2Client) -> None:
    client.sock.sendall(frame(6, 0, 0, bytes(8)) * 5000)


def _settings(client: probes.H2Client) -> None:
    client.sock.sendall(frame(4, 0, 0) * 5000)


def _continuations(client: probes.H2Client) -> None:
    client.sock.sendall(frame(1, 0, 1, b"\x82") + frame(9, 0, 1) * 5000)


def _empty_data(client: probes.H2Client) -> None:
    number = client.start("/read", method="POST", end=False)
    client.sock.sendall(frame(0, 0, number) * 5000)


def _oversized(client: probes.H2Client) -> None:
    client.sock.sendall(frame(0, 0, 1, bytes(20_000)))


def _priorities(client: probes.H2Client) -> None:
    client.sock.sendall(frame(2, 0, 1, struct.pack(">IB", 0, 15)) * 5000)


FLOODS = (_resets, _pings, _settings, _continuations, _empty_data, _oversized, _priorities)


@pytest.mark.parametrize("is_tls", [False, True], ids=["clear", "tls"])
def test_floods_end_their_connection_only(start_edge: StartEdge, tmp_path: Path, is_tls: bool) -> None:
    write_pair(tmp_path / "certificates", "default", "site.localhost")
    edge = start_edge(edge_h2_prior_knowledge=True, edge_certificates=tmp_path / "certificates")

    def connect() -> probes.H2Client:
        if not is_tls:
            return probes.H2Client(probes.connect(edge.port))
        context = trusting(tmp_path / "certificates")
        return probes.H2Client(probes.connect_tls(edge.tls_port, context, alpn=["h2"]))

    bystander = connect()
    assert bystander.fetch("/").status == 200
    before, descriptors = edge.rss(), edge.descriptors()
    for flood in FLOODS:
        for _ in range(3):
            client = connect()
            with suppress(OSError):
                flood(client)
            client.pump(5)
            assert client.is_closed or client.goaway is not None, flood.__name__
            client.close()
        assert_serves(edge, within_s=5)
    assert bystander.fetch("/").status == 200
    wait_until(lambda: edge.running() == 0)
    wait_until(lambda: edge.descriptors() <= descriptors + 2)
    assert edge.rss() - before < 50 * MIB
    assert len(edge.log_text().splitlines()) < 40


def test_a_slow_body_ends_in_time(start_edge: StartEdge) -> None:
    edge = start_edge()
    slow = probes.connect(edge.port)
    slow.sendall(probes.request("/drain", method="POST", extra="content-length: 1000\r\n"))
    slow.settimeout(0.1)
    began, got, is_ended = time.monotonic(), b"", False
    while not is_ended and time.monotonic() - began < 15:
        try:
            slow.sendall(b"x")
            piece = slow.recv(4096)
            got += piece
            is_ended = not piece
        except TimeoutError:
            continue
        except OSError:
            is_ended = True
    assert is_ended
    assert got.startswith(b"HTTP/1.1 408 ")
    assert_serves(edge, within_s=5)


# Hoarding


@pytest.mark.product("B12.4")
def test_one_address_can_not_take_every_place(start_edge: StartEdge) -> None:
    edge = start_edge(edge_connections_per_address=20)
    hoard = [probes.connect(edge.port) for _ in range(60)]
    time.sleep(0.3)
    refused = sum(1 for sock in hoard if _is_ended(sock))
    assert refused == 40
    assert_serves(edge, within_s=1)
    hoard[0].sendall(probes.request("/"))
    assert probes.read_answer(hoard[0]).status == 200
    for sock in hoard:
        sock.close()
    wait_until(lambda: _is_served(edge, "127.0.0.1"))
    assert edge.log_text().count("connections.refused") <= 1


def _is_ended(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        sock.settimeout(10)


def _is_served(edge: Edge, source: str) -> bool:
    try:
        return probes.get(edge.port, "/", source=source).status == 200
    except (OSError, EOFError):
        return False


@pytest.mark.parametrize("descriptors", [100, 48])
def test_running_out_of_descriptors_is_survived(start_edge: StartEdge, descriptors: int) -> None:
    """At 100 the front's own limit comes first, at 48 the kernel's."""
    edge = start_edge(descriptors=descriptors)
    crowd: list[socket.socket] = []
    for number in range(120):
        with suppress(OSError):
            sock = probes.connect(edge.port, source=f"127.0.1.{number + 1}", timeout_s=1)
            sock.sendall(probes.request("/"))
            crowd.append(sock)
    time.sleep(2.5)
    assert edge.process.poll() is None
    assert len(edge.log_text().splitlines()) < 30
    for sock in crowd:
        sock.close()
    wait_until(lambda: _is_served(edge, "127.0.0.2"))
