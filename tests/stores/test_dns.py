"""What is asked of the DNS about a claim, and what comes of servers that lie, loop, flood or are silent."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.dns_server import TellingServer, in_turn, nonsense, referral, servfail, telling
from tests.named import Named, serving

from vclone_core.rules.addresses import parse_allowed
from vclone_core.rules.dnsanswers import Findings, Verdict, judge_ownership, judge_routing
from vclone_core.settings import Settings
from vclone_core.stores import dns as our_dns
from vclone_core.stores.dns import LOOK_S, Dns, open_dns
from vclone_core.stores.suffixes import find_apex

HOST, APEX, TARGET = "www.shop.example", "shop.example", "edge.platform.example"
NAME, TOKEN = f"_vclone.{HOST}", "vclone-verify=abc"
LOOPBACK = parse_allowed(["127.0.0.0/8"])


@pytest.fixture
async def server() -> AsyncIterator[TellingServer]:
    async with telling({TARGET: ["A 203.0.113.5"], APEX: []}) as server:
        yield server


async def look(*servers: TellingServer, asks_zones: bool = False, zone_port: int = 53) -> Findings:
    resolvers = tuple(("127.0.0.1", one.port) for one in servers)
    dns = Dns(resolvers, LOOPBACK, asks_zones, zone_port)
    return await dns.look(HOST, apex=APEX, target=TARGET, addresses=())


def judge(findings: Findings) -> tuple[Verdict, Verdict]:
    return judge_ownership(NAME, TOKEN, findings), judge_routing(HOST, TARGET, findings, is_apex=False)


async def test_a_proved_name_that_leads_here(server: TellingServer) -> None:
    server.names |= {NAME: ['TXT "vclone-verify=" "abc"'], HOST: [f"CNAME {TARGET}."]}
    findings = await look(server)
    assert findings.expected == {"203.0.113.5"}
    assert judge(findings) == (Verdict(True), Verdict(True))


@pytest.mark.parametrize(
    ("says", "ownership", "routing"),
    [
        ({}, "_vclone.www.shop.example does not exist (NXDOMAIN)", "www.shop.example does not exist (NXDOMAIN)"),
        ({NAME: [], HOST: []}, "has no TXT record", "has neither A nor AAAA; expected CNAME edge.platform.example"),
        ({NAME: ["TXT abc"], HOST: ["A 192.0.2.1"]}, 'has TXT "abc"', "www.shop.example has A 192.0.2.1, expected"),
        ({NAME: ["CNAME evil.example."], "evil.example": [f"TXT {TOKEN}"]}, "is a CNAME to evil.example", ""),
        ({HOST: [f"CNAME {HOST}."]}, "", "is a CNAME loop: www.shop.example → www.shop.example"),
        (
            {HOST: ["CNAME a.example."], "a.example": ["CNAME b.example."], "b.example": ["CNAME a.example."]},
            "",
            "is a CNAME loop: www.shop.example → a.example → b.example → a.example",
        ),
        (
            {HOST: ["CNAME n0.example."], **{f"n{i}.example": [f"CNAME n{i + 1}.example."] for i in range(40)}},
            "",
            "is a chain of more than 8 CNAMEs",
        ),
        ({HOST: ["CNAME gone.example."]}, "", "is a CNAME to gone.example, which does not exist (NXDOMAIN)"),
    ],
)
async def test_what_is_wrong_is_said(
    server: TellingServer, says: dict[str, list[str]], ownership: str, routing: str
) -> None:
    server.names |= says
    found = judge(await look(server))
    assert [verdict.holds for verdict in found] == [False, False]
    assert ownership in found[0].reason and routing in found[1].reason
    assert len(server.asked) < 40


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (None, "timed out"),
        (servfail(), "says SERVFAIL."),
        (nonsense, "timed out"),
        (servfail(is_signed_wrongly=True), "says SERVFAIL: the signatures (DNSSEC) are wrong"),
        (servfail(code=6), "says SERVFAIL: the signatures (DNSSEC) are wrong"),
    ],
)
async def test_servers_that_fail_say_nothing(
    server: TellingServer, says: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(our_dns, "QUESTION_S", 0.2)
    server.names |= {NAME: says, HOST: says}
    began = time.monotonic()
    ownership, routing = judge(await look(server))
    assert time.monotonic() - began < LOOK_S
    assert (ownership.holds, routing.holds) == (None, None)
    assert f"{server.address} {words}" in ownership.reason


async def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(our_dns, "QUESTION_S", 0.1)
    async with telling() as gone:
        pass
    ownership, _ = judge(await look(gone))
    assert ownership.holds is None and "timed out" in ownership.reason
    assert judge(await look())[0].reason == f"There is no resolver to ask about {NAME}."


async def test_resolvers_that_disagree(server: TellingServer) -> None:
    server.names |= {NAME: [f"TXT {TOKEN}"], HOST: ["A 203.0.113.5"]}
    async with telling({TARGET: ["A 203.0.113.5"]}) as liar:
        ownership, routing = judge(await look(server, liar))
        assert (ownership.holds, routing.holds) == (None, None)
        assert f"{server.address} has what is expected, {liar.address} says: " in ownership.reason
        async with telling(dict(server.names)) as third:
            assert judge(await look(server, liar, third)) == (Verdict(True), Verdict(True))
        # The one that says yes is alone.
        async with telling() as third:
            assert judge(await look(server, liar, third))[0].holds is False


async def test_a_huge_record_is_read_by_tcp_and_bounded(server: TellingServer) -> None:
    texts = [f"TXT {'x' * 250}{number:04}" for number in range(200)]
    server.names[NAME] = [*texts, f"TXT {TOKEN}"]
    assert judge(await look(server))[0] == Verdict(True)
    server.names[NAME] = texts
    assert len(judge(await look(server))[0].reason) < 400


async def test_hostile_text_is_shown_harmlessly(server: TellingServer) -> None:
    server.names[NAME] = [r'TXT "\027[2J<script>\255\000"']
    reason = judge(await look(server))[0].reason
    assert "?[2J<script>" in reason and reason.isprintable()


async def test_the_zones_own_servers_have_the_last_word(server: TellingServer) -> None:
    zone = {APEX: ["NS ns1.shop.example."], "ns1.shop.example": ["A 127.0.0.1"]}
    server.names |= zone
    async with telling({NAME: [f"TXT {TOKEN}"]}) as own:
        # The resolver still remembers that there was no record.
        found = await look(server, asks_zones=True, zone_port=own.port)
        assert judge_ownership(NAME, TOKEN, found) == Verdict(True)
        assert [one.server for one in found.zone] == [own.address]
        # A resolver that makes records up is not believed either.
        server.names[NAME] = [f"TXT {TOKEN}"]
        own.names.clear()
        found = await look(server, asks_zones=True, zone_port=own.port)
        assert judge_ownership(NAME, TOKEN, found).holds is False
        # Who doesn't speak for the zone isn't heard: then the resolvers are.
        own.names[NAME] = referral
        found = await look(server, asks_zones=True, zone_port=own.port)
        assert found.zone[0].failure == "does not answer for the zone"
        assert judge_ownership(NAME, TOKEN, found) == Verdict(True)
        # Resolvers that know no server in common have none asked.
        async with telling({**zone, APEX: ["NS ns9.shop.example."]}) as other:
            assert (await look(server, other, asks_zones=True, zone_port=own.port)).zone == ()


async def test_no_zone_leads_us_into_the_operators_network(server: TellingServer) -> None:
    inside = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1"]
    server.names |= {APEX: ["NS ns1.shop.example."], "ns1.shop.example": [f"A {one}" for one in inside]}
    dns = Dns((("127.0.0.1", server.port),), parse_allowed([]), True, server.port)
    before = len(server.asked)
    assert (await dns.look(HOST, apex=APEX, target=TARGET, addresses=())).zone == ()
    assert len(server.asked) > before


async def test_answers_that_change_between_questions_are_never_put_together(server: TellingServer) -> None:
    server.names[NAME] = in_turn([f"TXT {TOKEN}"], ["TXT nothing"])
    verdicts = [judge(await look(server, server))[0].holds for _ in range(3)]
    assert verdicts == [None, None, None]


def test_who_is_asked() -> None:
    chosen = open_dns(Settings(domain_resolvers="192.0.2.1,192.0.2.2:54", domain_ask_zones=False))
    assert (chosen.resolvers, chosen.asks_zones) == ((("192.0.2.1", 53), ("192.0.2.2", 54)), False)
    many = Settings(domain_resolvers=",".join(f"192.0.2.{number}" for number in range(1, 20)))
    assert len(open_dns(many).resolvers) == our_dns.RESOLVERS_LIMIT


@pytest.mark.parametrize(
    ("host", "apex"),
    [
        ("example.com", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("co.uk", None),
        ("github.io", None),
        ("me.github.io", "me.github.io"),
        ("shop.internal", "shop.internal"),
        ("internal", None),
        ("xn--55qx5d.cn", None),
    ],
)
async def test_registrable_domains(host: str, apex: str | None) -> None:
    assert await find_apex(host) == apex


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Named]:
    with serving(tmp_path_factory.mktemp("named"), ["shop.example", "platform.example"]) as named:
        yield named


@pytest.mark.dns
async def test_against_bind(named: Named) -> None:
    """A real server as resolver, and as the zone's own: both see each change."""
    named.set("platform.example", TARGET, "A 203.0.113.5", "AAAA 2001:db8::5")
    dns = Dns((("127.0.0.1", named.port),), LOOPBACK, True, named.port)

    async def judged(host: str = HOST) -> tuple[Verdict, Verdict]:
        found = await dns.look(host, apex=APEX, target=TARGET, addresses=())
        assert [one.failure for one in found.zone] == [""]
        name = f"_vclone.{host}"
        return judge_ownership(name, TOKEN, found), judge_routing(host, TARGET, found, is_apex=host == APEX)

    ownership, routing = await judged()
    assert ownership.reason == f"{NAME} does not exist (NXDOMAIN); expected TXT {TOKEN}."
    assert "www.shop.example does not exist (NXDOMAIN)" in routing.reason
    named.set("shop.example", NAME, "TXT v=spf1", f"TXT {TOKEN}")
    named.set("shop.example", HOST, "CNAME old.shop.example.")
    named.set("shop.example", "old.shop.example", "A 192.0.2.1")
    ownership, routing = await judged()
    assert ownership == Verdict(True)
    assert "is a CNAME to old.shop.example (A 192.0.2.1), expected" in routing.reason
    named.set("shop.example", HOST, f"CNAME {TARGET}.")
    assert await judged() == (Verdict(True), Verdict(True))
    named.set("shop.example", APEX, "A 203.0.113.5", "AAAA 2001:db8::bad")
    assert "also has AAAA 2001:db8::bad, which leads elsewhere" in (await judged(APEX))[1].reason
    named.set("shop.example", HOST, "CNAME loop.shop.example.")
    named.set("shop.example", "loop.shop.example", f"CNAME {HOST}.")
    assert "CNAME loop" in (await judged())[1].reason
