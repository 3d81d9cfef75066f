"""What several servers' answers amount to, and the words for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.rules.dnsanswers import DnsAnswer, Findings, judge_ownership, judge_routing

NAME, WANTED = "_vclone.example.com", "vclone-verify=abc"
HERE = frozenset({"203.0.113.5", "2001:db8::5"})


def says(server: str, *values: str, **more: Any) -> DnsAnswer:
    return DnsAnswer(server, values=values, **more)


GOOD = says("r1", "other", WANTED)
BAD = says("r2", "v=spf1")
NONE = says("r3", flaw="does not exist (NXDOMAIN)")
MUTE = says("r4", failure="timed out")


@pytest.mark.parametrize(
    ("proofs", "zone", "holds", "words"),
    [
        ([GOOD], [], True, ""),
        ([GOOD, GOOD], [], True, ""),
        ([GOOD, GOOD, BAD], [], True, ""),
        ([BAD], [], False, f'{NAME} has TXT "v=spf1", expected {WANTED}.'),
        ([NONE], [], False, f"{NAME} does not exist (NXDOMAIN); expected TXT {WANTED}."),
        ([GOOD, BAD], [], None, f"Name servers disagree about {NAME}: r1 has what is expected, r2 says: "),
        ([GOOD, BAD, BAD], [], False, "v=spf1"),
        # One of three isn't enough: it may be the one that lies.
        ([GOOD, MUTE, MUTE], [], None, f"Too few answers about {NAME}: r4 timed out, r4 timed out."),
        ([BAD, MUTE], [], None, "Too few answers"),
        ([MUTE], [], None, f"Too few answers about {NAME}: r4 timed out."),
        ([], [], None, f"There is no resolver to ask about {NAME}."),
        # The zone's own servers have the last word, if they are of one mind.
        ([NONE], [GOOD], True, ""),
        ([GOOD, GOOD], [NONE], False, "NXDOMAIN"),
        ([GOOD, GOOD], [GOOD, BAD], None, "disagree"),
        ([GOOD, GOOD], [GOOD, MUTE], True, ""),
        ([GOOD, GOOD], [MUTE], True, ""),
        # Somebody lies, or the zone is signed wrongly: nothing is taken from it.
        ([says("r5", failure="says SERVFAIL", is_bogus=True), GOOD, GOOD], [GOOD], None, "r5 says SERVFAIL"),
        # A record that a CNAME leads to is another name's.
        ([says("r1", chain=("evil.example",)), GOOD][:1], [], False, "is a CNAME to evil.example"),
        ([says("r1", WANTED, chain=("evil.example",))], [], False, "is a CNAME to evil.example"),
        ([says("r1", WANTED.upper())], [], False, "expected"),
        ([says("r1", f" {WANTED}")], [], False, "expected"),
        ([says("r1", f"{WANTED}x")], [], False, "expected"),
    ],
)
def test_ownership(proofs: list[DnsAnswer], zone: list[DnsAnswer], holds: bool | None, words: str) -> None:
    verdict = judge_ownership(NAME, WANTED, Findings(tuple(proofs), (), tuple(zone)))
    assert verdict.holds is holds
    assert words in verdict.reason


@pytest.mark.parametrize(
    ("ways", "expected", "holds", "words"),
    [
        ([says("r", "203.0.113.5")], HERE, True, ""),
        ([says("r", "203.0.113.5", "2001:db8::5")], HERE, True, ""),
        ([says("r", "198.51.100.1", chain=("edge.example.net",))], frozenset(), True, ""),
        ([says("r", "198.51.100.1", chain=("a.example", "edge.example.net"))], HERE, True, ""),
        ([says("r", "203.0.113.5", chain=("a.example",))], HERE, True, ""),
        (
            [says("r", "192.0.2.1")],
            frozenset({"203.0.113.5"}),
            False,
            "example.com has A 192.0.2.1, expected 203.0.113.5.",
        ),
        (
            [says("r", "192.0.2.1")],
            frozenset(),
            None,
            "edge.example.net, where example.com is to lead, has no address.",
        ),
        ([says("r", flaw="does not exist (NXDOMAIN)")], frozenset(), None, "has no address."),
        (
            [says("r", "203.0.113.5", "2001:db8::bad")],
            HERE,
            False,
            "example.com also has AAAA 2001:db8::bad, which leads elsewhere; expected only 2001:db8::5 or 203.0.113.5.",
        ),
        (
            [says("r", "192.0.2.1", chain=("old.example",))],
            HERE,
            False,
            "example.com is a CNAME to old.example (A 192.0.2.1), expected 2001:db8::5 or 203.0.113.5.",
        ),
        ([says("r", flaw="does not exist (NXDOMAIN)")], HERE, False, "example.com does not exist (NXDOMAIN); expected"),
        (
            [says("r", flaw="does not exist (NXDOMAIN)", chain=("gone.example",))],
            HERE,
            False,
            "example.com is a CNAME to gone.example, which does not exist (NXDOMAIN)",
        ),
        ([says("r", flaw="is a CNAME loop: a → b → a")], HERE, False, "example.com is a CNAME loop: a → b → a;"),
        ([says("r", "203.0.113.5"), says("s", "192.0.2.1")], HERE, None, "disagree about example.com: r has"),
        ([MUTE], HERE, None, "r4 timed out"),
    ],
)
def test_routing(ways: list[DnsAnswer], expected: frozenset[str], holds: bool | None, words: str) -> None:
    verdict = judge_routing(
        "example.com", "edge.example.net", Findings((), tuple(ways), expected=expected), is_apex=True
    )
    assert verdict.holds is holds
    assert words in verdict.reason


def test_what_is_expected_is_what_the_name_can_have() -> None:
    findings = Findings((), (says("r", "192.0.2.1"),), expected=HERE)
    verdict = judge_routing("www.example.com", "edge.example.net", findings, is_apex=False)
    assert verdict.reason == "www.example.com has A 192.0.2.1, expected CNAME edge.example.net."


ANSWERS = st.builds(
    DnsAnswer,
    st.sampled_from(["r1", "r2"]),
    values=st.lists(st.text(max_size=300) | st.just(WANTED), max_size=80).map(tuple),
    chain=st.lists(st.text(max_size=300), max_size=3).map(tuple),
    flaw=st.sampled_from(["", "has no TXT record"]),
    failure=st.sampled_from(["", "timed out"]),
    is_bogus=st.booleans(),
)


@given(st.lists(ANSWERS, max_size=6).map(tuple), st.lists(ANSWERS, max_size=4).map(tuple))
def test_whatever_they_say_is_told_shortly_and_proves_only_by_a_majority(
    proofs: tuple[DnsAnswer, ...], zone: tuple[DnsAnswer, ...]
) -> None:
    findings = Findings(proofs, proofs, zone, HERE)
    ownership = judge_ownership(NAME, WANTED, findings)
    routing = judge_routing("example.com", "edge.example.net", findings, is_apex=False)
    for verdict in (ownership, routing):
        assert len(verdict.reason) < 1500 and verdict.reason.replace("→", "").isprintable()
        assert (verdict.reason == "") == (verdict.holds is True)
    if ownership.holds:
        good = [one for one in (*proofs, *zone) if WANTED in one.values and not one.failure and not one.chain]
        assert good and not any(one.is_bogus for one in (*proofs, *zone))
