"""Floods of HTTP/2 frames end the connection they come by, and nothing else: in the clear and over TLS."""

from __future__ import annotations

import struct
from contextlib import suppress

from tests.engine import probes
from tests.engine.conftest import BOTH_WAYS, MIB, StartEdge
from tests.engine.probes import frame

pytestmark = BOTH_WAYS


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
    client.sock.sendall(frame(1, 0, 1, b"\x82") + frame(9, 0, 1, b"\x86") * 5000)


def _empty_data(client: probes.H2Client) -> None:
    number = client.start("/read", method="POST", end=False)
    client.sock.sendall(frame(0, 0, number) * 5000)


def _oversized(client: probes.H2Client) -> None:
    client.sock.sendall(frame(0, 0, 1, bytes(20_000)))


def _priorities(client: probes.H2Client) -> None:
    client.sock.sendall(frame(2, 0, 1, struct.pack(">IB", 0, 15)) * 5000)


def _streams(client: probes.H2Client) -> None:
    """More requests at once than the hundred that were agreed on."""
    block = client.connection.encoder.encode([*probes.HEADERS, (":path", "/sleep/1")])
    client.sock.sendall(b"".join(frame(1, 5, 1 + 2 * number, block) for number in range(400)))


FLOODS = (_resets, _pings, _settings, _continuations, _empty_data, _oversized, _priorities)


def test_floods_end_their_connection_only(start_edge: StartEdge) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True)
    for flood in FLOODS:
        with edge.unharmed(memory_bytes=50 * MIB):
            bystander = edge.connect_h2()
            assert bystander.fetch("/").status == 200
            for _ in range(3):
                client = edge.connect_h2()
                with suppress(OSError):
                    flood(client)
                client.pump(10)
                assert client.is_closed or client.goaway is not None, flood.__name__
                client.close()
            assert bystander.fetch("/").status == 200, flood.__name__


def test_no_more_requests_run_at_once_than_were_agreed_on(start_edge: StartEdge) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True)
    with edge.unharmed():
        client = edge.connect_h2()
        with suppress(OSError):
            _streams(client)
        for _ in range(10):
            assert edge.running() <= 100
