"""The page of a project's domains: claim one, the records to set, where each stands, redirect, check now, remove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from vclone_core.actions import domain_checks, domains, projects
from vclone_core.errors import VcloneError
from vclone_core.models import DnsRecord, Domain, DomainState, Project
from vclone_core.rules.access import may

from .visit import Go, Page, Show, Visit

SEE: Final = "see domains"
CHANGE: Final = "change domains"


@dataclass(frozen=True, slots=True)
class DomainCard:
    """A domain as the page shows it. `targets` are the domains that it can redirect to."""

    domain: Domain
    url: str
    records: tuple[DnsRecord, ...]
    targets: tuple[str, ...]
    is_open: bool  # its records are shown at once: there is something to do


async def show_domains(visit: Visit, project: str) -> Show:
    """Every domain of a project."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    return Show("domains.html", await facts_of(visit, found))


async def add_domain(visit: Visit, project: str) -> Show | Go:
    """Claim a host name."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    host = visit.form.get("host", "")
    try:
        added = await domains.add_domain(
            visit.platform, visit.actor, found, host, branch=visit.form.get("branch", "").strip() or None
        )
    except VcloneError as error:
        return Show("domains.html", {**await facts_of(visit, found), "form": visit.form}, error)
    visit.change.facts |= {"host": added.host, "domain": added.id}
    return Go(f"/projects/{found.name}/domains")


async def verify_domain(visit: Visit, project: str, domain: str) -> Go:
    """Look at a domain's DNS now."""
    found, one = await find(visit, project, domain)
    await domain_checks.check_domain(visit.platform, visit.actor, one)
    return Go(f"/projects/{found.name}/domains")


async def change_domain(visit: Visit, project: str, domain: str) -> Go:
    """Have a domain redirect to another, or not."""
    found, one = await find(visit, project, domain)
    target = visit.form.get("redirect_to") or None
    branch = one.branch if target is None else None
    changed = await domains.change_domain(visit.platform, visit.actor, one, redirect_to=target, branch=branch)
    visit.change.facts |= {"host": changed.host, "redirect_to": changed.redirect_to}
    return Go(f"/projects/{found.name}/domains")


async def remove_domain(visit: Visit, project: str, domain: str) -> Go:
    """Give a domain up."""
    found, one = await find(visit, project, domain)
    visit.change.facts |= {"host": one.host, "project": found.name}
    await domains.remove_domain(visit.platform, visit.actor, one)
    return Go(f"/projects/{found.name}/domains")


async def find(visit: Visit, project: str, domain: str) -> tuple[Project, Domain]:
    found = await projects.find_project(visit.platform, visit.actor, project)
    return found, await domains.find_domain(visit.platform, visit.actor, domain)


async def facts_of(visit: Visit, project: Project) -> dict[str, Any]:
    listed = await domains.list_domains(visit.platform, visit.actor, project=project)
    final = [one.host for one in listed if one.redirect_to is None]
    pointed_at = {one.redirect_to for one in listed}
    cards = [
        DomainCard(
            one,
            visit.platform.settings.site_url(one.host),
            await domains.records_of(visit.platform, one),
            () if one.host in pointed_at else tuple(host for host in final if host != one.host),
            one.state is not DomainState.ACTIVE,
        )
        for one in listed
    ]
    return {"project": project, "cards": cards, "may_change": may(visit.actor, CHANGE), "form": {}}


PAGES: Final[tuple[Page, ...]] = (
    Page("GET", "/projects/<project>/domains", show_domains, SEE),
    Page("POST", "/projects/<project>/domains", add_domain, CHANGE),
    Page("POST", "/projects/<project>/domains/<domain>/verify", verify_domain, CHANGE),
    Page("POST", "/projects/<project>/domains/<domain>/redirect", change_domain, CHANGE),
    Page("POST", "/projects/<project>/domains/<domain>/delete", remove_domain, CHANGE),
)
