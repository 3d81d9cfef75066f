"""Which servers the platform may speak to on a stranger's word: rewrites to other servers, outgoing webhooks, git.

Whoever writes a rule or an address must not reach, through the platform, what only the platform can reach: its own
machine, its network, the cloud's metadata. So every address that a name has must be a public one. What an operator
wants reached all the same is named in `VCLONE_OUTBOUND_ALLOW`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from vclone_core.errors import Invalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PORTS: Final = frozenset({80, 443})

# Everything that is no ordinary public address, and why. IANA's registries of special-purpose addresses (RFC 6890),
# kept here rather than taken from Python's `is_global`, whose tables differ from version to version.
_SPECIAL: Final[tuple[tuple[str, str], ...]] = (
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a carrier's customers"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "a cloud's own service"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "for protocols"),
    ("192.0.2.0/24", "for documentation"),
    ("192.31.196.0/24", "for protocols"),
    ("192.52.193.0/24", "for protocols"),
    ("192.88.99.0/24", "for protocols"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "for protocols"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    # Of IPv6 only 2000::/3 is given out (RFC 4291 §2.4); these parts of it are not for servers.
    ("2001::/23", "for protocols"),
    ("2001:db8::/32", "for documentation"),
    ("2620:4f:8000::/48", "for protocols"),
    ("3fff::/20", "for documentation"),
)
_NETWORKS: Final = tuple((ip_network(network), reason) for network, reason in _SPECIAL)
_GIVEN_OUT: Final = IPv6Network("2000::/3")
_LOOPBACK6: Final = IPv6Address("::1")
# IPv6 that leads to an IPv4 address: the network, how many bits are behind that address, and whether a public one is
# reached this way in an ordinary network.
_EMBEDDED: Final = (
    (IPv6Network("::/96"), 0, False),
    (IPv6Network("::ffff:0:0/96"), 0, True),  # RFC 4291 §2.5.5.2
    (IPv6Network("::ffff:0:0:0/96"), 0, False),  # RFC 2765
    (IPv6Network("64:ff9b::/96"), 0, True),  # NAT64, RFC 6052: all there is behind DNS64
    (IPv6Network("2002::/16"), 80, False),  # 6to4, RFC 3056
)

_NUMERIC: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)\.?", re.IGNORECASE)
_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?\.?"
    r"|(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.?"
)


def tell_special(address: Address) -> str | None:
    """Return what is special about an address that the platform must not be led to; None for a public one.

    >>> tell_special(ip_address("::ffff:127.0.0.1")), tell_special(ip_address("93.184.216.34"))
    ('loopback', None)
    """
    if isinstance(address, IPv6Address):
        if address == _LOOPBACK6:
            return "loopback"
        for network, bits, is_usual in _EMBEDDED:
            if address in network:
                inner = tell_special(IPv4Address(int(address) >> bits & 0xFFFF_FFFF))
                return inner or (None if is_usual else "a way to IPv4")
        if address not in _GIVEN_OUT:
            return _tell_ipv6(address)
    return next((reason for network, reason in _NETWORKS if address in network), None)


def _tell_ipv6(address: IPv6Address) -> str:
    if address in _LINK_LOCAL:
        return "link-local"
    if address in _PRIVATE:
        return "private"
    return "multicast" if address in _MULTICAST else "reserved"


_LINK_LOCAL: Final = IPv6Network("fe80::/10")
_PRIVATE: Final = IPv6Network("fc00::/7")
_MULTICAST: Final = IPv6Network("ff00::/8")


@dataclass(frozen=True, slots=True)
class Allowed:
    """A server that an operator allows: a name (or `*.` and what follows it) with one port or both usual ones,
    or a network with all ports."""

    name: str = ""
    port: int | None = None
    network: Network | None = None

    def has(self, host: str, port: int) -> bool:
        """Say whether the host, a name or an address as text, is meant by its name."""
        if self.network is not None or not (port == self.port if self.port is not None else port in PORTS):
            return False
        return host.endswith(self.name[1:]) if self.name.startswith("*.") else host == self.name


@dataclass(frozen=True, slots=True)
class OutboundPolicy:
    """Which servers may be spoken to: the public ones on ports 80 and 443, and those that are `allowed`."""

    allowed: tuple[Allowed, ...] = ()

    def refuse_name(self, host: str, port: int) -> str | None:
        """Return why a host must not be asked for at all; None when its addresses decide.

        A host that is an address may only be written the one usual way: other spellings of numbers (`2130706433`,
        `0x7f.1`, `127.1`) are read by some programs as addresses, and by others as names.
        """
        address = parse_address(host)
        if address is not None:
            return self.refuse_addresses(host, port, [address])
        if not _NAME.fullmatch(host) or _NUMERIC.fullmatch(host.removesuffix(".").rpartition(".")[2]):
            return "is no proper host name"
        if port in PORTS or any(one.network is not None or one.has(host, port) for one in self.allowed):
            return None
        return f"is asked for at port {port}"

    def refuse_addresses(self, host: str, port: int, addresses: Sequence[Address]) -> str | None:
        """Return why a host with these addresses must not be spoken to; None when it may.

        One address that must not be reached is enough: a name that has such a one beside a public one is a trap.
        """
        host = host.removesuffix(".")
        if not addresses:
            return "has no address"
        if any(one.has(host, port) for one in self.allowed):
            return None
        return next((reason for one in addresses if (reason := self.refuse_address(one, port))), None)

    def refuse_address(self, address: Address, port: int) -> str | None:
        """Return why an address must not be connected to, whatever led there; None when it may."""
        if any(one.network is not None and _is_in(address, one.network) for one in self.allowed):
            return None
        special = tell_special(address)
        if special is not None:
            return f"has the address {address} ({special})"
        return None if port in PORTS else f"is asked for at port {port}"


def _is_in(address: Address, network: Network) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address in network


def parse_address(host: str) -> Address | None:
    """Return the address that a URL's host is, brackets or not; None for a name and for any unusual spelling."""
    text = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    if "%" in text:
        return None
    try:
        return ip_address(text)
    except ValueError:
        return None


def parse_allowed(entries: Iterable[str]) -> OutboundPolicy:
    """Return the policy that the entries of a setting make; raise `Invalid` for one that is neither host nor network.

    >>> parse_allowed(["db.internal:8080", "10.1.0.0/16"]).refuse_name("db.internal", 8080) is None
    True
    """
    return OutboundPolicy(tuple(_parse_entry(entry.strip().lower()) for entry in entries if entry.strip()))


def _parse_entry(entry: str) -> Allowed:
    try:
        return Allowed(network=ip_network(entry))
    except ValueError:
        pass
    name, colon, port = entry.partition(":")
    plain = name.removeprefix("*.")
    if not _NAME.fullmatch(plain) or (colon and not (port.isdigit() and 0 < int(port) < 65536)):
        raise Invalid(what=f"{entry!r} is neither a host name, with or without a port, nor a network")
    return Allowed(name, int(port) if colon else None)
