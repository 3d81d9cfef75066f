"""Every operation of the API: method, path, view, and what it takes to be let in. One table per area, joined here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from ..guard import Route
from . import domains, git, people, projects, protection, teams, webhooks


def find_made(routes: Iterable[Route]) -> Iterator[Route]:
    """Yield `routes`; one that makes something says where that is shown, if it is below the route's own address."""
    routes = tuple(routes)
    shown = {route.path.rpartition("/<")[0] for route in routes if route.method == "GET" and route.path.endswith(">")}
    for route in routes:
        makes = route.method == "POST" and route.status == 201 and route.made_at is None and route.path in shown
        yield replace(route, made_at=route.path) if makes else route


_AREAS: Final = (projects, git, domains, protection, people, teams, webhooks)
ROUTES: Final[tuple[Route, ...]] = tuple(find_made(route for area in _AREAS for route in area.ROUTES))
