"""The edge answers, over every protocol it offers, and knows who asks."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest
from tests.engine import probes
from tests.engine.conftest import BOTH_WAYS, StartEdge, wait_until
from tests.engine.engines import DIFFERENCES
from tests.pairs import trusting, write_pair

from vclone_edge.tls import Certificates


@BOTH_WAYS
@pytest.mark.product("B12.1")
def test_http1_serves_many_requests_on_one_connection(start_edge: StartEdge) -> None:
    edge = start_edge()
    with edge.unharmed(), edge.connect() as sock:
        for _ in range(3000):
            sock.sendall(probes.request("/"))
            answer = probes.read_answer(sock)
            assert (answer.status, len(answer.body)) == (200, 1024)


def test_files_are_sent_by_the_server_where_it_can(start_edge: StartEdge, engine: str) -> None:
    edge = start_edge()
    assert probes.get(edge.port, "/file").status == (404 if "pathsend" in DIFFERENCES[engine] else 200)


@BOTH_WAYS
@pytest.mark.engine
@pytest.mark.product("B12.1")
def test_h2_serves_many_requests_beside_a_download(start_edge: StartEdge) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True)
    with edge.unharmed():
        client = edge.connect_h2()
        download = client.start("/stream/20000000/0.01")
        for _ in range(3000):
            stream = client.fetch("/")
            assert (stream.status, len(stream.body), stream.is_ended) == (200, 1024, True)
        client.pump(20, until=download)
        assert len(client.streams[download].body) == 20_000_000


@pytest.mark.product("B12.2")
def test_h2_without_tls_is_refused_unless_asked_for(start_edge: StartEdge) -> None:
    edge = start_edge()
    client = probes.H2Client(probes.connect(edge.port))
    client.start("/")
    client.pump(5)
    assert client.goaway == 0xD
    assert client.is_closed


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.7"])
def test_the_app_learns_the_clients_address(start_edge: StartEdge, source: str, tmp_path: Path) -> None:
    write_pair(tmp_path / "certificates", "default", "site.localhost")
    edge = start_edge(edge_certificates=tmp_path / "certificates")
    seen = json.loads(probes.get(edge.port, "/scope", source=source).body)
    assert (seen["client"], seen["is_tls"], seen["version"]) == (source, False, "1.1")
    sock = probes.connect_tls(edge.tls_port, trusting(tmp_path / "certificates"), alpn=["h2"], source=source)
    assert sock.selected_alpn_protocol() == "h2"
    seen = json.loads(probes.H2Client(sock).fetch("/scope").body)
    assert (seen["client"], seen["is_tls"], seen["version"]) == (source, True, "2")


@pytest.mark.product("B12.1")
def test_tls_serves_http1_to_those_who_want_it_and_large_bodies(start_edge: StartEdge, tmp_path: Path) -> None:
    write_pair(tmp_path / "certificates", "default", "site.localhost")
    edge = start_edge(edge_certificates=tmp_path / "certificates")
    with probes.connect_tls(edge.tls_port, trusting(tmp_path / "certificates"), alpn=["http/1.1"]) as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"
        sock.sendall(probes.request("/stream/20000000"))
        assert len(probes.read_answer(sock).body) == 20_000_000
        sock.sendall(probes.request("/read", method="POST", extra="content-length: 3000000\r\n") + bytes(3_000_000))
        assert probes.read_answer(sock).body == b"3000000"
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(probes.connect(edge.tls_port))


@pytest.mark.engine
@pytest.mark.product("B12.3")
def test_sni_chooses_the_certificate_and_new_ones_need_no_restart(start_edge: StartEdge, tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    write_pair(folder, "default", "site.localhost")
    write_pair(folder, "shop", "shop.example", "*.shop.example")
    edge = start_edge(edge_certificates=folder)

    def serves(name: str) -> bool:
        try:
            with probes.connect_tls(edge.tls_port, trusting(folder), alpn=["h2"], name=name) as sock:
                return sock.selected_alpn_protocol() == "h2"
        except ssl.SSLCertVerificationError:
            return False

    assert serves("site.localhost")
    assert serves("shop.example")
    assert serves("a.shop.example")
    assert not serves("new.example")
    write_pair(folder, "new", "new.example")
    wait_until(lambda: serves("new.example"), 10)
    assert serves("site.localhost")


def test_a_broken_certificate_keeps_the_good_ones(tmp_path: Path) -> None:
    write_pair(tmp_path / "c", "default", "site.localhost")
    certificates = Certificates(tmp_path / "c")
    (tmp_path / "c" / "bad.crt").write_text("nonsense")
    (tmp_path / "c" / "bad.key").write_text("nonsense")
    certificates.refresh()
    assert set(certificates._by_name) == {"site.localhost"}
