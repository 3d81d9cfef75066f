"""Which servers a stranger's rule may lead the platform to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import Invalid
from vclone_core.rules.addresses import OutboundPolicy, parse_address, parse_allowed, tell_special

NOBODY = OutboundPolicy()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("0.0.0.0", "this network"),
        ("0.1.2.3", "this network"),
        ("10.0.0.1", "private"),
        ("100.64.0.1", "shared by a carrier's customers"),
        ("100.100.100.200", "shared by a carrier's customers"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("168.63.129.16", "a cloud's own service"),
        ("169.254.169.254", "link-local"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.192", "for protocols"),
        ("192.168.1.1", "private"),
        ("198.18.0.1", "for benchmarks"),
        ("203.0.113.9", "for documentation"),
        ("224.0.0.1", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::", "this network"),
        ("::1", "loopback"),
        ("::7f00:1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "link-local"),
        ("::ffff:0:10.0.0.1", "private"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b:1::1", "reserved"),
        ("2002:7f00:1::", "loopback"),
        ("2002:5db8:d822::1", "a way to IPv4"),
        ("2001::1", "for protocols"),
        ("2001:db8::1", "for documentation"),
        ("fe80::1", "link-local"),
        ("fd00:ec2::254", "private"),
        ("fec0::1", "reserved"),
        ("ff02::1", "multicast"),
        ("4000::1", "reserved"),
    ],
)
def test_addresses_that_are_not_public(address: str, reason: str) -> None:
    assert tell_special(ip_address(address)) == reason


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::1.1.1.1", "::ffff:1.1.1.1"],
)
def test_public_addresses(address: str) -> None:
    assert tell_special(ip_address(address)) is None
    assert NOBODY.refuse_addresses("a.example", 443, [ip_address(address)]) is None
    assert NOBODY.refuse_addresses("a.example", 80, [ip_address(address)]) is None
    assert NOBODY.refuse_addresses("a.example", 8080, [ip_address(address)]) == "is asked for at port 8080"


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_what_python_takes_for_local_is_never_public(address: IPv4Address | IPv6Address) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        assert tell_special(address) is not None or (mapped is not None and mapped.is_global)


@given(st.ip_addresses(v=4))
def test_ipv6_clothes_hide_nothing(address: IPv4Address) -> None:
    number = int(address)
    for base, shift in ((0xFFFF << 32, 0), (0x64FF9B << 96, 0), (0x2002 << 112, 80), (0, 0), (0xFFFF << 48, 0)):
        dressed = IPv6Address(base | number << shift)
        if tell_special(address) is not None:
            assert tell_special(dressed) is not None


@given(
    st.lists(st.ip_addresses(v=4), min_size=1, max_size=4),
    st.sampled_from(["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1"]),
    st.integers(0, 4),
)
def test_one_bad_address_among_good_ones_is_enough(good: list[IPv4Address], bad: str, place: int) -> None:
    found = [*good]
    found.insert(place, ip_address(bad))  # type: ignore[arg-type]
    assert NOBODY.refuse_addresses("a.example", 443, found) is not None


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "1.2.3.4.5", "a.example.0x7f", "a.1",
        "", ".", "a..b", "-a.example", "a b", "a@b", "a.example:80", "[::1", "::1%eth0", "a/b", "%31", "\uff41.example",
        "a" * 64 + ".example", "\x00",
    ],
)  # fmt: skip
def test_spellings_that_are_no_host(host: str) -> None:
    assert NOBODY.refuse_name(host, 443) is not None


@given(st.text(max_size=40))
def test_any_text_is_refused_or_a_name(host: str) -> None:
    if NOBODY.refuse_name(host, 443) is None:
        address = parse_address(host)
        assert address is not None or (host.isascii() and not host.removesuffix(".").rpartition(".")[2].isdigit())
        assert address is None or tell_special(address) is None


def test_an_operator_allows_servers_by_name_and_networks() -> None:
    policy = parse_allowed(["api.internal:8080", " *.corp.example ", "10.1.0.0/16", "fd00::/8", "127.0.0.1", ""])
    local = [ip_address("192.168.0.9")]
    assert policy.refuse_name("api.internal", 8080) is None
    assert policy.refuse_addresses("api.internal", 8080, local) is None
    assert policy.refuse_addresses("api.internal", 80, local) is not None
    assert policy.refuse_addresses("other.internal", 8080, local) is not None
    assert policy.refuse_addresses("a.corp.example", 443, local) is None
    assert policy.refuse_addresses("a.corp.example.", 443, local) is None
    assert policy.refuse_addresses("corp.example", 443, local) is not None
    assert policy.refuse_addresses("acorp.example", 443, local) is not None
    assert policy.refuse_addresses("any.example", 9999, [ip_address("10.1.2.3")]) is None
    assert policy.refuse_addresses("any.example", 9999, [ip_address("::ffff:10.1.2.3")]) is None
    assert policy.refuse_addresses("any.example", 443, [ip_address("10.2.2.3")]) is not None
    assert policy.refuse_addresses("any.example", 443, [ip_address("10.1.2.3"), ip_address("127.0.0.2")]) is not None
    assert policy.refuse_name("[fd00::1]", 1) is None
    assert policy.refuse_name("127.0.0.1", 8080) is None


@pytest.mark.parametrize(
    "entry", ["10.0.0.1/8", "a b", "a.example:0", "a.example:http", "*", "*.*", "http://a.example"]
)
def test_entries_that_are_neither_host_nor_network(entry: str) -> None:
    with pytest.raises(Invalid, match="neither a host name"):
        parse_allowed([entry])
