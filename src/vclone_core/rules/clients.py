"""Which address a request comes from, where proxies of the operator's stand in between."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network


def parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return the networks of a comma-separated list; raises `ValueError` for what is none."""
    return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def client_address(peer: str, forwarded_for: str, trusted: Sequence[IPv4Network | IPv6Network]) -> str:
    """Return the client's address: the last hop in `X-Forwarded-For` that is no trusted proxy, else the peer.

    What a client writes there itself stands to the left of what a proxy adds, so it is never believed.

    >>> client_address("10.0.0.1", "6.6.6.6, 9.9.9.9, 10.0.0.2", parse_networks("10.0.0.0/8"))
    '9.9.9.9'
    """
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    address = peer
    while hops and _is_in(address, trusted):
        hop = hops.pop()
        if not _is_address(hop):
            break
        address = hop
    return address


def address_group(address: str) -> str:
    """Return what limits count together: an IPv4 address, or the /64 of an IPv6 one, which is one customer's.

    >>> address_group("2001:db8::1:2"), address_group("192.0.2.1")
    ('2001:db8::/64', '192.0.2.1')
    """
    if not _is_address(address):
        return address
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ip_network((parsed, 64), strict=False))
    return str(parsed)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_in(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return _is_address(address) and any(ip_address(address) in network for network in networks)
