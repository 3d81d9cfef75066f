"""Connections that don't come to a request in time, are too many, or speak something else: in the clear and over TLS.

Limits are set to a second or two here; each probe is bounded in count and time. What every probe asserts besides its
own is in `Edge.unharmed`.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from tests.engine import probes
from tests.engine.conftest import BOTH_WAYS, Edge, StartEdge, wait_until


def ends_within(sock: socket.socket, timeout_s: float) -> bytes:
    """Return what the edge says until it ends a connection. Raises TimeoutError where it doesn't."""
    return probes.read_until_end(sock, timeout_s)


def dribble(sock: socket.socket, data: Iterator[int], timeout_s: float) -> bytes:
    """Send byte after byte until the other side ends; return what it said. Raises TimeoutError."""
    sock.settimeout(0.05)
    deadline, got = time.monotonic() + timeout_s, b""
    while time.monotonic() < deadline:
        try:
            sock.sendall(bytes([next(data)]))
            piece = sock.recv(4096)
        except TimeoutError:
            continue
        except OSError:
            return got
        if not piece:
            return got
        got += piece
    raise TimeoutError


# Slow ones


@BOTH_WAYS
@pytest.mark.product("B12.4")
def test_slow_heads_end_in_time(start_edge: StartEdge) -> None:
    edge = start_edge(edge_header_s=1, edge_h2_prior_knowledge=True)
    with edge.unharmed():
        silent = edge.connect()
        half = edge.connect()
        half.sendall(b"GET / HTTP/1.1\r\nhost: a")
        preface_only = edge.connect(alpn="h2")
        preface_only.sendall(probes.PREFACE + probes.frame(4, 0, 0))
        half_block = edge.connect(alpn="h2")
        half_block.sendall(probes.PREFACE + probes.frame(4, 0, 0) + probes.frame(1, 0, 1, b"\x82"))
        second = edge.connect()
        second.sendall(probes.request("/"))
        assert probes.read_answer(second).status == 200
        second.sendall(b"GET / HTTP/1.1\r\nhost: a")
        head = iter(b"GET / HTTP/1.1\r\n" + b"x-filler: y\r\n" * 1000)
        assert dribble(edge.connect(), head, 10).startswith(b"HTTP/1.1 408 ")
        assert ends_within(half, 10).startswith(b"HTTP/1.1 408 ")
        for sock in (silent, preface_only, half_block, second):
            ends_within(sock, 10)


def hello() -> bytes:
    """Return a TLS client's first flight."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="site.localhost").do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("is_tls", [True], ids=["tls"])
@pytest.mark.product("B12.4")
def test_slow_handshakes_end_in_time(start_edge: StartEdge) -> None:
    edge = start_edge(edge_header_s=1)
    with edge.unharmed():
        crowd = [edge.knock() for _ in range(20)]
        for begun in (hello()[:100], hello(), probes.request("/")):
            crowd.append(sock := edge.knock())
            sock.sendall(begun)
        dribble(edge.knock(), iter(hello()), 10)
        for sock in crowd:
            ends_within(sock, 10)


@BOTH_WAYS
@pytest.mark.product("B12.4")
def test_idle_connections_end(start_edge: StartEdge) -> None:
    edge = start_edge(edge_idle_s=1, edge_h2_prior_knowledge=True)
    with edge.unharmed():
        sock, client = edge.connect(), edge.connect_h2()
        sock.sendall(probes.request("/"))
        assert probes.read_answer(sock).status == 200
        assert client.fetch("/").status == 200
        began = time.monotonic()
        ends_within(sock, 15)
        assert time.monotonic() - began > 0.5
        client.pump(15)
        assert client.is_closed


# What is no request


NO_REQUESTS = {
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"HTTP/1.1 400 "),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", b""),
    "long head": (b"GET / HTTP/1.1\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", b"HTTP/1.1 431 "),
    "long line": (b"GET /" + b"y" * 20_000, b"HTTP/1.1 431 "),
    "empty lines": (b"\r\n\r\n\r\n", b"HTTP/1.1 400 "),
}


@BOTH_WAYS
@pytest.mark.product("B12.4")
def test_what_is_no_request_is_answered_by_the_front(start_edge: StartEdge) -> None:
    edge = start_edge(edge_header_s=1)
    with edge.unharmed():
        crowd = [(edge.connect(), name) for name in NO_REQUESTS for _ in range(5)]
        for sock, name in crowd:
            sock.sendall(NO_REQUESTS[name][0])
        for sock, name in crowd:
            assert ends_within(sock, 10).startswith(NO_REQUESTS[name][1]), name


@BOTH_WAYS
def test_what_is_no_http2_where_that_was_agreed_on_ends(start_edge: StartEdge, is_tls: bool) -> None:
    edge = start_edge(edge_header_s=1, edge_h2_prior_knowledge=True)
    sent = [b"\0" * 30, b"PRI * HTTP/2.0\r\n\r\nXX", *([probes.request("/")] if is_tls else [])]
    with edge.unharmed():
        crowd = [edge.connect(alpn="h2") for _ in sent * 5]
        for sock, data in zip(crowd, sent * 5, strict=True):
            sock.sendall(data)
        for sock in crowd:
            assert b" 200 " not in ends_within(sock, 10)


# Too many


def let_in(edge: Edge, source: str) -> socket.socket | None:
    """Connect and ask; return the connection, or None where it is refused."""
    try:
        sock = edge.connect(source=source)
        sock.sendall(probes.request("/"))
        probes.read_answer(sock)
    except (OSError, EOFError):
        return None
    return sock


@BOTH_WAYS
@pytest.mark.product("B12.4")
def test_one_address_can_not_take_every_place(start_edge: StartEdge) -> None:
    edge = start_edge(edge_connections_per_address=20)
    with edge.unharmed():
        hoard = [let_in(edge, "127.0.0.1") for _ in range(60)]
        assert [sock is not None for sock in hoard] == [True] * 20 + [False] * 40
        assert edge.is_served("127.0.0.2")
        assert hoard[0] is not None
        hoard[0].sendall(probes.request("/"))
        assert probes.read_answer(hoard[0]).status == 200
        hoard[0].close()
        wait_until(lambda: edge.is_served("127.0.0.1"))
        assert edge.log_text().count("connections.refused") <= 2


@BOTH_WAYS
def test_connections_that_say_nothing_count_and_make_room_in_time(start_edge: StartEdge) -> None:
    edge = start_edge(edge_connections_per_address=20, edge_header_s=2)
    with edge.unharmed():
        hoard = [edge.knock() for _ in range(20)]
        assert let_in(edge, "127.0.0.1") is None
        assert edge.is_served("127.0.0.2")
        wait_until(lambda: edge.is_served("127.0.0.1"), 15)
        for sock in hoard:
            ends_within(sock, 10)


@BOTH_WAYS
@pytest.mark.parametrize("descriptors", [100, 48])
def test_running_out_of_descriptors_is_survived(start_edge: StartEdge, descriptors: int) -> None:
    """At 100 the front's own limit comes first, at 48 the kernel's."""
    edge = start_edge(descriptors=descriptors)
    crowd: list[socket.socket] = []
    for number in range(120):
        with suppress(OSError):
            crowd.append(sock := edge.knock(f"127.0.1.{number + 1}"))
            if edge.trusted is None:
                sock.sendall(probes.request("/"))
    time.sleep(1.5)
    assert edge.process.poll() is None
    assert len(edge.log_text().splitlines()) < 30
    for sock in crowd:
        sock.close()
    wait_until(edge.is_served, 15)
