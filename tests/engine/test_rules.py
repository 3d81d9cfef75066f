"""The pure parts of the front, against anybody's bytes."""

from __future__ import annotations

import itertools

import h2.config
import h2.connection
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_edge.gate import Gate, address_key
from vclone_edge.h2watch import FRAME_HEADER_BYTES, PREFACE, FrameLimits, FrameWatch
from vclone_edge.opening import Opening, judge_opening
from vclone_edge.peers import Peer, is_health_probe, lookup, plain_address, socket_name

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9

frames = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=255),
        st.sampled_from([DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION, 200]),
        st.integers(min_value=0, max_value=300),
    ),
    max_size=60,
)


def encode(flags: int, kind: int, length: int) -> bytes:
    return length.to_bytes(3, "big") + bytes([kind, flags]) + b"\x00\x00\x00\x01" + bytes(length)


def run(pieces: list[bytes], limits: FrameLimits | None = None) -> tuple[str | None, int, int, bool]:
    watch = FrameWatch(limits or FrameLimits(), now=0.0)
    for piece in pieces:
        if verdict := watch.feed(piece, 0.5):
            return verdict, watch.requests, watch.answers_due, watch.moved
    return None, watch.requests, watch.answers_due, watch.moved


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(frames, st.lists(st.integers(min_value=0), max_size=30))
def test_pieces_make_no_difference(sent: list[tuple[int, int, int]], places: list[int]) -> None:
    data = PREFACE + b"".join(encode(*frame) for frame in sent)
    tight = FrameLimits(requests=4, pings=3, settings=3, priorities=3, continuations=2, empty_data=2)
    assert run(cut(data, places), tight) == run([data], tight)


@given(frames)
def test_counts_are_what_was_sent(sent: list[tuple[int, int, int]]) -> None:
    generous = FrameLimits(pings=999, settings=999, priorities=999, continuations=999, empty_data=999)
    _, requests, due, moved = run([PREFACE + b"".join(encode(*frame) for frame in sent)], generous)
    assert requests == sum(1 for flags, kind, _ in sent if kind in (HEADERS, CONTINUATION) and flags & 4)
    assert due == sum({PING: 17, SETTINGS: 9}.get(kind, 0) for flags, kind, _ in sent if not flags & 1)
    assert moved == any(kind in (HEADERS, DATA, CONTINUATION) and length for _, kind, length in sent)


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes_are_survived(pieces: list[bytes]) -> None:
    run(pieces)


@given(st.lists(st.sampled_from(["get", "post", "ping", "reset", "window"]), max_size=60))
def test_an_ordinary_client_is_never_a_flood(steps: list[str]) -> None:
    client = h2.connection.H2Connection(h2.config.H2Configuration())
    client.initiate_connection()
    headers = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/" + "x" * 200)]
    expected = 0
    for step in steps:
        if step == "ping":
            client.ping(b"12345678")
        elif step == "window":
            client.increment_flow_control_window(1000)
        else:
            number = client.get_next_available_stream_id()
            client.send_headers(number, headers, end_stream=step == "get")
            expected += 1
            if step == "post":
                client.send_data(number, bytes(500), end_stream=True)
            if step == "reset":
                client.reset_stream(number)
    verdict, requests, _, _ = run([client.data_to_send()])
    assert (verdict, requests) == (None, expected)


