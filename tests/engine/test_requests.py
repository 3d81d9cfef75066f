"""Requests that two servers could read in two ways, hosts and targets in every disguise: raw bytes on both engines.

Each is answered 4xx, or exactly as its one host; then the connection ends or goes on with the next request, and never
takes a body for one. HTTP/1.1 and HTTP/2, in the clear and over TLS.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine import probes
from tests.engine.conftest import BOTH_WAYS, StartEdge
from tests.engine.engines import DIFFERENCES

from vclone_edge.h1watch import HEAD_BYTES, RequestWatch

GET = "GET /strict HTTP/1.1\r\nHost: a.localhost\r\n\r\n"
SERVED = "200 a.localhost /strict"

# What is sent, and the answers that will do: status, and body where it matters.
REQUESTS = {
    "plain": (GET, (SERVED,)),
    "content_length_and_transfer_encoding": (
        "POST /strict HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ("400",),
    ),
    "two_content_lengths": (
        "POST /strict HTTP/1.1\r\nHost: a.localhost\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
        ("400",),
    ),
    "content_length_list": (
        "POST /strict HTTP/1.1\r\nHost: a.localhost\r\nContent-Length: 0, 5\r\n\r\nhello",
        ("400",),
    ),
    "signed_content_length": ("POST /strict HTTP/1.1\r\nHost: a.localhost\r\nContent-Length: +0\r\n\r\n", ("400",)),
    "hex_content_length": ("POST /strict HTTP/1.1\r\nHost: a.localhost\r\nContent-Length: 0x0\r\n\r\n", ("400",)),
    "transfer_encoding_twice": (
        "POST /strict HTTP/1.1\r\nHost: a.localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n",
        ("400", "501"),
    ),
    "transfer_encoding_unknown": (
        "POST /strict HTTP/1.1\r\nHost: a.localhost\r\nTransfer-Encoding: xchunked\r\n\r\n",
        ("400", "501"),
    ),
    "transfer_encoding_on_1_0": (
        "POST /strict HTTP/1.0\r\nHost: a.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ("400",),
    ),
    "folded_field": ("GET /strict HTTP/1.1\r\nHost: a.localhost\r\nX: b\r\n c\r\n\r\n", ("400",)),
    "folded_host": ("GET /strict HTTP/1.1\r\nHost: a.localhost\r\n .example\r\n\r\n", ("400",)),
    "bare_lf_in_head": ("GET /strict HTTP/1.1\r\nHost: a.localhost\nX: b\r\n\r\n", ("400",)),
    "bare_lf_ends_head": ("GET /strict HTTP/1.1\nHost: a.localhost\n\n\r\n\r\n", ("400",)),
    "bare_cr": ("GET /strict HTTP/1.1\r\nHost: a.localhost\r\nX: b\rc\r\n\r\n", ("400",)),
    "nul": ("GET /strict HTTP/1.1\r\nHost: a.localhost\r\nX: b\0c\r\n\r\n", ("400",)),
    "space_before_colon": ("GET /strict HTTP/1.1\r\nHost : a.localhost\r\n\r\n", ("400",)),
    "http_1_9": ("GET /strict HTTP/1.9\r\nHost: a.localhost\r\n\r\n", ("400", "505")),
    "http_2_0_in_text": ("GET /strict HTTP/2.0\r\nHost: a.localhost\r\n\r\n", ("400", "505")),
    "no_version": ("GET /strict\r\nHost: a.localhost\r\n\r\n", ("400",)),
    "no_host": ("GET /strict HTTP/1.1\r\n\r\n", ("400",)),
    "two_hosts": ("GET /strict HTTP/1.1\r\nHost: a.localhost\r\nHost: b.localhost\r\n\r\n", ("400",)),
    "one_host_twice": ("GET /strict HTTP/1.1\r\nHost: a.localhost\r\nHost: a.localhost\r\n\r\n", ("400",)),
    "empty_host": ("GET /strict HTTP/1.1\r\nHost:\r\n\r\n", ("400",)),
    "host_with_space": ("GET /strict HTTP/1.1\r\nHost: a b\r\n\r\n", ("400",)),
    "host_with_user": ("GET /strict HTTP/1.1\r\nHost: u@a.localhost\r\n\r\n", ("400",)),
    "host_with_path": ("GET /strict HTTP/1.1\r\nHost: a.localhost/x?y#z\r\n\r\n", ("400",)),
    "host_with_a_port_too_large": ("GET /strict HTTP/1.1\r\nHost: a.localhost:99999\r\n\r\n", ("400",)),
    "host_in_capitals": ("GET /strict HTTP/1.1\r\nHost: A.LocalHost.:80\r\n\r\n", (SERVED,)),
    "forwarded_host": ("GET /strict HTTP/1.1\r\nHost: a.localhost\r\nX-Forwarded-Host: b\r\n\r\n", (SERVED,)),
    "absolute_form": ("GET http://a.localhost/strict HTTP/1.1\r\nHost: a.localhost\r\n\r\n", (SERVED,)),
    "absolute_form_in_capitals": ("GET HTTP://A.localhost:80/strict HTTP/1.1\r\nHost: a.localhost\r\n\r\n", (SERVED,)),
    "absolute_form_of_another": ("GET http://b.localhost/strict HTTP/1.1\r\nHost: a.localhost\r\n\r\n", ("400",)),
    "absolute_form_without_host": ("GET http://a.localhost/strict HTTP/1.1\r\n\r\n", ("400",)),
    "absolute_form_with_user": ("GET http://a.localhost@b/strict HTTP/1.1\r\nHost: a.localhost\r\n\r\n", ("400",)),
    "other_scheme": ("GET ftp://b.localhost/strict HTTP/1.1\r\nHost: a.localhost\r\n\r\n", ("400",)),
    "connect": ("CONNECT a.localhost:80 HTTP/1.1\r\nHost: a.localhost:80\r\n\r\n", ("400",)),
    "target_without_slash": ("GET strict HTTP/1.1\r\nHost: a.localhost\r\n\r\n", ("400",)),
    "asterisk": ("OPTIONS * HTTP/1.1\r\nHost: a.localhost\r\n\r\n", ("400",)),
    "h2c_upgrade": (
        "GET /strict HTTP/1.1\r\nHost: a.localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        (SERVED,),
    ),
    "fragment": ("GET /strict#x HTTP/1.1\r\nHost: a.localhost\r\n\r\n", ("400", SERVED)),
    "long_url": (f"GET /strict/{'x' * 9000} HTTP/1.1\r\nHost: a.localhost\r\n\r\n", ("414",)),
    "many_fields": (
        "GET /strict HTTP/1.1\r\nHost: a.localhost\r\n" + "".join(f"x{n}: y\r\n" for n in range(120)) + "\r\n",
        ("400", "431"),
    ),
    "many_bytes": (
        "GET /strict HTTP/1.1\r\nHost: a.localhost\r\n" + f"x: {'y' * 1000}\r\n" * 40 + "\r\n",
        ("400", "431"),
    ),
}
_DOTS = ("..", "%2e%2e", "%2E.", "..%2f", "%2e%2e%2f", "..%5c", "\\..", "%5c..%5c", "%c0%ae%c0%ae")
_BAD_SEGMENTS = (*_DOTS, "%00", "%ff", "%", "%2")
for _name in _BAD_SEGMENTS:
    REQUESTS[f"path {_name}"] = (f"GET /strict/{_name}/x HTTP/1.1\r\nHost: a.localhost\r\n\r\n", ("400",))
REQUESTS["path %252e"] = (
    "GET /strict/%252e%252e/x HTTP/1.1\r\nHost: a.localhost\r\n\r\n",
    ("200 a.localhost /strict/%2e%2e/x",),
)
REQUESTS["path //"] = ("GET /strict//x HTTP/1.1\r\nHost: a.localhost\r\n\r\n", ("200 a.localhost /strict//x",))


# Where on its connection a request comes: after one that the engine answered, or one that the lane did.
PLACES = {"first": "", "second": GET, "after_the_lane": "GET / HTTP/1.1\r\nHost: a.localhost\r\n\r\n"}


def judge(data: bytes, expected: tuple[str, ...]) -> str | None:
    """Say what is wrong with an answer; None: nothing."""
    head, _, body = data.partition(b"\r\n\r\n")
    status = head[9:12].decode()
    found = f"{status} {body.decode(errors='replace')}" if status == "200" else status
    return None if found in expected else f"{found or 'nothing'} instead of {' or '.join(expected)}"


@BOTH_WAYS
@pytest.mark.product("B1.5", "B12.4")
def test_each_request_is_refused_or_served_as_its_one_host(start_edge: StartEdge, engine: str) -> None:
    edge = start_edge()
    wrong = {}
    for place, before in PLACES.items():
        for name, (text, expected) in REQUESTS.items():
            with edge.connect() as sock:
                if before:
                    sock.sendall(before.encode())
                    assert probes.read_answer(sock).status == 200
                sock.sendall(text.encode("latin-1"))
                sock.settimeout(30)
                try:
                    data = sock.recv(65536)
                    while b"\r\n\r\n" in data and len(data.partition(b"\r\n\r\n")[2]) < length_of(data):
                        data += sock.recv(65536)
                except OSError as error:
                    data = repr(error).encode()
                if problem := judge(data, expected):
                    wrong[f"{name}, {place}"] = problem
    known = {f"{name}, {place}" for name in DIFFERENCES[engine] if name in REQUESTS for place in PLACES}
    assert set(wrong) == known, wrong
    assert edge.is_served()


def length_of(data: bytes) -> int:
    for line in data.partition(b"\r\n\r\n")[0].lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


# HTTP/2: fields as they are sent, and the answers that will do. It may also end the stream, or the connection.

REFUSED = ("400", "reset", "closed")


def fields(*extra: tuple[str, str], **pseudo: str | None) -> list[tuple[str, str]]:
    """Return a request's fields: `pseudo` stand for the ordinary ones, or None for none."""
    ordinary: dict[str, str | None] = {"method": "GET", "scheme": "http", "authority": "a.localhost", "path": "/strict"}
    return [*((f":{name}", value) for name, value in (ordinary | pseudo).items() if value is not None), *extra]


