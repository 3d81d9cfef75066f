"""Asks the DNS about a claim: several resolvers, and the zone's own servers. Everything here has an end: a time, a
number of questions, of CNAMEs, of servers. Nothing is remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final

import dns.asyncquery
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver

from vclone_core.log import get_log
from vclone_core.rules.addresses import OutboundPolicy, parse_allowed
from vclone_core.rules.dnsanswers import DnsAnswer, Findings
from vclone_core.rules.domains import PORT, parse_servers, proof_name
from vclone_core.settings import Settings

log = get_log(__name__)

QUESTION_S: Final = 2.0
# All questions of one look, side by side.
LOOK_S: Final = 10.0
TRIES: Final = 2
CHAIN_LIMIT: Final = 8
RESOLVERS_LIMIT: Final = 5
# A zone has few servers of its own, and each few addresses; one of each is enough to ask.
ZONE_SERVERS_LIMIT: Final = 4
# What fits through any network in one packet (DNS flag day 2020); longer answers come by TCP.
PAYLOAD_BYTES: Final = 1232
# The operating system's list is for programs that ask one after the other.
_SYSTEM_LIMIT: Final = 3
# RFC 8914 §4: what a resolver says of a SERVFAIL that DNSSEC is the cause of.
_BOGUS_CODES: Final = frozenset({5, 6, 7, 8, 9, 10, 11, 12})

Server = tuple[str, int]
Asking = Callable[[Server], Awaitable[DnsAnswer]]


class _Unanswered(Exception):
    """Why a server gave no answer that can be used, in words."""

    def __init__(self, words: str, *, is_refusal: bool = False, is_bogus: bool = False) -> None:
        super().__init__(words)
        self.words = words
        self.is_refusal = is_refusal
        self.is_bogus = is_bogus


@dataclass(frozen=True, slots=True)
class Dns:
    """Who is asked. `policy` says which addresses of a zone's own servers may be, if `asks_zones`."""

    resolvers: tuple[Server, ...]
    policy: OutboundPolicy = field(default_factory=OutboundPolicy)
    asks_zones: bool = True
    zone_port: int = PORT

    async def look(self, host: str, *, apex: str, target: str, addresses: Sequence[str]) -> Findings:
        """Return what there is about a claim of `host`.

        The edges' addresses are `addresses`, or else those that `target` has.
        """
        proof = proof_name(host)
        tasks = (
            _each(self.resolvers, lambda server: _ask_texts(server, proof)),
            _each(self.resolvers, lambda server: _ask_addresses(server, host)),
            self._ask_zone(host, proof, apex),
            self._find_expected(target, addresses),
        )
        proofs, ways, zone, expected = await asyncio.gather(*tasks)
        return Findings(proofs, ways, zone, frozenset(one for answer in expected for one in answer.values))

    async def _find_expected(self, target: str, addresses: Sequence[str]) -> tuple[DnsAnswer, ...]:
        if addresses:
            return (DnsAnswer("", values=tuple(addresses)),)
        return await _each(self.resolvers, lambda server: _ask_addresses(server, target))

    async def _ask_zone(self, host: str, proof: str, apex: str) -> tuple[DnsAnswer, ...]:
        if not self.asks_zones or not self.resolvers:
            return ()
        try:
            async with asyncio.timeout(LOOK_S / 2):
                servers = await self._find_zone_servers(host, apex)
        except TimeoutError:
            return ()
        return await _each(servers, lambda server: _ask_texts(server, proof, of_zone=True))

    async def _find_zone_servers(self, host: str, apex: str) -> list[Server]:
        """Return the servers of the zone that `host` is in: those that every resolver that answers names."""
        names: set[str] = set()
        for zone in _upwards(host, apex):
            told = await asyncio.gather(*(_ask_name_servers(server, zone) for server in self.resolvers))
            if any(told):
                heard = [one for one in told if one]
                names = set.intersection(*heard)
                break
        found: list[Server] = []
        for name in sorted(names)[:ZONE_SERVERS_LIMIT]:
            answer = await _ask_addresses(self.resolvers[0], name)
            # The policy is one of web addresses: port 443 stands for "any of its usual ones".
            usable = [one for one in answer.values if self.policy.refuse_address(ip_address(one), 443) is None]
            found += [(one, self.zone_port) for one in sorted(usable, key=lambda one: ":" in one)[:1]]
        return found


