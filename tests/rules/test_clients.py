from __future__ import annotations

import pytest

from vclone_core.rules.clients import address_group, client_address, parse_networks

PROXIES = parse_networks("10.0.0.0/8, fd00::/8")
CASES = [
    # peer, X-Forwarded-For, client
    ("203.0.113.9", "", "203.0.113.9"),
    ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # no proxy of ours: it may say what it likes
    ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
    ("10.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),  # the client wrote the first
    ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
    ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
    ("fd00::1", "2001:db8::7", "2001:db8::7"),
    ("10.0.0.1", "unknown", "10.0.0.1"),
    ("10.0.0.1", "198.51.100.1:1234, ", "10.0.0.1"),
    ("", "198.51.100.1", ""),
]


@pytest.mark.parametrize(("peer", "forwarded", "client"), CASES)
def test_only_our_own_proxies_are_believed(peer: str, forwarded: str, client: str) -> None:
    assert client_address(peer, forwarded, PROXIES) == client


def test_without_proxies_nothing_is_believed() -> None:
    assert client_address("10.0.0.1", "198.51.100.1", ()) == "10.0.0.1"


@pytest.mark.parametrize(
    ("address", "group"),
    [("2001:db8:0:1:ffff::1", "2001:db8:0:1::/64"), ("::ffff:192.0.2.1", "192.0.2.1"), ("<local>", "<local>")],
)
def test_a_customer_counts_as_one(address: str, group: str) -> None:
    assert address_group(address) == group