H2_REQUESTS: dict[str, tuple[list[tuple[str, str]], tuple[str, ...]]] = {
    "plain": (fields(), (SERVED,)),
    "host_as_well": (fields(("host", "a.localhost")), (SERVED,)),
    "host_of_another": (fields(("host", "b.localhost")), REFUSED),
    "two_hosts": (fields(("host", "a.localhost"), ("host", "b.localhost")), REFUSED),
    "host_alone": (fields(("host", "a.localhost"), authority=None), (SERVED, *REFUSED)),
    "no_host": (fields(authority=None), REFUSED),
    "empty_authority": (fields(authority=""), REFUSED),
    "authority_with_space": (fields(authority="a b"), REFUSED),
    "authority_with_user": (fields(authority="u@a.localhost"), REFUSED),
    "authority_with_path": (fields(authority="a.localhost/x?y#z"), REFUSED),
    "authority_with_a_port_too_large": (fields(authority="a.localhost:99999"), REFUSED),
    "authority_in_capitals": (fields(authority="A.LocalHost.:80"), (SERVED,)),
    "two_authorities": ([*fields(), (":authority", "b.localhost")], REFUSED),
    "two_paths": ([*fields(), (":path", "/strict/b")], REFUSED),
    "two_methods": ([*fields(), (":method", "POST")], REFUSED),
    "unknown_pseudo": ([*fields(), (":target", "/")], REFUSED),
    "pseudo_after_field": ([("x-a", "b"), *fields()], REFUSED),
    "no_method": (fields(method=None), REFUSED),
    "no_path": (fields(path=None), REFUSED),
    "empty_path": (fields(path=""), REFUSED),
    "path_without_slash": (fields(path="strict"), REFUSED),
    "path_in_absolute_form": (fields(path="http://b.localhost/strict"), REFUSED),
    "asterisk": (fields(method="OPTIONS", path="*"), REFUSED),
    "connect": (fields(method="CONNECT", scheme=None, path=None), REFUSED),
    "connect_with_path": (fields(method="CONNECT"), REFUSED),
    "method_with_space": (fields(method="GET /x"), REFUSED),
    "capitals_in_name": (fields(("X-A", "b")), REFUSED),
    "space_in_name": (fields(("x a", "b")), REFUSED),
    "colon_in_name": (fields(("x:a", "b")), REFUSED),
    "cr_in_value": (fields(("x-a", "b\rc")), REFUSED),
    "lf_in_value": (fields(("x-a", "b\r\nhost: b.localhost")), REFUSED),
    "nul_in_value": (fields(("x-a", "b\0c")), REFUSED),
    "lf_in_path": (fields(path="/strict HTTP/1.1\r\nhost: b.localhost\r\n\r\n"), REFUSED),
    "space_in_path": (fields(path="/strict b"), REFUSED),
    "beyond_ascii_in_path": (fields(path="/strict/\xe9"), REFUSED),
    "connection": (fields(("connection", "close")), REFUSED),
    "keep_alive": (fields(("keep-alive", "1")), REFUSED),
    "upgrade": (fields(("upgrade", "h2c")), REFUSED),
    "transfer_encoding": (fields(("transfer-encoding", "chunked")), REFUSED),
    "te": (fields(("te", "gzip")), REFUSED),
    "length_without_body": (fields(("content-length", "5"), method="POST"), REFUSED),
    "two_lengths": (fields(("content-length", "0"), ("content-length", "5"), method="POST"), REFUSED),
    "forwarded_host": (fields(("x-forwarded-host", "b.localhost")), (SERVED,)),
    "fragment": (fields(path="/strict#x"), (SERVED, *REFUSED)),
    "long_url": (fields(path=f"/strict/{'x' * 9000}"), ("414",)),
    "many_fields": (fields(*((f"x{number}", "y") for number in range(120))), ("431", *REFUSED)),
    "many_bytes": (fields(*((f"x{number}", "y" * 1000) for number in range(40))), ("431", *REFUSED)),
}
for _name in _BAD_SEGMENTS:
    H2_REQUESTS[f"path {_name}"] = (fields(path=f"/strict/{_name}/x"), REFUSED)