def open_dns(settings: Settings) -> Dns:
    """Return whom the settings say to ask: the resolvers they name, or else the operating system's."""
    return Dns(
        parse_servers(settings.domain_resolvers)[:RESOLVERS_LIMIT] or _find_system_resolvers(),
        parse_allowed(settings.outbound_allow.split(",")),
        settings.domain_ask_zones,
    )


def _find_system_resolvers() -> tuple[Server, ...]:
    try:
        found = dns.resolver.Resolver()
    except dns.exception.DNSException as error:
        log.warning("resolvers.missing", why=str(error))
        return ()
    return tuple((str(one), found.port) for one in found.nameservers[:_SYSTEM_LIMIT])


async def _each(servers: Iterable[Server], ask: Asking) -> tuple[DnsAnswer, ...]:
    return tuple(await asyncio.gather(*(_bounded(server, ask) for server in servers)))


async def _bounded(server: Server, ask: Asking) -> DnsAnswer:
    name = _tell_server(server)
    try:
        async with asyncio.timeout(LOOK_S):
            answer = await ask(server)
    except TimeoutError:
        return DnsAnswer(name, failure="timed out")
    except _Unanswered as why:
        return DnsAnswer(name, failure=why.words, is_bogus=why.is_bogus)
    return replace(answer, server=name)


async def _ask_texts(server: Server, name: str, *, of_zone: bool = False) -> DnsAnswer:
    """Return the TXT record at a name, and where a CNAME there leads (which is not followed)."""
    reply = await _ask(server, name, dns.rdatatype.TXT, of_zone=of_zone)
    chain = _cnames(reply, name)
    if chain:
        return DnsAnswer("", chain=tuple(chain))
    texts = [
        # Strings of one record are one text (RFC 7208 §3.3 says so of SPF, and everybody does).
        b"".join(item.strings).decode("utf-8", "replace")
        for rrset in reply.answer
        if rrset.rdtype == dns.rdatatype.TXT and rrset.name == dns.name.from_text(name)
        for item in rrset
    ]
    return DnsAnswer("", values=tuple(texts), flaw="" if texts else _flaw(reply, "has no TXT record"))


async def _ask_addresses(server: Server, name: str) -> DnsAnswer:
    """Return a name's IPv4 and IPv6 addresses and the names that CNAMEs led over."""
    answers = await asyncio.gather(
        _follow(server, name, dns.rdatatype.A), _follow(server, name, dns.rdatatype.AAAA), return_exceptions=True
    )
    found = [answer for answer in answers if isinstance(answer, DnsAnswer)]
    broken = [answer for answer in answers if isinstance(answer, BaseException)]
    if broken:
        raise broken[0]
    values = tuple(value for answer in found for value in answer.values)
    flaw = "" if values else next((answer.flaw for answer in found if answer.flaw), "")
    return replace(found[0], values=values, flaw=flaw, chain=found[0].chain or found[1].chain)


async def _follow(server: Server, name: str, kind: dns.rdatatype.RdataType) -> DnsAnswer:
    """Return a name's records of a kind; a resolver that doesn't follow CNAMEs by itself is asked again."""
    chain: list[str] = []
    current = name
    while True:
        try:
            reply = await _ask(server, current, kind)
        except _Unanswered as why:
            # Of a loop, too, many resolvers say SERVFAIL: asked for the CNAMEs alone they show it.
            looped = await _find_loop(server, name) if why.is_refusal else None
            if looped is None:
                raise
            return looped
        for target in _cnames(reply, current):
            chain.append(target)
            if flaw := _chain_flaw(name, chain):
                return DnsAnswer("", flaw=flaw)
        is_ahead = bool(chain) and chain[-1] != current
        current = chain[-1] if chain else current
        owner = dns.name.from_text(current)
        values = tuple(
            item.to_text() for rrset in reply.answer if rrset.rdtype == kind and rrset.name == owner for item in rrset
        )
        if values:
            return DnsAnswer("", values=values, chain=tuple(chain))
        if not is_ahead or reply.rcode() == dns.rcode.NXDOMAIN:
            return DnsAnswer("", chain=tuple(chain), flaw=_flaw(reply, "has neither A nor AAAA"))


async def _find_loop(server: Server, name: str) -> DnsAnswer | None:
    chain: list[str] = []
    while True:
        try:
            reply = await _ask(server, chain[-1] if chain else name, dns.rdatatype.CNAME)
        except _Unanswered:
            return None
        found = _cnames(reply, chain[-1] if chain else name)
        if not found:
            return None
        chain.append(found[0])
        if flaw := _chain_flaw(name, chain):
            return DnsAnswer("", flaw=flaw)


