"""Custom domains: which names can be claimed, which DNS records prove and route them, and what becomes of a claim.

claim -> pending --TXT record--> misrouted <--way--> active; neither for long: failing -> lapsed
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final

import idna

from vclone_core.errors import BadHost, FieldProblem, InvalidFields
from vclone_core.models import DnsRecord, DomainState
from vclone_core.rules.addresses import parse_address
from vclone_core.rules.dnsanswers import Verdict
from vclone_core.rules.hosts import parse_host

# Where the record that proves a claim stands. Its name has to fit as well: 253 octets in all (RFC 1035 §2.3.4).
PROOF_LABEL: Final = "_vclone"
PROOF_PREFIX: Final = "vclone-verify="
NAME_LENGTH: Final = 253 - len(PROOF_LABEL) - 1
# Names without an owner in the DNS (RFC 6761, 6762, 7686) or without sites (RFC 3172).
_SPECIAL: Final = frozenset({"localhost", "local", "onion", "invalid", "arpa"})
PORT: Final = 53


def parse_domain(text: str) -> str:
    """Return the one spelling of a host name that somebody wants to claim: lower case, A-labels, no dot at the end.

    Raises `InvalidFields` for what is no host name of the DNS. Whether it may be claimed, `refuse_domain` says.

    >>> parse_domain("Bücher.Example.")
    'xn--bcher-kva.example'
    """
    text = text.strip()
    if problem := _spelling_problem(text):
        raise _refusal(problem)
    try:
        host = parse_host([text.encode()])
    except (BadHost, UnicodeEncodeError):
        raise _refusal("is no host name: labels of letters, digits and inner hyphens, parted by dots") from None
    # Digits of other scripts are those of an address once they are spelled as a host.
    if problem := _spelling_problem(host):
        raise _refusal(problem)
    if len(host) > NAME_LENGTH:
        raise _refusal(f"is longer than {NAME_LENGTH} characters")
    if any(label.startswith("xn--") and not _is_a_label(label) for label in host.split(".")):
        raise _refusal("has a label that begins with xn-- and stands for no name")
    return host


def _spelling_problem(text: str) -> str | None:
    if "/" in text or "@" in text or "?" in text:
        return "is a host name alone: no scheme, no path"
    if "*" in text:
        return "can't be a wildcard: add each name"
    # Also the spellings of addresses that some programs read: 127.1, 0x7f000001.
    last = text.rstrip(".").rpartition(".")[2].lower()
    if parse_address(text) is not None or last.isdecimal() or last.startswith("0x"):
        return "is an address, not a name"
    if ":" in text:
        return "is a host name alone: no port"
    return None


def _is_a_label(label: str) -> bool:
    try:
        return idna.encode(idna.decode(label)).decode("ascii") == label
    except UnicodeError:
        return False


def refuse_domain(host: str, *, base_domain: str, own_hosts: Collection[str], apex: str | None) -> None:
    """Raise `InvalidFields` for a host that nobody can claim: the platform's own, or one that has no single owner.

    `own_hosts` are the platform's besides those below `base_domain`. `apex` is the host's registrable domain, None
    where the host is a public suffix (`co.uk`).
    """
    if host == base_domain or host.endswith("." + base_domain) or host in own_hosts:
        raise _refusal("belongs to the platform")
    if host.rpartition(".")[2] in _SPECIAL:
        raise _refusal("can't be proved: names like it have no owner in the DNS")
    if apex is None:
        raise _refusal("is a public suffix: nobody owns it alone")


def _refusal(problem: str) -> InvalidFields:
    return InvalidFields((FieldProblem("host", problem),))


def proof_name(host: str) -> str:
    """Return where the record that proves a claim of `host` stands."""
    return f"{PROOF_LABEL}.{host}"


def proof_value(token: str) -> str:
    """Return what that record says."""
    return f"{PROOF_PREFIX}{token}"


def list_records(
    host: str, token: str, *, apex: str | None, target: str, addresses: Sequence[str]
) -> tuple[DnsRecord, ...]:
    """Return the records that the owner of `host` sets: the proof, and the way to the edges.

    An apex can't be a CNAME (RFC 1034 §3.6.2), so it gets the edges' `addresses`; where the platform names none, what
    its DNS host offers in a CNAME's place.
    """
    proof = DnsRecord("TXT", proof_name(host), proof_value(token), "ownership")
    if host != apex:
        return (proof, DnsRecord("CNAME", host, target, "routing"))
    if not addresses:
        return (proof, DnsRecord("ALIAS", host, target, "routing"))
    kinds = {4: "A", 6: "AAAA"}
    return (proof, *(DnsRecord(kinds[ip_address(one).version], host, one, "routing") for one in addresses))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a claim may go unproved, how long a held name may fail, how often a good one is looked at again."""

    claim: timedelta
    grace: timedelta
    recheck: timedelta


