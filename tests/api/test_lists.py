"""Lists in pages: every one of them, with cursors that nobody can make up, whatever is added meanwhile."""

from __future__ import annotations

import re
from typing import Any, get_type_hints
from urllib.parse import quote

import pytest

from vclone_api.bodies import PagedQuery
from vclone_api.routes import ROUTES
from vclone_core.actions import variables
from vclone_core.rules.variables import NewVariable

from .conftest import Api

# Answers with items and no cursor.
UNPAGED = {
    "GET /api/projects/<project>/deploy-key": "a project has one",
    "GET /api/projects/<project>/git/deliveries": "a look at the newest; `limit` says at how many",
    "GET /api/projects/<project>/git/reports": "a look at the newest 50",
    "GET /api/deployments/<deployment>/logs": "its lines are numbered: `after` is their cursor",
}


def test_every_list_comes_in_pages() -> None:
    for route in ROUTES:
        name = f"{route.method} {route.path}"
        if route.method != "GET" or "items" not in getattr(route.answer, "__annotations__", {}):
            continue
        is_paged = route.query is not None and issubclass(route.query, PagedQuery)
        assert is_paged != (name in UNPAGED), name
        assert ("next_cursor" in get_type_hints(route.answer)) == is_paged, name


async def walk(api: Api, path: str, *, limit: int) -> list[dict[str, Any]]:
    """Follow the `Link` field from page to page."""
    found: list[dict[str, Any]] = []
    next_path: str | None = f"{path}{'&' if '?' in path else '?'}limit={limit}"
    while next_path is not None:
        response = await api.response("GET", next_path)
        page = await response.get_json()
        assert len(page["items"]) <= limit
        found += page["items"]
        link = re.fullmatch(r'<(.+)>; rel="next"', response.headers.get("link", ""))
        assert (link is None) == (page["next_cursor"] is None)
        next_path = link[1] if link else None
    return found


async def test_pages_hold_every_item_once(api: Api) -> None:
    project = await api.project()
    asked = [NewVariable(f"K_{n}", "v", ("production", "preview")) for n in range(4)]
    await variables.save_variables(api.platform, api.owner, project, asked)
    for _ in range(3):
        await api.live(project)
        await api.ask("POST", "/api/tokens", json={"name": "t", "scopes": ["read"]})
    team = api.owner.team_id
    paths = (
        f"/api/env/{project.id}", "/api/deployments", "/api/projects", "/api/tokens", "/api/audit", "/api/events",
        f"/api/aliases?project={project.id}", f"/api/teams/{team}/members", "/api/teams", "/api/auth/sessions",
    )  # fmt: skip
    for path in paths:
        whole = (await api.ask("GET", path))[1]["items"]
        for limit in (1, 2, 3):
            assert await walk(api, path, limit=limit) == whole, (path, limit)
    assert len((await api.ask("GET", f"/api/env/{project.id}"))[1]["items"]) == 8


async def test_what_is_added_meanwhile_moves_nothing(api: Api) -> None:
    made = {(await api.project()).id for _ in range(4)}
    before = [one["id"] for one in (await api.ask("GET", "/api/projects"))[1]["items"]]
    assert set(before) == made
    _, first = await api.ask("GET", "/api/projects?limit=2")
    await api.project()
    _, second = await api.ask("GET", f"/api/projects?limit=2&cursor={first['next_cursor']}")
    assert [one["id"] for one in first["items"] + second["items"]] == before


async def test_a_cursor_opens_its_own_list_alone(api: Api) -> None:
    project = await api.project()
    for _ in range(3):
        await api.queued(project)
        await api.project()
    cursor = (await api.ask("GET", "/api/projects?limit=1"))[1]["next_cursor"]
    position, _, code = cursor.partition(".")
    forged = [
        f"/api/deployments?cursor={cursor}",
        f"/api/projects?cursor={cursor[:-1]}{'A' if cursor[-1] != 'A' else 'B'}",
        f"/api/projects?cursor={position[:-2]}AA.{code}",
        f"/api/projects?cursor={quote('ä')}",
        "/api/projects?cursor=",
        "/api/projects?cursor=prj_1",
        f"/api/projects?cursor={cursor}&cursor={cursor}",
    ]
    for path in forged:
        status, problem = await api.ask("GET", path)
        assert (status, [one["field"] for one in problem.get("problems", ())]) == (400, ["cursor"]), (path, problem)
    status, problem = await api.ask("GET", f"/api/projects?cursor={cursor}", "stranger")
    assert (status, problem["problems"][0]["field"]) == (400, "cursor")
    filtered = (await api.ask("GET", f"/api/deployments?limit=1&project={project.id}"))[1]["next_cursor"]
    assert (await api.ask("GET", f"/api/deployments?cursor={filtered}"))[0] == 400


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "nonsense=1"])
async def test_bad_queries_are_refused(api: Api, query: str) -> None:
    status, problem = await api.ask("GET", f"/api/projects?{query}")
    assert (status, problem["code"]) == (400, "invalid_fields")


async def test_a_route_that_takes_no_query_refuses_one(api: Api) -> None:
    status, problem = await api.ask("GET", "/api/me?nonsense=1")
    assert (status, problem["problems"][0]["field"]) == (400, "nonsense")
    assert (await api.ask("GET", f"/api/me?team={api.owner.team_id}"))[0] == 200
