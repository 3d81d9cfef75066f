"""Custom domains: claims with the DNS records that prove them, and what a host shows."""

from __future__ import annotations

from vclone_core.actions import domain_checks, domains, projects
from vclone_core.models import Domain

from ..bodies import DomainChange, NewDomain
from ..guard import Call
from ..paging import cut_page, position_of
from .domain_shapes import DomainList, DomainShape, ResolvedShape, shape_domain, shape_resolved


async def list_domains(call: Call) -> DomainList:
    """The domains of the team, newest first; `project` narrows them to one."""
    query = call.query
    project = await projects.find_project(call.platform, call.actor, query.project) if query.project else None
    found = await domains.list_domains(
        call.platform, call.actor, project=project, limit=query.limit + 1, before=position_of(call)
    )
    page, cursor = cut_page(call, found, key=lambda domain: domain.id)
    return {"items": [await _describe(call, one) for one in page], "next_cursor": cursor}


async def list_project_domains(call: Call, project: str) -> DomainList:
    """The domains of a project, newest first."""
    found = await projects.find_project(call.platform, call.actor, project)
    listed = await domains.list_domains(
        call.platform, call.actor, project=found, limit=call.query.limit + 1, before=position_of(call)
    )
    page, cursor = cut_page(call, listed, key=lambda domain: domain.id)
    return {"items": [await _describe(call, one) for one in page], "next_cursor": cursor}


async def add_domain(call: Call, project: str) -> DomainShape:
    """Claim a host name for a project; answers the DNS records to set."""
    body: NewDomain = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    added = await domains.add_domain(
        call.platform, call.actor, found, body.host, branch=body.branch, redirect_to=body.redirect_to
    )
    call.change.facts |= {"host": added.host, "domain": added.id}
    return await _describe(call, added)


async def show_domain(call: Call, domain: str) -> DomainShape:
    """One domain by its host or id: where it stands, what is wrong, which records to set."""
    return await _describe(call, await domains.find_domain(call.platform, call.actor, domain))


async def verify_domain(call: Call, domain: str) -> DomainShape:
    """Look at a domain's DNS now; a lapsed claim begins anew, with another record."""
    found = await domains.find_domain(call.platform, call.actor, domain)
    checked = await domain_checks.check_domain(call.platform, call.actor, found)
    call.change.facts |= {"host": checked.host, "state": checked.state.value}
    return await _describe(call, checked)


async def change_domain(call: Call, domain: str) -> DomainShape:
    """Have a domain redirect to another of its project, or show a branch, or production."""
    body: DomainChange = call.body
    found = await domains.find_domain(call.platform, call.actor, domain)
    changed = await domains.change_domain(
        call.platform, call.actor, found, redirect_to=body.redirect_to, branch=body.branch
    )
    call.change.facts |= {"host": changed.host, "redirect_to": changed.redirect_to, "branch": changed.branch}
    return await _describe(call, changed)


async def remove_domain(call: Call, domain: str) -> None:
    """End a claim: its host shows nothing from now on."""
    found = await domains.find_domain(call.platform, call.actor, domain)
    call.change.facts |= {"host": found.host, "project": found.project_name}
    await domains.remove_domain(call.platform, call.actor, found)


async def resolve_host(call: Call, host: str) -> ResolvedShape:
    """What a host of the team shows: its project, deployment and redirect."""
    return shape_resolved(await domains.resolve_host(call.platform, call.actor, host), call.platform.settings)


async def _describe(call: Call, one: Domain) -> DomainShape:
    return shape_domain(one, await domains.records_of(call.platform, one), call.platform.settings)
