"""Requests that a worker answers over the lane, and how a connection goes on with the engine when it can't."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests.engine import probes
from tests.engine.conftest import BOTH_WAYS, MIB, StartEdge, wait_until
from tests.pairs import trusting, write_pair

from vclone_edge import lane
from vclone_edge.lane import ANSWER_HEAD_BYTES, BODY_BYTES, Head, may_ask, pack, read_head, unpack, write_answer

DATE = b"Wed, 25 Nov 2026 12:00:00 GMT"


def head(*lines: bytes) -> bytes:
    return b"\r\n".join([*lines, b"", b""])


def test_plain_head_is_read() -> None:
    scope = read_head(
        head(b"GET /caf%C3%A9?a=b HTTP/1.1", b"Host: shop.localhost", b"X-Long: \t a, b \t", b"Connection: Keep-Alive"),
        ("/run/http,192.0.2.1,5", 0),
    )
    assert scope is not None
    assert (scope["method"], scope["raw_path"], scope["query_string"]) == ("GET", b"/caf%C3%A9", b"a=b")
    assert scope["headers"] == ((b"host", b"shop.localhost"), (b"x-long", b"a, b"), (b"connection", b"Keep-Alive"))
    assert scope["client"] == ("/run/http,192.0.2.1,5", 0)


@pytest.mark.parametrize(
    "raw",
    [
        head(b"GET / HTTP/1.0", b"Host: a"),
        head(b"GET / HTTP/1.1"),
        head(b"POST / HTTP/1.1", b"Host: a"),
        head(b"get / HTTP/1.1", b"Host: a"),
        head(b"GET http://a/ HTTP/1.1", b"Host: a"),
        head(b"GET  / HTTP/1.1", b"Host: a"),
        head(b"GET /a b HTTP/1.1", b"Host: a"),
        head(b"GET /a#b HTTP/1.1", b"Host: a"),
        head(b"GET /\x00 HTTP/1.1", b"Host: a"),
        head(b"GET /\xff HTTP/1.1", b"Host: a"),
        head(b"GET / HTTP/1.1", b"Host : a"),
        head(b"GET / HTTP/1.1", b" Host: a"),
        head(b"GET / HTTP/1.1", b"Host: a", b" folded"),
        head(b"GET / HTTP/1.1", b"Host: a\nX: b"),
        head(b"GET / HTTP/1.1", b"Host: a\rX: b"),
        head(b"GET / HTTP/1.1", b"Host: a\x00"),
        head(b"GET / HTTP/1.1", b"Host: a", b": b"),
        head(b"GET / HTTP/1.1", b"Host: a", b"no colon"),
        head(b"GET / HTTP/1.1", b"Host: a", b"Content-Length: 0"),
        head(b"GET / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked"),
        head(b"GET / HTTP/1.1", b"Host: a", b"Connection: close"),
        head(b"GET / HTTP/1.1", b"Host: a", b"Connection: upgrade", b"Upgrade: websocket"),
        head(b"GET / HTTP/1.1", b"Host: a", b"Expect: 100-continue"),
        head(b"GET / HTTP/1.1", b"Host: a")[:-1],
        b"GET / HTTP/1.1\nHost: a\n\n",
        head(b"GET / HTTP/1.1", b"Host: a") + b"GET",
    ],
)
def test_everything_else_is_the_engines(raw: bytes) -> None:
    # What was read once is remembered, and comes to the same.
    assert [read_head(raw, ("", 0)) for _ in range(2)] == [None, None]


def test_fields_said_again_are_read_the_same() -> None:
    lane._recall_block.cache_clear()
    blocks = [
        (b"Host: a", b"User-Agent: x"),
        (b"hOST:\ta", b"User-Agent: x"),
        (b"User-Agent: x", b"Host: a"),
        (b"Host: a",),
        (b"Host: a", b"Host: b"),
        (b"Host: a b", b"User-Agent: x"),
        (b"Host:", b"User-Agent: x"),
    ]
    found = [read_head(head(b"GET / HTTP/1.1", *lines), ("", 0)) for _ in range(2) for lines in blocks]
    fields = [None if scope is None else list(scope["headers"]) for scope in found]
    agent, host = (b"user-agent", b"x"), (b"host", b"a")
    assert fields[:7] == [
        [host, agent],
        [host, agent],
        [agent, host],
        [host],
        [host, (b"host", b"b")],
        [(b"host", b"a b"), agent],
        [(b"host", b""), agent],
    ]
    assert fields[7:] == fields[:7]
    # A host of its own for each makes no entry of its own.
    before = lane._recall_block.cache_info().currsize
    for number in range(100):
        assert read_head(head(b"GET / HTTP/1.1", b"Host: h%d" % number, b"User-Agent: x"), ("", 0)) is not None
    assert lane._recall_block.cache_info().currsize == before


def test_what_is_remembered_of_fields_is_bounded() -> None:
    lane._recall_block.cache_clear()
    for number in range(3_000):
        assert read_head(head(b"GET / HTTP/1.1", b"Host: a", b"Cookie: %d" % number), ("", 0)) is not None
    info = lane._recall_block.cache_info()
    assert info.currsize == info.maxsize == 2_048
    assert read_head(head(b"GET / HTTP/1.1", b"Host: a", b"Cookie: " + b"c" * 3_000), ("", 0)) is not None
    assert lane._recall_block.cache_info().misses == info.misses


@pytest.mark.parametrize(
    ("raw", "may"),
    [
        (head(b"GET / HTTP/1.1", b"Host: a"), True),
        (head(b"HEAD / HTTP/1.1", b"Host: a"), True),
        (head(b"GET / HTTP/1.1", b"Host: a") * 2, False),
        (head(b"GET / HTTP/1.1", b"Host: a")[:-2], False),
        (head(b"POST / HTTP/1.1", b"Host: a"), False),
        (head(b"GET / HTTP/1.1", b"Host: a", b"X: " + b"a" * 9000), False),
        (b"", False),
    ],
)
def test_a_worker_is_asked_about_single_whole_heads(raw: bytes, may: bool) -> None:
    assert may_ask(raw) is may


def test_frames_come_whole_however_they_are_cut() -> None:
    sent = pack(1, b"one") + pack(2, b"") + pack(4_294_967_295, b"x" * 1000)
    rest, found = b"", []
    for place in range(len(sent)):
        rest += sent[place : place + 1]
        frames, taken = unpack(rest)
        found += frames
        rest = rest[taken:]
    assert found == [(1, b"one"), (2, b""), (4_294_967_295, b"x" * 1000)]
    assert not rest
    frames, taken = unpack(sent + b"rest")
    assert (frames, taken) == (found, len(sent))


def test_answers_that_could_not_be_told_apart_are_not_sent() -> None:
    shared = Head(200, [(b"a", b"b")])
    for body in (b"c", b"d"):
        assert write_answer((shared, [(b"age", b"1")], body), DATE) == (
            b"HTTP/1.1 200 OK\r\na: b\r\ndate: Wed, 25 Nov 2026 12:00:00 GMT\r\nage: 1\r\n\r\n" + body
        )
    two_lines, long = [(b"a", b"b\r\nset-cookie: c")], [(b"a", b"b" * ANSWER_HEAD_BYTES)]
    for fields in (two_lines, long):
        assert write_answer((Head(200, fields), [], b""), DATE) == b""
        assert write_answer((shared, fields, b""), DATE) == b""


def ask(sock: socket.socket, path: str, **facts: str) -> probes.Answer:
    sock.sendall(probes.request(path, **facts))
    return probes.read_answer(sock)


def test_one_connection_is_answered_over_the_lane_and_then_by_the_engine(start_edge: StartEdge) -> None:
    edge = start_edge()
    sock = probes.connect(edge.port)
    for size in (0, 1, 1000, 60_000):
        answer = ask(sock, f"/lane/{size}")
        assert answer.body == b"z" * size
        assert answer.headers["x-peer"].rpartition("/")[2].startswith("http,127.0.0.1,")
    # Only the lane has these pages: larger than it takes, one is the engine's, and so is what comes then.
    assert ask(sock, f"/lane/{BODY_BYTES + 1}").status == 404
    assert ask(sock, "/lane/1").status == 404
    assert ask(sock, "/").status == 200


def test_tls_is_answered_over_the_lane(start_edge: StartEdge, tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    write_pair(folder, "default", "site.localhost")
    edge = start_edge(edge_certificates=folder)
    sock = probes.connect_tls(edge.tls_port, trusting(folder), alpn=["http/1.1"])
    answer = ask(sock, "/lane/40000")
    assert len(answer.body) == 40_000
    assert answer.headers["x-peer"].rpartition("/")[2].startswith("https")


def test_requests_in_one_piece_and_in_many_are_answered_in_order(start_edge: StartEdge) -> None:
    edge = start_edge()
    sock = probes.connect(edge.port)
    assert ask(sock, "/lane/5").body == b"zzzzz"
    sock.sendall(probes.request("/lane/7"))
    sock.sendall(probes.request("/") * 3)
    data = b""
    while data.count(b"x" * 1024) < 3:
        data += sock.recv(65536)
    assert data.count(b"HTTP/1.1 200 ") == 4
    assert data.index(b"z" * 7) < data.index(b"x" * 1024)
    sock = probes.connect(edge.port)
    assert ask(sock, "/lane/5").body == b"zzzzz"
    for place in range(0, len(whole := probes.request("/")), 7):
        sock.sendall(whole[place : place + 7])
        time.sleep(0.005)
    assert probes.read_answer(sock).status == 200


def test_who_ends_its_side_gets_the_answer(start_edge: StartEdge) -> None:
    edge = start_edge()
    sock = probes.connect(edge.port)
    assert ask(sock, "/lane/1").status == 200
    sock.sendall(probes.request("/lane/50000"))
    sock.shutdown(socket.SHUT_WR)
    assert probes.read_until_end(sock).endswith(b"z" * 50_000)


def test_who_reads_late_gets_its_own_bytes(start_edge: StartEdge) -> None:
    """What a client doesn't take at once waits as a copy: the front's buffer is everybody's."""
    edge = start_edge()
    crowd = {}
    for letter in "abcdefghijklmnopqrst":
        sock = crowd[letter] = socket.socket()
        # Small segments and a small window: the kernel takes a part only.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.settimeout(20)
        sock.connect(("127.0.0.1", edge.port))
        sock.sendall(probes.request(f"/lane/60000/{letter}"))
    time.sleep(0.5)
    for letter, sock in crowd.items():
        with sock:
            assert probes.read_answer(sock).body == letter.encode() * 60_000