# What an unproved claim, and one whose way is missing, is looked at by: up to this age, so often.
_YOUNG: Final = (
    (timedelta(minutes=10), timedelta(seconds=10)),
    (timedelta(hours=1), timedelta(minutes=1)),
    (timedelta(days=1), timedelta(minutes=10)),
    (timedelta.max, timedelta(hours=1)),
)
_FAILING: Final = timedelta(minutes=30)
# A good one that could not be looked at is tried again before its day is over.
_UNKNOWN: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is decided about a claim: its state, and what is wrong in words. `check_in` None: never by itself."""

    state: DomainState
    problem: str
    check_in: timedelta | None


# What a look at a held name leads to, by whether its proof and its way were found. `None`: nobody could say.
_HELD: Final = MappingProxyType(
    {
        (True, True): DomainState.ACTIVE,
        (True, False): DomainState.MISROUTED,
        (True, None): None,
        (False, True): DomainState.ACTIVE,
        (False, False): DomainState.FAILING,
        (False, None): None,
        (None, True): DomainState.ACTIVE,
        (None, False): None,
        (None, None): None,
    }
)


def decide_standing(
    host: str,
    state: DomainState,
    *,
    ownership: Verdict,
    routing: Verdict,
    since: datetime,
    now: datetime,
    patience: Patience,
) -> Standing:
    """Return where a claim stands after a look at its DNS; `since` is when it came into `state`.

    Only the TXT record proves a claim: a name that leads here may do so from a time when it was another's. Once
    proved, record or way keeps it. Silence of the DNS takes nothing away, and proves nothing.
    """
    if state is DomainState.LAPSED:
        return Standing(state, "", None)
    if state is DomainState.PENDING:
        return _decide_pending(host, ownership, routing, since, now, patience)
    found = _HELD[ownership.holds, routing.holds]
    if found is None:
        kept = DomainState.MISROUTED if state is DomainState.FAILING and ownership.holds else state
        pause = min(_UNKNOWN, _next_check(host, kept, since, now, patience))
        return Standing(kept, routing.reason or ownership.reason, pause)
    if found is not DomainState.FAILING:
        # That the proof is gone is no trouble where the way is good.
        problem = "" if routing.holds else routing.reason
        return Standing(found, problem, _next_check(host, found, since if found is state else now, now, patience))
    ends = (since if state is DomainState.FAILING else now) + patience.grace
    if now >= ends:
        return Standing(DomainState.LAPSED, f"Released: {routing.reason} {ownership.reason}", None)
    problem = f"{routing.reason} {ownership.reason} It is released on {ends:%Y-%m-%d %H:%M} UTC."
    return Standing(found, problem, _next_check(host, found, now, now, patience))


def _decide_pending(
    host: str, ownership: Verdict, routing: Verdict, since: datetime, now: datetime, patience: Patience
) -> Standing:
    if ownership.holds:
        found = DomainState.ACTIVE if routing.holds else DomainState.MISROUTED
        problem = "" if routing.holds else routing.reason
        return Standing(found, problem, _next_check(host, found, now, now, patience))
    problem = " ".join(verdict.reason for verdict in (ownership, routing) if not verdict.holds)
    if now >= since + patience.claim:
        return Standing(DomainState.LAPSED, f"Not proved in time: {problem}", None)
    return Standing(DomainState.PENDING, problem, _next_check(host, DomainState.PENDING, since, now, patience))


def _next_check(host: str, state: DomainState, since: datetime, now: datetime, patience: Patience) -> timedelta:
    if state is DomainState.ACTIVE:
        return _spread(host, patience.recheck)
    if state is DomainState.FAILING:
        return min(_FAILING, patience.recheck)
    age = now - since
    return next(pause for limit, pause in _YOUNG if age < limit)


def _spread(host: str, pause: timedelta) -> timedelta:
    # Up to a tenth less, by the name: a thousand domains of one day are not looked at in one minute for ever.
    return pause * (1 - (zlib.crc32(host.encode()) % 1000) / 10_000)


def refuse_redirect(host: str, target: str, *, redirects: Mapping[str, str | None]) -> str | None:
    """Return why `host` can't redirect to `target`; None when it can: a redirect never leads to another one.

    `redirects` are the hosts that the project claims, with where each redirects to.
    """
    if target == host:
        return "is the domain itself"
    if target not in redirects:
        return "is no domain of this project"
    if redirects[target] is not None:
        return f"redirects itself, to {redirects[target]}"
    if host in redirects.values():
        return "can't be: other domains of the project redirect to this one"
    return None


def parse_servers(text: str) -> tuple[tuple[str, int], ...]:
    """Return address and port of each resolver in a comma-separated list; raises `ValueError` for what is none.

    >>> parse_servers("192.0.2.53, [2001:db8::53]:5353")
    (('192.0.2.53', 53), ('2001:db8::53', 5353))
    """
    return tuple(_parse_server(part.strip()) for part in text.split(",") if part.strip())


def _parse_server(text: str) -> tuple[str, int]:
    # `2001:db8::53` is an address alone; with a port it stands in brackets.
    name, _, port = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", "")
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    address, number = str(ip_address(name)), int(port or PORT)
    if not 0 < number < 65536:
        raise ValueError(f"{number} is no port")
    return address, number


def parse_addresses(text: str) -> tuple[str, ...]:
    """Return the addresses of a comma-separated list, each once; raises `ValueError` for what is none."""
    return tuple(dict.fromkeys(str(ip_address(part.strip())) for part in text.split(",") if part.strip()))
