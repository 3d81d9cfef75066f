"""Looks at the DNS of claimed domains, whenever that is due, and does what follows: proved names are served, lost ones
released. Any number of processes share the work: each claim is looked at by one.

due -> hold it -> ask the DNS -> one rule (rules/domains.py) -> one transaction -> edges and audit log
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from vclone_core.actions import audit
from vclone_core.actions.domains import Shifts, find_domain, make_token, target_of
from vclone_core.actions.platform import Platform
from vclone_core.actions.sites import lock_moves
from vclone_core.errors import VcloneError
from vclone_core.log import get_log
from vclone_core.models import HELD, Actor, Domain, DomainState
from vclone_core.rules.access import require
from vclone_core.rules.dnsanswers import judge_ownership, judge_routing
from vclone_core.rules.domains import (
    Patience,
    Standing,
    decide_standing,
    parse_addresses,
    proof_name,
    proof_value,
)
from vclone_core.settings import Settings
from vclone_core.stores import records
from vclone_core.stores.postgres import Transaction
from vclone_core.stores.suffixes import find_apex

if TYPE_CHECKING:
    from vclone_core.stores.dns import Dns

log = get_log(__name__)

# How often a process asks for what is due, and how much of it it takes.
EVERY_S: Final = 2.0
AT_ONCE: Final = 64
# Longer than a look takes (`stores/dns.py`): who holds a claim longer has died.
HOLD_S: Final = 60.0
# Somebody who presses the button again gets the answer of just now.
FRESH_S: Final = 2.0
TAKEN: Final = "Another project has proved that this name is its own. Check again to prove it anew, with a new record."


async def check_domain(platform: Platform, actor: Actor, domain: Domain) -> Domain:
    """Look at a claim now and return where it stands; a lapsed one begins anew, with another token."""
    require(actor, "change domains")
    if domain.state is DomainState.LAPSED:
        await platform.db.execute("restart_domain", domain.id, make_token())
    row = await platform.db.fetch_one("hold_domain", domain.id, HOLD_S, FRESH_S)
    if row is not None:
        resolvers = await asyncio.to_thread(_open_dns, platform.settings)
        await _check(platform, resolvers, records.domain_from(row), actor_id=actor.user_id)
    return await find_domain(platform, actor, domain.id)


async def check_due(platform: Platform) -> int:
    """Look at the claims that are due and return how many there were, at most `AT_ONCE`."""
    due = [records.domain_from(row) for row in await platform.db.fetch("claim_due_domains", AT_ONCE, HOLD_S)]
    if due:
        resolvers = await asyncio.to_thread(_open_dns, platform.settings)
        await asyncio.gather(*(_check_safely(platform, resolvers, one) for one in due))
    return len(due)


async def keep_checking(platform: Platform) -> None:
    """Look at what is due, for as long as the process runs."""
    is_down = False
    while True:
        found = 0
        try:
            found = await check_due(platform)
            is_down = False
        except VcloneError as error:
            if not is_down:
                log.warning("domains.unreadable", why=error.sentence)
            is_down = True
        except Exception:
            # A border: a bug with one claim must not leave all others unwatched.
            log.exception("domains.crashed")
        if found < AT_ONCE:
            await asyncio.sleep(EVERY_S)


async def _check_safely(platform: Platform, resolvers: Dns, domain: Domain) -> None:
    try:
        await _check(platform, resolvers, domain, actor_id=None)
    except VcloneError as error:
        log.warning("domain.unchecked", host=domain.host, why=error.sentence)
    except Exception:
        # A border, as above: what the DNS says is a stranger's.
        log.exception("domain.crashed", host=domain.host)


async def _check(platform: Platform, resolvers: Dns, domain: Domain, *, actor_id: str | None) -> None:
    settings = platform.settings
    target, name = target_of(settings), proof_name(domain.host)
    apex = await find_apex(domain.host) or domain.host
    findings = await resolvers.look(
        domain.host,
        apex=apex,
        target=target,
        addresses=parse_addresses(settings.domain_addresses),
    )
    row = await platform.db.fetch_one("fetch_now")
    assert row is not None
    standing = decide_standing(
        domain.host,
        domain.state,
        ownership=judge_ownership(name, proof_value(domain.token), findings),
        routing=judge_routing(domain.host, target, findings, is_apex=domain.host == apex),
        since=domain.since,
        now=row["now"],
        patience=_patience(platform),
    )
    await _settle(platform, domain, standing, actor_id=actor_id)


async def _settle(platform: Platform, domain: Domain, standing: Standing, *, actor_id: str | None) -> None:
    """Write down where a claim stands, and have its host show what follows from that, in one transaction."""
    shifts = Shifts(platform)
    displaced: Domain | None = None
    team_id = None
    is_held = standing.state in HELD
    async with platform.db.transaction() as tx:
        if is_held != domain.is_held:
            await lock_moves(tx)
        row = await tx.fetch_one("lock_domain", domain.id)
        # Meanwhile removed, begun anew, or decided by another process: this look is of no use any more.
        if row is None or (row["token"], row["state"]) != (domain.token, domain.state):
            return
        if is_held and not domain.is_held:
            displaced, team_id = await _displace(tx, domain, shifts, actor_id)
        pause_s = None if standing.check_in is None else standing.check_in.total_seconds()
        await tx.execute("save_domain_check", domain.id, standing.state.value, is_held, standing.problem, pause_s)
        if is_held != domain.is_held:
            await shifts.show(tx, replace(domain, state=standing.state), actor_id)
        if standing.state is not domain.state:
            await _note(tx, domain, f"domain_{standing.state.value}", actor_id=actor_id)
        if displaced is not None and team_id is not None:
            await _note(tx, displaced, "domain_displaced", team_id=team_id, actor_id=None)
    if standing.state is not domain.state:
        log.info("domain.changed", host=domain.host, state=standing.state.value, why=standing.problem)
    await shifts.tell()


async def _displace(
    tx: Transaction, domain: Domain, shifts: Shifts, actor_id: str | None
) -> tuple[Domain | None, str | None]:
    """Take a host from who holds it: whoever sets a claim's TXT record now owns the name now.

    The other claim gets a new token, so that its old record, which may still be there, doesn't take the name back.
    """
    row = await tx.fetch_one("fetch_domain_holder", domain.host, domain.id)
    if row is None:
        return None, None
    holder = records.domain_from(row)
    await tx.execute("displace_domain", holder.id, make_token(), TAKEN)
    await shifts.show(tx, replace(holder, state=DomainState.LAPSED), actor_id)
    return holder, row["team_id"]


async def _note(
    tx: Transaction, domain: Domain, action: str, *, actor_id: str | None, team_id: str | None = None
) -> None:
    """Write a change that nobody asked for by a request into the team's audit log."""
    if team_id is None:
        project = await records.fetch_project_by_id(tx, domain.project_id)
        team_id = None if project is None else project.team_id
    facts = {"project": domain.project_name, "domain": domain.id}
    await audit.settle(tx, audit.Note(team_id, actor_id, action, domain.host, facts, request_id="", address=""))


def _patience(platform: Platform) -> Patience:
    settings = platform.settings
    return Patience(
        claim=timedelta(days=settings.domain_claim_days),
        grace=timedelta(days=settings.domain_grace_days),
        recheck=timedelta(hours=settings.domain_recheck_h),
    )


def _open_dns(settings: Settings) -> Dns:
    # A third of a second of imports, which most starts of an API don't need; and it reads a file.
    from vclone_core.stores.dns import open_dns

    return open_dns(settings)