@BOTH_WAYS
def test_who_does_not_read_harms_nobody(start_edge: StartEdge) -> None:
    edge = start_edge(edge_connections_per_address=1000, edge_stall_s=2)
    with edge.unharmed():
        before = edge.rss()
        crowd = [edge.connect() for _ in range(50)]
        for sock in crowd:
            sock.setblocking(False)
            for _ in range(40):
                with suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    sock.send(probes.request("/lane/60000"))
        assert edge.get("/lane/1").body == b"z"
        assert edge.rss() - before < 60 * MIB


def test_a_worker_that_dies_takes_no_request_with_it(start_edge: StartEdge) -> None:
    edge = start_edge(edge_workers=2)
    for worker in edge.workers:
        sock = probes.connect(edge.port)
        assert ask(sock, "/lane/1").status == 200
        os.kill(worker, signal.SIGKILL)
        assert ask(sock, "/").status == 200
        wait_until(lambda: probes.get(edge.port, "/lane/1").status == 200, 20)


def test_idle_visits_end_when_the_edge_stops(start_edge: StartEdge) -> None:
    edge = start_edge()
    sock = probes.connect(edge.port)
    assert ask(sock, "/lane/1").status == 200
    began = time.monotonic()
    assert edge.stop() == 0
    assert probes.read_until_end(sock) == b""
    assert time.monotonic() - began < 10
