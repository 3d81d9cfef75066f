"""Custom domains."""

from __future__ import annotations

from typing import Final

from .. import bodies
from ..guard import Route
from ..views import domain_shapes, domains

# A look at the DNS takes ten seconds at most.
ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        "/api/domains",
        domains.list_domains,
        "see domains",
        domain_shapes.DomainList,
        query=bodies.DomainsQuery,
    ),
    Route(
        "GET",
        "/api/domains/projects/<project>",
        domains.list_project_domains,
        "see domains",
        domain_shapes.DomainList,
        query=bodies.PagedQuery,
    ),
    Route(
        "POST",
        "/api/domains/projects/<project>",
        domains.add_domain,
        "change domains",
        domain_shapes.DomainShape,
        status=201,
        body=bodies.NewDomain,
    ),
    Route(
        "GET",
        "/api/domains/resolve/<host>",
        domains.resolve_host,
        "see domains",
        domain_shapes.ResolvedShape,
    ),
    Route("GET", "/api/domains/<domain>", domains.show_domain, "see domains", domain_shapes.DomainShape),
    Route(
        "PATCH",
        "/api/domains/<domain>",
        domains.change_domain,
        "change domains",
        domain_shapes.DomainShape,
        body=bodies.DomainChange,
    ),
    Route("DELETE", "/api/domains/<domain>", domains.remove_domain, "change domains", status=204),
    Route(
        "POST",
        "/api/domains/<domain>/verify",
        domains.verify_domain,
        "change domains",
        domain_shapes.DomainShape,
    ),
)
