"""Clients that misbehave within a request cost the edge little, end in time, and leave the others alone.

In the clear and over TLS; limits are set to a second or two here, and each probe is bounded in count and time. What
every probe asserts besides its own is in `Edge.unharmed`.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress

import pytest
from tests.engine import probes
from tests.engine.conftest import BOTH_WAYS, MIB, Edge, StartEdge, wait_until

pytestmark = BOTH_WAYS


def wait_for_log(edge: Edge, word: str) -> None:
    wait_until(lambda: word in edge.log_text(), 12)


# Readers that don't read


@pytest.mark.parametrize("pings", [False, True])
@pytest.mark.parametrize("path", [f"/stream/{300 * MIB}", f"/whole/{MIB}"], ids=["streamed", "from_memory"])
@pytest.mark.product("B10.2", "B12.4")
def test_zero_window_streams_cost_little_and_end(start_edge: StartEdge, path: str, pings: bool) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True, edge_idle_s=2, edge_stall_s=2)
    with edge.unharmed(memory_bytes=40 * MIB):
        before = edge.rss()
        client = edge.connect_h2(window=0)
        for _ in range(50):
            client.start(path)
        began = time.monotonic()
        while not client.is_closed and time.monotonic() - began < 15:
            if pings:
                client.connection.ping(b"12345678")
                with suppress(OSError):
                    client.flush()
            client.pump(0.3)
            assert edge.rss() - before < 40 * MIB
        assert client.is_closed, "streams that don't move must not hold their connection"


@pytest.mark.product("B10.2")
def test_readers_that_stop_cost_little_and_end(start_edge: StartEdge) -> None:
    edge = start_edge(edge_stall_s=2, edge_idle_s=2)
    with edge.unharmed():
        before = edge.rss()
        sleepers = [edge.connect() for _ in range(20)]
        for sock in sleepers:
            sock.sendall(probes.request(f"/stream/{300 * MIB}"))
        wait_until(lambda: edge.running() == 20)
        assert edge.rss() - before < 32 * MIB
        assert edge.is_served()
        wait_until(lambda: edge.running() == 0, 15)
        wait_for_log(edge, "stalled=20")


@pytest.mark.product("B12.4")
def test_readers_of_a_few_bytes_a_second_end(start_edge: StartEdge) -> None:
    edge = start_edge(edge_stall_s=2, edge_idle_s=2)
    with edge.unharmed():
        slow = edge.connect()
        slow.sendall(probes.request(f"/stream/{300 * MIB}"))
        slow.settimeout(0.2)
        wait_until(lambda: edge.running() == 1)
        began = time.monotonic()
        with suppress(OSError):
            while edge.running() and time.monotonic() - began < 20 and slow.recv(50):
                time.sleep(0.1)
        assert edge.running() == 0


@pytest.mark.product("B10.2")
def test_streams_that_stall_are_given_up_silently(start_edge: StartEdge) -> None:
    """Their connection goes on, as other streams of it move."""
    edge = start_edge(edge_h2_prior_knowledge=True)
    with edge.unharmed():
        client = edge.connect_h2(window=1000)
        for _ in range(20):
            client.start(f"/whole/{MIB}")
        client.pump(0.3, acknowledge=False)
        assert edge.running() == 20
        wait_until(lambda: edge.running() == 0, 15)
        assert client.fetch("/drain").is_ended


def test_slow_but_steady_readers_are_left_alone(start_edge: StartEdge) -> None:
    edge = start_edge(edge_stall_s=1, edge_idle_s=1)
    with edge.unharmed():
        sock = edge.connect()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.sendall(probes.request(f"/stream/{50 * MIB}"))
        began, size = time.monotonic(), 0
        while time.monotonic() - began < 4:
            size += len(sock.recv(65536))
            time.sleep(0.05)
        assert edge.running() == 1
        assert size > MIB // 2


@pytest.mark.parametrize("ending", ["close", "reset", "rst_stream"])
def test_aborted_downloads_are_forgotten(start_edge: StartEdge, ending: str) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True)
    with edge.unharmed():
        for _ in range(10):
            if ending == "rst_stream":
                client = edge.connect_h2()
                number = client.start(f"/stream/{50 * MIB}")
                client.pump(0.05)
                client.connection.reset_stream(number)
                client.flush()
            else:
                sock = edge.connect()
                sock.sendall(probes.request(f"/stream/{50 * MIB}"))
                sock.recv(MIB)
                if ending == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
        wait_until(lambda: edge.running() == 0)
    assert "ASGI transport error" not in edge.log_text()


# Bodies nobody asked for


def test_data_after_an_early_answer_harms_nobody(start_edge: StartEdge) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True)
    with edge.unharmed():
        client = edge.connect_h2()
        victim = client.start(f"/stream/{2 * MIB}/0.01")
        refused = client.start("/refuse", method="POST", end=False)
        client.pump(10, until=refused)
        assert client.streams[refused].status == 413
        for _ in range(3):
            client.sock.sendall(probes.frame(0, 0, refused, bytes(1000)))
        client.pump(20, until=victim)
        assert len(client.streams[victim].body) == 2 * MIB
        with edge.connect() as sock:
            sock.sendall(probes.request("/refuse", method="POST", extra="content-length: 10000000\r\n"))
            assert probes.read_answer(sock).status == 413
            with suppress(OSError):
                for _ in range(100):
                    sock.sendall(bytes(100_000))


def test_unread_bodies_stop_neither_their_connection_nor_others(start_edge: StartEdge) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True)
    with edge.unharmed():
        client = edge.connect_h2()
        for number in [client.start("/", method="POST", end=False) for _ in range(10)]:
            for _ in range(3):
                client.sock.sendall(probes.frame(0, 0, number, bytes(1000)))
        stream = client.fetch("/")
        assert (stream.status, stream.is_ended) == (200, True)
        for _ in range(20):
            sock = edge.connect()
            sock.sendall(probes.request("/", method="POST", extra="content-length: 1000000\r\n") + bytes(30_000))
            assert probes.read_answer(sock).status == 200
            sock.close()


@pytest.mark.parametrize("drip", [b"x", b""], ids=["dribbled", "stopped"])
@pytest.mark.product("B12.4")
def test_slow_bodies_end_in_time(start_edge: StartEdge, drip: bytes) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True)
    with edge.unharmed():
        slow = edge.connect()
        slow.sendall(probes.request("/drain", method="POST", extra="content-length: 1000\r\n"))
        client = edge.connect_h2()
        number = client.start("/drain", method="POST", end=False)
        slow.settimeout(0.05)
        began, got, is_ended = time.monotonic(), b"", False
        while not (is_ended and client.streams[number].is_ended) and time.monotonic() - began < 15:
            with suppress(OSError):
                if drip:
                    client.sock.sendall(probes.frame(0, 0, number, drip))
            client.pump(0.05, until=number)
            try:
                slow.sendall(drip)
                piece = slow.recv(4096)
                got += piece
                is_ended = is_ended or not piece
            except TimeoutError:
                continue
            except OSError:
                is_ended = True
        assert is_ended
        assert got.startswith(b"HTTP/1.1 408 ")
        assert client.streams[number].status == 408


@pytest.mark.product("B10.4")
def test_an_error_in_mid_body_never_looks_complete(start_edge: StartEdge) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True)
    with edge.unharmed():
        with edge.connect() as sock:
            sock.sendall(probes.request("/break"))
            with pytest.raises((EOFError, ConnectionError)):
                probes.read_answer(sock)
        client = edge.connect_h2()
        assert client.fetch("/break").reset is not None
        assert client.fetch("/").status == 200
