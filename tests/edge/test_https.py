"""What a request over TLS, or one that should have come over it, is answered."""

from __future__ import annotations

from typing import Any

import pytest
from tests.edge.client import Client, Reply
from tests.edge.conftest import Platform

from vclone_certificates_internal import make_issuer
from vclone_core.models import Route
from vclone_core.protocols import IssuerConfig
from vclone_edge.app import build_app
from vclone_edge.tls import identify

HOST = "shop.apps.example"


class Visitor:
    def __init__(self, client: Client, issuer: Any) -> None:
        self.client, self.issuer = client, issuer

    async def ask(self, url: str, *, connected_for: str | None = None, **facts: Any) -> Reply:
        """Ask over a connection that was made for a host; None: over http://."""
        address = "192.0.2.7"
        if connected_for is not None:
            names = self.issuer.names_for(connected_for)
            address = f"/dev/shm/edge/https{'-' + identify(names) if names else ''},192.0.2.7,5000"
        self.client.address = address
        return await self.client.get(url, **facts)


async def visitor(platform: Platform, *, routes: tuple[Route, ...] = (), **settings: Any) -> Visitor:
    await platform.publish(HOST, {"/index.html": b"hi"}, routes=routes)
    edge = await platform.start_edge(
        base_domain="apps.example", edge_certificate_issuer="internal", edge_tls_port=443, **settings
    )
    return Visitor(Client(build_app(edge)), make_issuer(IssuerConfig(platform.folder / "data", "apps.example")))


@pytest.mark.product("B12.5")
@pytest.mark.parametrize(
    ("url", "location"),
    [
        (f"http://{HOST}/a%20b?c=d", f"https://{HOST}/a%20b?c=d"),
        (f"http://{HOST}:8080/", f"https://{HOST}/"),
        ("http://made-up.apps.example/", "https://made-up.apps.example/"),
        ("http://elsewhere.example/", None),
        (f"http://{HOST}/.well-known/acme-challenge/token", None),
        ("http://127.0.0.1/.well-known/vclone/ready", None),
    ],
)
async def test_http_is_sent_on_to_https(platform: Platform, url: str, location: str | None) -> None:
    reply = await (await visitor(platform)).ask(url)
    assert (reply.status == 308) == (location is not None)
    assert reply["location"] == location
    assert reply["strict-transport-security"] is None


async def test_the_redirect_keeps_the_method_and_is_a_setting(platform: Platform) -> None:
    shop = await visitor(platform)
    assert (await shop.ask(f"http://{HOST}/", method="POST")).status == 308
    edge = await platform.start_edge(
        base_domain="apps.example", edge_certificate_issuer="internal", edge_https_redirect=False
    )
    assert (await Client(build_app(edge)).get(f"http://{HOST}/")).status == 200


@pytest.mark.product("B12.5")
async def test_hsts_is_said_over_tls_only_and_with_every_answer(platform: Platform) -> None:
    shop = await visitor(platform, edge_hsts_s=31_536_000)
    for path, status in (("/", 200), ("/none", 404)):
        reply = await shop.ask(f"http://{HOST}{path}", connected_for=HOST)
        assert (reply.status, reply["strict-transport-security"]) == (status, "max-age=31536000")
    assert (await shop.ask(f"http://{HOST}/"))["strict-transport-security"] is None


@pytest.mark.product("B12.5")
async def test_what_was_answered_before_is_judged_again_on_each_connection(platform: Platform) -> None:
    own = Route(src="/.*", headers={"strict-transport-security": "max-age=1"}, is_continue=True)
    shop = await visitor(platform, routes=(own,), edge_hsts_s=31_536_000)
    for _ in range(3):
        over_tls = await shop.ask(f"http://{HOST}/", connected_for=HOST)
        assert (over_tls.status, over_tls["strict-transport-security"]) == (200, "max-age=31536000")
        assert (await shop.ask(f"http://{HOST}/")).status == 308
        assert (await shop.ask(f"http://{HOST}/", connected_for="deep.shop.apps.example")).status == 421


@pytest.mark.parametrize(
    ("connected_for", "host", "status"),
    [
        (HOST, HOST, 200),
        # The wildcard certificate covers both: a browser may use one connection for them (RFC 9113 §9.1.1).
        ("other.apps.example", HOST, 200),
        ("deep.shop.apps.example", HOST, 421),
        ("deep.shop.apps.example", "elsewhere.example", 421),
        # No server name, or one without a certificate: nobody was promised anything.
        ("elsewhere.example", HOST, 200),
        ("elsewhere.example", "elsewhere.example", 404),
    ],
)
@pytest.mark.product("B1.5")
async def test_a_connection_is_for_the_hosts_of_its_certificate(
    platform: Platform, connected_for: str, host: str, status: int
) -> None:
    reply = await (await visitor(platform)).ask(f"http://{host}/", connected_for=connected_for)
    assert reply.status == status
