"""Hosts that a team points at deployments itself: which it may have, what it may not take, what edges are told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vclone_core.actions.owners import insert_token

from .claims import Rivals
from .conftest import Api


async def put(api: Api, host: str, deployment: str, caller: str = "owner") -> tuple[int, Any]:
    return await api.ask("PUT", f"/api/aliases/{host}", caller, json={"deployment": deployment})


async def site(api: Api, host: str) -> Any:
    status, found = await api.ask("GET", f"/internal/v1/sites/{host}", "edge")
    return found if status == 200 else None


async def test_a_free_host_shows_what_it_is_pointed_at(api: Api) -> None:
    project = await api.project()
    one, two = await api.live(project), await api.live(project)
    name = f"try-{project.name}"
    status, made = await put(api, name, one.id)
    assert status == 200, made
    host = f"{name}.localhost"
    assert (made["alias"]["host"], made["alias"]["deployment_id"]) == (host, one.id)
    assert (await site(api, host))["deployment_id"] == one.id
    # The same again moves nothing; another deployment, also by a host of it, moves it.
    assert (await put(api, host, one.id))[1]["alias"]["version"] == made["alias"]["version"]
    status, moved = await put(api, host.upper(), f"{project.name}.localhost")
    assert (status, moved["alias"]["deployment_id"]) == (200, two.id)
    assert moved["alias"]["version"] > made["alias"]["version"]
    # No build takes it, and it is no reason to roll anything back.
    three = await api.live(project)
    assert (await site(api, host))["deployment_id"] == two.id
    assert (await site(api, f"{project.name}.localhost"))["deployment_id"] == three.id
    assert (await api.ask("DELETE", f"/api/aliases/{name}"))[0] == 204
    assert await site(api, host) is None
    assert (await api.ask("DELETE", f"/api/aliases/{name}"))[0] == 404
    _, log = await api.ask("GET", "/api/audit")
    told = [entry for entry in log["items"] if entry["facts"].get("host") == host]
    assert [entry["facts"]["deployment"] for entry in told] == [two.id, two.id, one.id, one.id]


async def test_edges_are_told_of_every_move_and_of_the_end(api: Api, rivals: Rivals) -> None:
    project = await api.project()
    one, two = await api.live(project), await api.live(project)
    host = f"told-{project.name}.localhost"
    for deployment in (one, two):
        await put(api, host, deployment.id)
    await api.ask("DELETE", f"/api/aliases/{host}")
    rows = await rivals.sql(
        f"select deployment_id, site, reason from alias_history where host = '{host}' order by version"
    )
    assert [(row["deployment_id"], row["reason"]) for row in rows] == [
        (one.id, "alias"),
        (two.id, "alias"),
        (None, "alias"),
    ]
    assert rows[2]["site"] is None


async def test_it_is_protected_as_a_preview_is(api: Api) -> None:
    project = await api.project()
    deployment = await api.live(project)
    await put(api, f"seen-{project.name}", deployment.id)
    assert (await site(api, f"seen-{project.name}.localhost"))["protection"] is None
    await api.ask("PATCH", f"/api/projects/{project.name}/protection", json={"covers": "previews"})
    assert (await site(api, f"seen-{project.name}.localhost"))["protection"] is not None
    assert (await site(api, f"{project.name}.localhost"))["protection"] is None


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("www", "belongs to the platform"),
        ("api.localhost", "belongs to the platform"),
        ("a.b.localhost", "more than one label"),
        ("shop-git-main", "has the form of a branch's host"),
        ("x" * 64, "is no host name"),
        ("a_b..localhost", "is no host name"),
        ("*.localhost", "can't be a wildcard"),
        ("127.0.0.1", "is an address"),
        ("nobodys.example", "is no domain of the deployment's project"),
        ("a:80", "no port"),
    ],
)
async def test_hosts_that_nobody_can_choose(api: Api, host: str, problem: str) -> None:
    deployment = await api.live(await api.project())
    status, answer = await put(api, host, deployment.id)
    assert status == 400 and problem in str(answer), answer


async def test_what_comes_with_a_project_is_not_taken_and_not_removed(api: Api) -> None:
    project, empty = await api.project(), await api.project()
    one = await api.live(project)
    two = await api.live(project)
    _, shown = await api.ask("GET", f"/api/deployments/{one.id}")
    own = next(host for host in shown["aliases"] if host.partition("-")[0] in one.id)
    # Its own, another deployment's, and a name whose project has shown nothing yet.
    for host in (project.name, own, empty.name):
        status, answer = await put(api, host, two.id)
        assert (status, answer["code"]) == (409, "conflict"), (host, answer)
    for host in (f"{project.name}.localhost", own):
        status, answer = await api.ask("DELETE", f"/api/aliases/{host}")
        assert status == 409 and "comes with its project" in answer["title"]
    # And the other way round: a project does not get a name that is somebody's alias.
    await put(api, "chosen-first", two.id)
    assert (await api.ask("POST", "/api/projects", json={"name": "chosen-first"}))[0] == 409
    await api.ask("DELETE", "/api/aliases/chosen-first")


async def test_another_teams_host_is_taken_or_not_there(rivals: Rivals) -> None:
    api = rivals.api
    mine, theirs = await api.live(rivals.project), await rivals.live(rivals.other)
    host = f"mine-{rivals.project.name}"
    assert (await put(api, host, mine.id))[0] == 200
    assert (await put(api, host, theirs.id, "stranger"))[0] == 409
    assert (await api.ask("DELETE", f"/api/aliases/{host}", "stranger"))[0] == 404
    assert (await put(api, f"x-{rivals.project.name}", mine.id, "stranger"))[0] == 404
    assert (await site(api, f"{host}.localhost"))["deployment_id"] == mine.id


async def test_a_domain_is_set_once_it_is_proved(rivals: Rivals) -> None:
    api = rivals.api
    one = await api.live(rivals.project)
    two = await api.live(rivals.project)
    claimed = await rivals.add("set.example")
    status, answer = await put(api, "set.example", one.id)
    assert status == 409 and "is not proved yet" in answer["title"]
    rivals.prove(claimed)
    await rivals.look()
    assert await rivals.served("set.example") == two.id
    assert (await put(api, "set.example", one.id))[0] == 200
    assert await rivals.served("set.example") == one.id
    # Another project of the platform has no say in it, nor has its own team once it redirects.
    theirs = await rivals.live(rivals.other)
    status, answer = await put(api, "set.example", theirs.id, "stranger")
    assert status == 400 and "is no domain of the deployment's project" in str(answer)
    status, answer = await api.ask("DELETE", "/api/aliases/set.example")
    assert status == 409
    await rivals.add("www.set.example")
    await api.ask("PATCH", "/api/domains/set.example", json={"redirect_to": "www.set.example"})
    assert (await put(api, "set.example", two.id))[0] == 409


async def test_a_deployment_that_is_not_ready_shows_nowhere(api: Api) -> None:
    project = await api.project()
    queued = await api.queued(project)
    status, answer = await put(api, f"soon-{project.name}", queued.id)
    assert (status, answer["code"]) == (409, "wrong_state")


async def test_of_many_at_once_one_gets_the_host(rivals: Rivals) -> None:
    api = rivals.api
    mine, theirs = await api.live(rivals.project), await rivals.live(rivals.other)
    host = f"race-{rivals.project.name}"
    asked = [put(api, host, *((mine.id, "owner") if n % 2 else (theirs.id, "stranger"))) for n in range(12)]
    answers = await asyncio.gather(*asked)
    won = {answer["alias"]["deployment_id"] for status, answer in answers if status == 200}
    assert len(won) == 1 and (await site(api, f"{host}.localhost"))["deployment_id"] in won
    assert {status for status, _ in answers} == {200, 409}


async def test_a_project_has_so_many_and_no_more(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vclone_core.actions.aliases.ALIASES_LIMIT", 2)
    project = await api.project()
    deployment = await api.live(project)
    answers = [await put(api, f"n{number}-{project.name}", deployment.id) for number in range(3)]
    assert [status for status, _ in answers] == [200, 200, 429]
    assert (await put(api, f"n0-{project.name}", deployment.id))[0] == 200


async def test_a_token_to_read_sets_nothing(api: Api) -> None:
    deployment = await api.live(await api.project())
    api.callers["reader"] = await insert_token(
        api.platform.db, api.owner.user_id, api.owner.team_id, name="r", scopes=("read",)
    )
    assert (await put(api, "anything", deployment.id, "reader"))[0] == 403
