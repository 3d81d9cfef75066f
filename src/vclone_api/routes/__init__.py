"""Every operation of the API: method, path, view, and what it takes to be let in. One table per area, joined here."""

from __future__ import annotations

from typing import Final

from ..guard import Route
from . import domains, git, people, projects, teams

ROUTES: Final[tuple[Route, ...]] = (
    *projects.ROUTES,
    *git.ROUTES,
    *domains.ROUTES,
    *people.ROUTES,
    *teams.ROUTES,
)
