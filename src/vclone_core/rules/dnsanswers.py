"""What several servers' answers amount to: is the proof there, does the name lead here, and if not, why in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

VALUES_SHOWN: Final = 3
VALUE_LENGTH: Final = 60
SERVERS_SHOWN: Final = 4
# Of several resolvers so many must say the same: one alone may lie, or be behind.
AGREEING: Final = 2


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """What one server says of a name: `values`, or a `flaw` (`does not exist (NXDOMAIN)`), or a `failure` to answer.

    `chain` are the names that CNAMEs led to. `is_bogus`: a signature of DNSSEC is wrong, so somebody may be lying.
    """

    server: str
    values: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    flaw: str = ""
    failure: str = ""
    is_bogus: bool = False


@dataclass(frozen=True, slots=True)
class Findings:
    """One look at a claim. `proofs` are the resolvers' answers about the TXT record, `zone` those of the zone's own
    servers (none: they weren't asked); `ways` the resolvers' about addresses. `expected` are the edges' addresses.
    """

    proofs: tuple[DnsAnswer, ...]
    ways: tuple[DnsAnswer, ...]
    zone: tuple[DnsAnswer, ...] = ()
    expected: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something holds, None: nobody can say. `reason` says why not, as a sentence."""

    holds: bool | None
    reason: str = ""


def judge_ownership(name: str, wanted: str, findings: Findings) -> Verdict:
    """Say whether the TXT record `name` says `wanted`.

    The zone's own servers have the last word, if all that answer say the same: a resolver may remember for an hour that
    there was no record. Where they can't be asked, the resolvers have it.
    """
    answers = (*findings.zone, *findings.proofs)
    if bogus := [answer for answer in answers if answer.is_bogus]:
        return Verdict(None, f"{name}: {_tell_failures(bogus)}.")

    def holds(answer: DnsAnswer) -> bool:
        # A record that a CNAME leads to is another name's: `*.example.com CNAME elsewhere` must not prove for us.
        return not answer.chain and wanted in answer.values

    def tell(answer: DnsAnswer) -> str:
        if answer.chain:
            return f"{name} is a CNAME to {show(answer.chain[0])}: it has to be a TXT record itself."
        if answer.flaw:
            return f"{name} {answer.flaw}; expected TXT {wanted}."
        return f"{name} has TXT {_show_values(answer.values)}, expected {wanted}."

    if any(not answer.failure for answer in findings.zone):
        return _agree(name, findings.zone, holds, tell, needed=1, is_unanimous=True)
    return _agree(name, findings.proofs, holds, tell, needed=min(AGREEING, len(findings.proofs)))


def judge_routing(host: str, target: str, findings: Findings, *, is_apex: bool) -> Verdict:
    """Say whether `host` leads to the edges: by a CNAME to `target`, or with none but their addresses.

    Either will do; which of them is expected in words is what `is_apex`, a registrable domain, can have. Nobody can say
    while the edges' own addresses are unknown: that is the operator's trouble, and must cost no domain.
    """
    expected = findings.expected
    if not expected and not any(target in answer.chain for answer in findings.ways):
        return Verdict(None, f"Nothing can be compared with it: {target}, where {host} is to lead, has no address.")
    wanted = " or ".join(sorted(expected)) if is_apex and expected else f"CNAME {target}"

    def holds(answer: DnsAnswer) -> bool:
        if not answer.values:
            return False
        return target in answer.chain or (bool(expected) and expected.issuperset(answer.values))

    def tell(answer: DnsAnswer) -> str:
        if answer.flaw:
            way = f"{host} is a CNAME to {show(answer.chain[-1])}, which" if answer.chain else host
            return f"{way} {answer.flaw}; expected {wanted}."
        if answer.chain:
            return (
                f"{host} is a CNAME to {show(answer.chain[0])} ({_tell_addresses(answer.values)}), expected {wanted}."
            )
        wrong = [value for value in answer.values if value not in expected]
        if expected and len(wrong) < len(answer.values):
            return f"{host} also has {_tell_addresses(wrong)}, which leads elsewhere; expected only {wanted}."
        return f"{host} has {_tell_addresses(answer.values)}, expected {wanted}."

    return _agree(host, findings.ways, holds, tell, needed=min(AGREEING, len(findings.ways)))


def _agree(
    name: str,
    answers: Sequence[DnsAnswer],
    holds: Callable[[DnsAnswer], bool],
    tell: Callable[[DnsAnswer], str],
    *,
    needed: int,
    is_unanimous: bool = False,
) -> Verdict:
    """Return what most of the servers that answer say, if `needed` of them do; with `is_unanimous` all of them."""
    heard = [answer for answer in answers if not answer.failure]
    good = [answer for answer in heard if holds(answer)]
    bad = [answer for answer in heard if not holds(answer)]
    most, others = (good, bad) if len(good) >= len(bad) else (bad, good)
    if len(most) >= needed > 0 and (not others if is_unanimous else len(most) > len(others)):
        return Verdict(True) if most is good else Verdict(False, tell(bad[0]))
    if good and bad:
        return Verdict(
            None,
            f"Name servers disagree about {name}: {_list([one.server for one in good])} has what is expected,"
            f" {_list([one.server for one in bad])} says: {tell(bad[0])}",
        )
    if not answers:
        return Verdict(None, f"There is no resolver to ask about {name}.")
    return Verdict(None, f"Too few answers about {name}: {_tell_failures([one for one in answers if one.failure])}.")


def show(text: str) -> str:
    """Return what a stranger's server said as it can be shown: short, and printable ASCII.

    >>> show("a" * 80)[-3:], show("x\\x1b[2J")
    ('aa…', 'x?[2J')
    """
    plain = "".join(letter if " " <= letter <= "~" else "?" for letter in text[: VALUE_LENGTH + 1])
    return plain if len(text) <= VALUE_LENGTH else f"{plain[:VALUE_LENGTH]}…"


def _show_values(values: Collection[str]) -> str:
    shown = [f'"{show(value)}"' for value in list(values)[:VALUES_SHOWN]]
    more = len(values) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _tell_addresses(values: Sequence[str]) -> str:
    if not values:
        return "no address"
    shown = [f"{'AAAA' if ':' in value else 'A'} {show(value)}" for value in values[:VALUES_SHOWN]]
    more = len(values) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _tell_failures(answers: Sequence[DnsAnswer]) -> str:
    return ", ".join(f"{one.server} {one.failure}" for one in answers[:SERVERS_SHOWN])


def _list(servers: Sequence[str]) -> str:
    return ", ".join(servers[:SERVERS_SHOWN])