FLOODS = {
    "ping_flood": encode(0, PING, 8) * 101,
    "settings_flood": encode(0, SETTINGS, 0) * 21,
    "priority_flood": encode(0, PRIORITY, 5) * 201,
    "continuation_flood": encode(0, HEADERS, 1) + encode(0, CONTINUATION, 1) * 65,
    "empty_data_flood": encode(0, DATA, 0) * 501,
    "frame_too_large": (16_385).to_bytes(3, "big") + bytes(6),
    "rapid_reset": (encode(5, HEADERS, 1) + encode(0, RST_STREAM, 4)) * 501,
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_named_within_a_second_and_forgiven_over_many(name: str) -> None:
    assert run([PREFACE + FLOODS[name]])[0] == name
    if name in ("frame_too_large", "continuation_flood"):
        return
    watch = FrameWatch(FrameLimits(), now=0.0)
    assert watch.feed(PREFACE, 0.0) is None
    flood, at, now = FLOODS[name], 0, 0.0
    while at < len(flood):
        size = FRAME_HEADER_BYTES + int.from_bytes(flood[at : at + 3], "big")
        now += 0.06
        assert watch.feed(flood[at : at + size], now) is None
        at += size


def test_answering_pings_is_not_getting_on() -> None:
    watch = FrameWatch(FrameLimits(), now=0.0)
    assert watch.feed(PREFACE + encode(5, HEADERS, 30), 0.0) is None
    assert watch.moved
    watch.moved = False
    assert watch.feed(encode(1, SETTINGS, 0) + encode(0, PING, 8) + encode(0, WINDOW_UPDATE, 4), 0.0) is None
    assert not watch.moved
    assert watch.feed(encode(0, DATA, 100)[:50], 0.0) is None
    watch.moved = False
    assert watch.feed(bytes(59), 0.0) is None
    assert watch.moved
    assert watch.answers_due == 17


def test_many_requests_without_resets_are_welcome() -> None:
    assert run([PREFACE + encode(5, HEADERS, 30) * 5000])[0] is None


GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
CLEAR = {"alpn": None, "is_h2_allowed": False}

openings = [
    (b"", CLEAR, Opening.INCOMPLETE),
    (GET, CLEAR, Opening.HTTP1),
    (GET[:-1], CLEAR, Opening.INCOMPLETE),
    (GET + GET, CLEAR, Opening.HTTP1),
    (b"PUT", CLEAR, Opening.INCOMPLETE),
    (b"P", CLEAR, Opening.INCOMPLETE),
    (b"PRI", CLEAR, Opening.INCOMPLETE),
    (PREFACE[:5], CLEAR, Opening.HTTP2_REFUSED),
    (PREFACE, CLEAR, Opening.HTTP2_REFUSED),
    (PREFACE, {"alpn": None, "is_h2_allowed": True}, Opening.HTTP2),
    (PREFACE[:20], {"alpn": None, "is_h2_allowed": True}, Opening.INCOMPLETE),
    (PREFACE, {"alpn": "h2", "is_h2_allowed": False}, Opening.HTTP2),
    (PREFACE[:2], {"alpn": "h2", "is_h2_allowed": False}, Opening.INCOMPLETE),
    (GET, {"alpn": "h2", "is_h2_allowed": False}, Opening.NOT_HTTP),
    (PREFACE, {"alpn": "http/1.1", "is_h2_allowed": True}, Opening.HTTP2_REFUSED),
    (b"\x16\x03\x01", CLEAR, Opening.NOT_HTTP),
    (b"get / HTTP/1.1\r\n", CLEAR, Opening.NOT_HTTP),
    (b"GET / HTTP/1.1\n\n", CLEAR, Opening.INCOMPLETE),
    (b"GET /" + b"a" * 20_000, CLEAR, Opening.TOO_LARGE),
    (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 6000, CLEAR, Opening.TOO_LARGE),
    (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 6000 + b"\r\n", CLEAR, Opening.TOO_LARGE),
]


@pytest.mark.parametrize(("data", "agreed", "expected"), openings)
def test_openings(data: bytes, agreed: dict[str, object], expected: Opening) -> None:
    assert judge_opening(data, **agreed) is expected


@given(st.binary(max_size=300), st.sampled_from([None, "h2", "http/1.1"]), st.booleans())
def test_a_verdict_never_changes_as_more_comes(data: bytes, alpn: str | None, is_h2_allowed: bool) -> None:
    for source in (data, GET + data, PREFACE + data):
        verdicts = [
            judge_opening(source[:size], alpn=alpn, is_h2_allowed=is_h2_allowed) for size in range(len(source) + 1)
        ]
        decided = [verdict for verdict in verdicts if verdict is not Opening.INCOMPLETE]
        assert len(set(decided)) <= 1
        assert verdicts == [Opening.INCOMPLETE] * (len(verdicts) - len(decided)) + decided


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
@pytest.mark.parametrize("is_tls", [True, False])
def test_a_socket_name_says_who_asks(peer: str, expected: str, is_tls: bool) -> None:
    path = "/dev/shm/vclone-edge-12345678/" + socket_name(plain_address(peer), 65_535, is_tls=is_tls)
    assert len(path) < 108
    assert lookup({"client": (path, "0"), "scheme": "http"}) == Peer(expected, is_tls)
    assert not is_health_probe({"client": (path, "0")})


def test_addresses_without_the_front() -> None:
    assert lookup({"client": ("203.0.113.7", 5), "scheme": "https"}) == Peer("203.0.113.7", True)
    assert lookup({"client": None, "scheme": "http"}) == Peer("", False)
    assert is_health_probe({"client": ("/run/x/health", "0")})


def test_the_gate_counts_over_all_fronts_and_per_subnet() -> None:
    gate = Gate(fronts=2, per_address=2, per_front=3)
    gate.enter_as(0)
    slot, why = gate.admit("2001:db8:0:1::1")
    assert not why
    assert not gate.admit("2001:db8:0:1::2")[1]
    gate.enter_as(1)
    assert gate.admit("2001:db8:0:1::3")[1] == "too_many_from_address"
    assert not gate.admit("2001:db8:0:2::3")[1]
    assert not gate.admit("10.0.0.1")[1]
    assert not gate.is_crowded
    assert not gate.admit("10.0.0.2")[1]
    assert gate.is_crowded
    assert gate.admit("10.0.0.3")[1] == "all_places_taken"
    gate.enter_as(0)
    assert not gate.admit("2001:db8:0:1::3")[1]
    gate.leave(slot)
    assert address_key("2001:db8:0:1::1") == address_key("2001:db8:0:1:ffff::2")