@BOTH_WAYS
@pytest.mark.product("B1.5", "B12.4")
def test_each_http2_request_is_refused_or_served_as_its_one_host(start_edge: StartEdge, engine: str) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True)
    wrong = {}
    with edge.unharmed(lines=10):
        for name, (sent, expected) in H2_REQUESTS.items():
            client = edge.connect_h2()
            number = client.start_raw(sent)
            client.pump(20, until=number)
            stream = client.streams[number]
            found = "reset" if stream.reset is not None else str(stream.status) if stream.status else ""
            if stream.status == 200:
                found += f" {stream.body.decode()}"
            if not found and client.is_closed:
                found = "closed"
            if found not in expected:
                wrong[name] = found
            client.close()
    assert set(wrong) == DIFFERENCES[engine].keys() & H2_REQUESTS.keys(), wrong


@BOTH_WAYS
def test_a_body_is_never_a_request(start_edge: StartEdge) -> None:
    edge = start_edge()
    inner = b"GET http://b.localhost/strict HTTP/1.1\r\nHost: c.localhost\r\n\r\n"
    bodies = {
        "counted": b"Content-Length: %d\r\n\r\n" % len(inner) + inner,
        "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(inner) + inner + b"\r\n0\r\n\r\n",
    }
    for body in bodies.values():
        with edge.connect() as sock:
            for _ in range(3):
                sock.sendall(b"POST /read HTTP/1.1\r\nHost: a.localhost\r\n" + body)
                answer = probes.read_answer(sock)
                assert (answer.status, answer.body) == (200, b"%d" % len(inner))
            sock.sendall(inner)
            assert probes.read_until_end(sock).startswith(b"HTTP/1.1 400 ")