def _chain_flaw(name: str, chain: Sequence[str]) -> str:
    if chain[-1] in (name, *chain[:-1]):
        return f"is a CNAME loop: {' → '.join([name, *chain[:3]])}"
    return f"is a chain of more than {CHAIN_LIMIT} CNAMEs" if len(chain) > CHAIN_LIMIT else ""


async def _ask_name_servers(server: Server, zone: str) -> set[str]:
    try:
        reply = await _ask(server, zone, dns.rdatatype.NS)
    except _Unanswered:
        return set()
    owner = dns.name.from_text(zone)
    return {
        _text(item.target)
        for rrset in reply.answer
        if rrset.rdtype == dns.rdatatype.NS and rrset.name == owner
        for item in rrset
    }


async def _ask(
    server: Server, name: str, kind: dns.rdatatype.RdataType, *, of_zone: bool = False
) -> dns.message.Message:
    """Return a server's reply, an answer or a denial; raise `_Unanswered` for anything else.

    A zone's own servers are asked by TCP, where nobody else can answer in their place, and have to speak as such.
    """
    try:
        question = dns.message.make_query(name, kind, use_edns=0, payload=PAYLOAD_BYTES)
    except dns.exception.DNSException:
        raise _Unanswered(f"could not be asked about {name}") from None
    if of_zone:
        question.flags &= ~dns.flags.RD
    reply = await _exchange(server, question, by_tcp=of_zone)
    if reply.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        is_bogus = reply.rcode() == dns.rcode.SERVFAIL and await _is_bogus(server, question, reply)
        words = f"says {dns.rcode.to_text(reply.rcode())}"
        words += ": the signatures (DNSSEC) are wrong" * is_bogus
        raise _Unanswered(words, is_refusal=not is_bogus, is_bogus=is_bogus)
    if of_zone and not reply.flags & dns.flags.AA:
        raise _Unanswered("does not answer for the zone")
    return reply


async def _is_bogus(server: Server, question: dns.message.Message, reply: dns.message.Message) -> bool:
    """Say whether a SERVFAIL is DNSSEC's: the resolver says so, or it answers when told not to check."""
    if any(isinstance(option, dns.edns.EDEOption) and option.code in _BOGUS_CODES for option in reply.options):
        return True
    unchecked = dns.message.make_query(question.question[0].name, question.question[0].rdtype, use_edns=0)
    unchecked.flags |= dns.flags.CD
    try:
        again = await _exchange(server, unchecked)
    except _Unanswered:
        return False
    return again.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)


async def _exchange(server: Server, question: dns.message.Message, *, by_tcp: bool = False) -> dns.message.Message:
    address, port = server
    for _ in range(TRIES):
        try:
            if by_tcp:
                return await dns.asyncquery.tcp(question, address, timeout=QUESTION_S, port=port)
            reply, _by_tcp = await dns.asyncquery.udp_with_fallback(
                question, address, timeout=QUESTION_S, port=port, ignore_unexpected=True, ignore_errors=True
            )
            return reply
        except dns.exception.Timeout:
            continue
        except OSError as error:
            raise _Unanswered(f"can't be reached ({error.strerror or type(error).__name__})") from None
        except (dns.exception.DNSException, EOFError, ValueError) as error:
            raise _Unanswered(f"answers nonsense ({type(error).__name__})") from None
    raise _Unanswered("timed out")


def _cnames(reply: dns.message.Message, name: str) -> list[str]:
    """Return where the CNAMEs in a reply lead from `name`, in order, a little further than is allowed."""
    leads = {_text(rrset.name): _text(rrset[0].target) for rrset in reply.answer if rrset.rdtype == dns.rdatatype.CNAME}
    found: list[str] = []
    current = name
    while (current := leads.get(current, "")) and len(found) <= CHAIN_LIMIT:
        found.append(current)
    return found


def _flaw(reply: dns.message.Message, otherwise: str) -> str:
    return "does not exist (NXDOMAIN)" if reply.rcode() == dns.rcode.NXDOMAIN else otherwise


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _upwards(host: str, apex: str) -> list[str]:
    labels = host.split(".")
    names = [".".join(labels[start:]) for start in range(len(labels))]
    return names[: names.index(apex) + 1][-CHAIN_LIMIT:]


def _tell_server(server: Server) -> str:
    address, port = server
    shown = f"[{address}]" if ":" in address else address
    return address if port == PORT else f"{shown}:{port}"
