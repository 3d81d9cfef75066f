"""Which names can be claimed, which records they need, and what becomes of a claim."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vclone_core.errors import InvalidFields
from vclone_core.models import HELD, DomainState
from vclone_core.rules.dnsanswers import Verdict
from vclone_core.rules.domains import (
    NAME_LENGTH,
    Patience,
    decide_standing,
    list_records,
    parse_addresses,
    parse_domain,
    parse_servers,
    refuse_domain,
    refuse_redirect,
)

BASE = "apps.example.net"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PATIENCE = Patience(claim=timedelta(days=14), grace=timedelta(days=7), recheck=timedelta(days=1))
PENDING, MISROUTED, ACTIVE, FAILING, LAPSED = DomainState
YES, NO, UNKNOWN = Verdict(True), Verdict(False, "It is not so."), Verdict(None, "Nobody says.")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("example.com", "example.com"),
        (" Example.COM. ", "example.com"),
        ("www.example.com", "www.example.com"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        # Letters that are drawn like others: those that map to ASCII are the same name, the others are another one.
        ("\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45\u3002com", "example.com"),  # in full width
        ("ⓔxample.com", "example.com"),
        ("\N{CYRILLIC SMALL LETTER IE}xample.com", "xn--xample-2of.com"),
    ],
)
def test_one_spelling(text: str, host: str) -> None:
    assert parse_domain(text) == host
    assert parse_domain(host) == host


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no host name"),
        (".", "no host name"),
        ("a..example.com", "no host name"),
        ("-a.example.com", "no host name"),
        ("a_b.example.com", "no host name"),
        ("a b.example.com", "no host name"),
        ("a\0.example.com", "no host name"),
        ("\ud800.example.com", "no host name"),
        ("example.com..", "no host name"),
        ("https://example.com", "no scheme"),
        ("example.com/path", "no path"),
        ("me@example.com", "no scheme"),
        ("example.com:443", "no port"),
        ("*.example.com", "wildcard"),
        ("192.0.2.1", "an address"),
        ("192.0.2.1.", "an address"),
        ("127.1", "an address"),
        ("2130706433", "an address"),
        ("0x7f000001", "an address"),
        ("a.0x7f", "an address"),
        ("[::1]", "an address"),
        ("2001:db8::1", "an address"),
        ("xn--a.example.com", "stands for no name"),
        ("xn--zz-zzzzzz.example", "stands for no name"),
        (f"{'a' * 64}.example.com", "no host name"),
        (".".join(["a" * 61] * 4), "longer than"),
    ],
)
def test_what_is_no_host_name(text: str, why: str) -> None:
    with pytest.raises(InvalidFields) as raised:
        parse_domain(text)
    (problem,) = raised.value.problems
    assert problem.field == "host" and why in problem.message


@example("²")
@given(st.text(max_size=300))
def test_any_text_is_one_spelling_or_refused(text: str) -> None:
    try:
        host = parse_domain(text)
    except InvalidFields:
        return
    assert host.isascii() and host == host.lower() and len(host) <= NAME_LENGTH
    assert parse_domain(host) == host


@pytest.mark.parametrize(
    ("host", "apex", "why"),
    [
        (BASE, BASE, "the platform"),
        (f"shop.{BASE}", BASE, "the platform"),
        (f"a.b.{BASE}", BASE, "the platform"),
        ("edge.example.org", "example.org", "the platform"),
        ("shop.localhost", "shop.localhost", "no owner"),
        ("localhost", None, "no owner"),
        ("printer.local", "printer.local", "no owner"),
        ("1.0.0.127.in-addr.arpa", "0.0.127.in-addr.arpa", "no owner"),
        ("co.uk", None, "public suffix"),
        ("github.io", None, "public suffix"),
        ("internal", None, "public suffix"),
    ],
)
def test_what_nobody_can_claim(host: str, apex: str | None, why: str) -> None:
    with pytest.raises(InvalidFields) as raised:
        refuse_domain(host, base_domain=BASE, own_hosts={"edge.example.org"}, apex=apex)
    assert why in raised.value.problems[0].message


@pytest.mark.parametrize("host", ["example.net", "x-apps.example.net", f"not{BASE}", "example.org", "www.example.org"])
def test_neighbours_of_the_platform_can_be_claimed(host: str) -> None:
    refuse_domain(host, base_domain=BASE, own_hosts={"edge.example.org"}, apex="example.net")


def test_records() -> None:
    def tell(host: str, addresses: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
        records = list_records(host, "t0k3n", apex="example.com", target="edge.example.net", addresses=addresses)
        return [(one.type, one.name, one.value) for one in records]

    assert tell("www.example.com", ("203.0.113.5",)) == [
        ("TXT", "_vclone.www.example.com", "vclone-verify=t0k3n"),
        ("CNAME", "www.example.com", "edge.example.net"),
    ]
    assert tell("example.com", ("203.0.113.5", "2001:db8::5"))[1:] == [
        ("A", "example.com", "203.0.113.5"),
        ("AAAA", "example.com", "2001:db8::5"),
    ]
    assert tell("example.com")[1:] == [("ALIAS", "example.com", "edge.example.net")]


@pytest.mark.parametrize(
    ("state", "ownership", "routing", "becomes"),
    [
        (PENDING, NO, NO, PENDING),
        (PENDING, NO, YES, PENDING),  # a way that leads here proves nothing
        (PENDING, UNKNOWN, YES, PENDING),
        (PENDING, YES, NO, MISROUTED),
        (PENDING, YES, UNKNOWN, MISROUTED),
        (PENDING, YES, YES, ACTIVE),
        (MISROUTED, YES, NO, MISROUTED),
        (MISROUTED, UNKNOWN, NO, MISROUTED),
        (MISROUTED, NO, NO, FAILING),
        (MISROUTED, NO, YES, ACTIVE),
        (ACTIVE, YES, YES, ACTIVE),
        (ACTIVE, NO, YES, ACTIVE),  # many take the TXT record away once they are through
        (ACTIVE, YES, NO, MISROUTED),
        (ACTIVE, NO, NO, FAILING),
        (ACTIVE, NO, UNKNOWN, ACTIVE),
        (ACTIVE, UNKNOWN, NO, ACTIVE),
        (ACTIVE, UNKNOWN, UNKNOWN, ACTIVE),
        (FAILING, NO, NO, FAILING),
        (FAILING, UNKNOWN, UNKNOWN, FAILING),
        (FAILING, YES, UNKNOWN, MISROUTED),
        (FAILING, YES, NO, MISROUTED),
        (FAILING, NO, YES, ACTIVE),
        (FAILING, YES, YES, ACTIVE),
        (LAPSED, YES, YES, LAPSED),  # begins anew only when somebody asks, with another token
    ],
)
def test_what_a_look_leads_to(state: DomainState, ownership: Verdict, routing: Verdict, becomes: DomainState) -> None:
    standing = decide(state, ownership, routing)
    assert standing.state is becomes
    is_settled = becomes is ACTIVE and routing.holds is True
    assert bool(standing.problem) == (not is_settled and becomes is not LAPSED)
    assert (standing.check_in is None) == (becomes is LAPSED)


def decide(state: DomainState, ownership: Verdict, routing: Verdict, *, age: timedelta = timedelta(minutes=1)) -> Any:
    return decide_standing(
        "example.com", state, ownership=ownership, routing=routing, since=NOW - age, now=NOW, patience=PATIENCE
    )


@pytest.mark.parametrize(
    ("state", "age", "ownership", "routing", "becomes"),
    [
        (PENDING, timedelta(days=13, hours=23), NO, NO, PENDING),
        (PENDING, timedelta(days=14), NO, NO, LAPSED),
        (PENDING, timedelta(days=14), NO, YES, LAPSED),
        (PENDING, timedelta(days=14), YES, NO, MISROUTED),  # at the last moment
        (MISROUTED, timedelta(days=400), YES, NO, MISROUTED),
        (FAILING, timedelta(days=6, hours=23), NO, NO, FAILING),
        (FAILING, timedelta(days=7), NO, NO, LAPSED),
        (FAILING, timedelta(days=70), UNKNOWN, UNKNOWN, FAILING),  # silence takes nothing away
        (FAILING, timedelta(days=70), NO, YES, ACTIVE),
        (ACTIVE, timedelta(days=700), NO, NO, FAILING),  # the grace begins now
    ],
)
def test_what_time_does(
    state: DomainState, age: timedelta, ownership: Verdict, routing: Verdict, becomes: DomainState
) -> None:
    assert decide(state, ownership, routing, age=age).state is becomes


@pytest.mark.parametrize(
    ("state", "age", "ownership", "routing", "at_least", "at_most"),
    [
        (PENDING, timedelta(0), NO, NO, 1, 10),
        (PENDING, timedelta(minutes=30), NO, NO, 30, 60),
        (PENDING, timedelta(hours=5), NO, NO, 300, 600),
        (PENDING, timedelta(days=3), NO, NO, 1800, 3600),
        (MISROUTED, timedelta(0), YES, NO, 1, 10),
        (MISROUTED, timedelta(days=30), YES, NO, 1800, 3600),
        (ACTIVE, timedelta(days=1), YES, YES, 86_400 * 0.9, 86_400),
        (ACTIVE, timedelta(days=1), UNKNOWN, UNKNOWN, 600, 3600),
        (FAILING, timedelta(days=1), NO, NO, 600, 1800),
    ],
)
def test_the_next_look(
    state: DomainState, age: timedelta, ownership: Verdict, routing: Verdict, at_least: float, at_most: float
) -> None:
    pause = decide(state, ownership, routing, age=age).check_in
    assert pause is not None and at_least <= pause.total_seconds() <= at_most


def test_looks_at_good_domains_are_spread() -> None:
    pauses = {
        decide_standing(
            f"d{number}.example", ACTIVE, ownership=YES, routing=YES, since=NOW, now=NOW, patience=PATIENCE
        ).check_in
        for number in range(200)
    }
    assert len(pauses) > 150


@given(
    st.sampled_from(list(DomainState)),
    st.sampled_from([YES, NO, UNKNOWN]),
    st.sampled_from([YES, NO, UNKNOWN]),
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1000)),
)
def test_nothing_but_a_proof_makes_a_name_held(
    state: DomainState, ownership: Verdict, routing: Verdict, age: timedelta
) -> None:
    becomes = decide(state, ownership, routing, age=age).state
    if state not in HELD and becomes in HELD:
        assert ownership.holds is True
    if state in HELD and becomes not in HELD:
        assert (ownership.holds, routing.holds) == (False, False)


@pytest.mark.parametrize(
    ("host", "target", "why"),
    [
        ("a.example", "b.example", None),
        ("a.example", "a.example", "itself"),
        ("a.example", "x.example", "no domain of this project"),
        ("a.example", "c.example", "redirects itself"),
        ("d.example", "a.example", "redirect to this one"),
    ],
)
def test_redirects_never_lead_to_redirects(host: str, target: str, why: str | None) -> None:
    known = {"a.example": None, "b.example": None, "c.example": "d.example", "d.example": None}
    problem = refuse_redirect(host, target, redirects=known)
    assert problem is None if why is None else why in (problem or "")


def test_lists_of_settings() -> None:
    assert parse_servers("192.0.2.53, 192.0.2.54:5353, [2001:db8::53]:53, 2001:db8::54") == (
        ("192.0.2.53", 53), ("192.0.2.54", 5353), ("2001:db8::53", 53), ("2001:db8::54", 53),
    )  # fmt: skip
    assert parse_addresses("203.0.113.5,2001:DB8::5, 203.0.113.5") == ("203.0.113.5", "2001:db8::5")
    for wrong in ("ns.example", "192.0.2.53:0", "192.0.2.53:x", "[192.0.2.1"):
        with pytest.raises(ValueError):
            parse_servers(wrong)