# The watch, against anybody's bytes

requests = st.lists(
    st.one_of(
        st.just(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"),
        st.just(b"GET http://a/b HTTP/1.1\r\nHost: A:80\r\n\r\n"),
        st.just(b"\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        st.binary(max_size=200).map(
            lambda body: b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        ),
        st.lists(st.binary(min_size=1, max_size=80), max_size=4).map(
            lambda chunks: (
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                + b"".join(b"%x;e=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
                + b"0\r\nx-trailer: y\r\n\r\n"
            )
        ),
    ),
    max_size=8,
)


def verdict(pieces: list[bytes]) -> bool:
    watch = RequestWatch()
    return any(watch.feed(piece) for piece in pieces)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(requests, st.lists(st.integers(min_value=0), max_size=30))
def test_the_watch_finds_the_odd_one_among_any_requests_in_any_pieces(sent: list[bytes], places: list[int]) -> None:
    good = b"".join(sent)
    assert not verdict(cut(good, places))
    for odd in (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\nHost: a\r\n\r\n"):
        assert verdict(cut(good + odd, places))


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_the_watch_survives_any_bytes_and_keeps_little(pieces: list[bytes]) -> None:
    watch = RequestWatch()
    for piece in pieces:
        if watch.feed(piece):
            return
        assert len(watch._kept) <= HEAD_BYTES


def test_an_endless_head_or_chunk_line_is_refused() -> None:
    assert verdict([b"GET / HTTP/1.1\r\n", *[b"x: y\r\n"] * 6000])
    assert verdict([b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"0" * 100] * 20])
