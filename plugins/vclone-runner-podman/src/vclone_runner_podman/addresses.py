"""Which addresses a build may reach: the public internet, and nothing that only this machine or its network reaches."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

# RFC 6052 §2.1 and RFC 8215: the last 32 bits are an IPv4 address that a translator connects to.
_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
# What `is_global` of some Python versions lets through: site-local (RFC 3879), IPv4-compatible (RFC 4291 §2.5.5.1).
_RETIRED: Final = (IPv6Network("fec0::/10"), IPv6Network("::/96"))


def refuse_address(address: Address) -> str | None:
    """Say what kind of address builds must not reach this one is; None: it is public.

    >>> refuse_address(ip_address("169.254.169.254"))
    'a link-local address'
    >>> refuse_address(ip_address("::ffff:10.0.0.5"))
    'a private address'
    >>> refuse_address(ip_address("9.9.9.9")) is None
    True
    """
    if isinstance(address, IPv6Address) and (inner := _embedded(address)) is not None:
        return refuse_address(inner)
    for kind, is_it in (
        ("an unspecified address", address.is_unspecified),
        ("a loopback address", address.is_loopback),
        ("a link-local address", address.is_link_local),
        ("a multicast address", address.is_multicast),
        ("a private address", address.is_private),
        ("an address that is not public", not address.is_global),
    ):
        if is_it:
            return kind
    if isinstance(address, IPv6Address) and any(address in network for network in _RETIRED):
        return "an address that is not public"
    return None


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that packets to `address` end at (mapped, 6to4, Teredo, NAT64)."""
    if (mapped := address.ipv4_mapped) is not None:
        return mapped
    if (relayed := address.sixtofour) is not None:
        return relayed
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _TRANSLATED):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


__all__ = ["Address", "ip_address", "refuse_address"]
