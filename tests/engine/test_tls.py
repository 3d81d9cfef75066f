"""Certificates of the platform's own authority, made while the edge runs."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from tests.engine import probes
from tests.engine.conftest import Edge, StartEdge


def start(start_edge: StartEdge, folder: Path, base: str, **settings: object) -> tuple[Edge, ssl.SSLContext]:
    edge = start_edge(edge_certificate_issuer="internal", base_domain=base, data_dir=folder, **settings)
    printed = subprocess.run(
        [sys.executable, "-m", "vclone_core.cli", "tls", "ca", "--data-dir", folder, "--base-domain", base],
        capture_output=True,
        text=True,
        check=True,
    )
    return edge, ssl.create_default_context(cadata=printed.stdout)


def names_served(edge: Edge, trusting: ssl.SSLContext, name: str) -> list[str]:
    with probes.connect_tls(edge.tls_port, trusting, alpn=["h2"], name=name) as sock:
        assert sock.selected_alpn_protocol() == "h2"
        assert probes.H2Client(sock).fetch("/").status == 200
        certificate = sock.getpeercert() or {}
    return [value for _, value in certificate["subjectAltName"]]


def test_each_host_gets_a_certificate_as_it_is_asked_for(start_edge: StartEdge, tmp_path: Path) -> None:
    edge, trusting = start(start_edge, tmp_path, "localhost")
    for name in ("shop.localhost", "a.b.localhost", "localhost"):
        assert names_served(edge, trusting, name) == [name]
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|valid for"):
        names_served(edge, trusting, "shop.example")


def test_a_wildcard_stands_for_all_where_clients_take_one(start_edge: StartEdge, tmp_path: Path) -> None:
    edge, trusting = start(start_edge, tmp_path, "apps.example")
    for name in ("shop.apps.example", "apps.example"):
        assert names_served(edge, trusting, name) == ["apps.example", "*.apps.example"]
    assert names_served(edge, trusting, "a.shop.apps.example") == ["a.shop.apps.example"]


def test_made_up_names_cost_little_and_keep_nobody_out(start_edge: StartEdge, tmp_path: Path) -> None:
    edge, trusting = start(start_edge, tmp_path, "localhost")
    assert names_served(edge, trusting, "shop.localhost") == ["shop.localhost"]
    before = edge.rss()
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    for number in range(300):
        probes.connect_tls(edge.tls_port, blind, alpn=["h2"], name=f"n{number}.localhost").close()
    assert names_served(edge, trusting, "shop.localhost") == ["shop.localhost"]
    assert edge.rss() - before < 32 * 1024 * 1024
    assert len(edge.log_text().splitlines()) < 20
