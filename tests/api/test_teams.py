"""Teams, roles and invitations, and each way to misuse them; acting in one team or another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vclone_core.actions import accounts, owners, teams
from vclone_core.errors import Conflict, LastOwner
from vclone_core.models import Actor

from .conftest import Api, add_caller
from .test_people import opened


async def invited(api: Api, email: str, role: str = "developer", caller: str = "owner") -> tuple[int, Any]:
    team = api.owner.team_id
    return await api.ask("POST", f"/api/teams/{team}/invitations", caller, json={"email": email, "role": role})


async def newcomer(api: Api, name: str) -> Actor:
    """A user with a team of their own; `name` calls as them."""
    user_id = await owners.insert_user(api.platform.db, email=f"{name}@example.com", name=name)
    row = await api.platform.db.fetch_one("list_teams", user_id)
    assert row is not None
    actor = Actor(user_id, row["id"], "owner")
    api.callers[name] = await accounts.create_token(api.platform, actor, name="x")
    return actor


async def accept(api: Api, token: str, caller: str) -> int:
    return (await api.ask("POST", "/api/invitations/accept", caller, json={"token": token}))[0]


async def test_an_invitation_lets_its_address_in_once(api: Api) -> None:
    ann = await newcomer(api, "ann")
    await newcomer(api, "eve")
    status, made = await invited(api, "Ann@Example.com")
    assert status == 201 and made["url"].endswith(made["token"]) and made["token"].startswith("vci_")
    assert await accept(api, made["token"], "eve") == 403  # a link that was forwarded
    assert await accept(api, made["token"][:-1] + "0", "ann") == 404
    statuses = await asyncio.gather(*(accept(api, made["token"], "ann") for _ in range(5)))
    assert sorted(statuses) == [200, 404, 404, 404, 404]
    members = (await api.ask("GET", f"/api/teams/{api.owner.team_id}/members"))[1]["items"]
    assert [one["role"] for one in members if one["user"]["id"] == ann.user_id] == ["developer"]
    assert (await invited(api, "ann@example.com"))[0] == 409  # a member already


async def test_an_invitation_ends(api: Api) -> None:
    await newcomer(api, "ann")
    _, first = await invited(api, "ann@example.com")
    _, second = await invited(api, "ann@example.com")  # replaces the first
    assert await accept(api, first["token"], "ann") == 404
    path = f"/api/teams/{api.owner.team_id}/invitations"
    assert [one["id"] for one in (await api.ask("GET", path))[1]["items"]] == [second["id"]]
    assert (await api.ask("DELETE", f"{path}/{second['id']}"))[0] == 204
    assert await accept(api, second["token"], "ann") == 404
    _, third = await invited(api, "ann@example.com")
    async with api.platform.db._pool.acquire() as connection:
        await connection.execute("update invitations set expires_at = now() - interval '1 second'")
    assert await accept(api, third["token"], "ann") == 404


async def test_an_invitation_ends_with_its_inviters_right(api: Api) -> None:
    await newcomer(api, "ann")
    api.callers["admin"] = await add_caller(api.platform, role="admin", team_id=api.owner.team_id)
    admin = await accounts.actor_from_token(api.platform, api.callers["admin"])
    _, made = await invited(api, "ann@example.com", caller="admin")
    await teams.change_member(api.platform, api.owner, admin.user_id, role="viewer")
    assert await accept(api, made["token"], "ann") == 404


async def test_signing_up_with_an_invitation_joins(api: Api) -> None:
    _, made = await invited(api, "new@example.com", "viewer")
    app = opened(api, sign_up="invite")
    body = {"email": "other@example.com", "password": "correct horse battery", "invitation": made["token"]}
    assert (await app.test_client().post("/api/auth/signup", json=body)).status_code == 403
    response = await app.test_client().post("/api/auth/signup", json={**body, "email": "New@example.com"})
    answer = await response.get_json()
    assert response.status_code == 201
    bearer = {"Authorization": f"Bearer {answer['access_token']}"}
    found = (await api.ask("GET", "/api/teams", None, headers=bearer))[1]["items"]
    assert [(one["is_personal"], one["role"]) for one in found] == [(True, "owner"), (True, "viewer")]
    assert (await api.ask("GET", "/api/me", None, headers=bearer))[1]["role"] == "owner"  # in their own
    joined = (await api.ask("GET", "/api/audit?action=sign_up"))[1]["items"]
    assert [one["facts"]["email"] for one in joined] == ["new@example.com"]  # the team's log knows whom it has got
    there = {**bearer, "X-Vclone-Team": api.owner.team_id}
    assert (await api.ask("GET", "/api/me", None, headers=there))[1]["role"] == "viewer"


async def test_nobody_gives_more_than_they_have(api: Api) -> None:
    api.callers["admin"] = await add_caller(api.platform, role="admin", team_id=api.owner.team_id)
    admin = await accounts.actor_from_token(api.platform, api.callers["admin"])
    member = f"/api/teams/{api.owner.team_id}/members"
    assert (await invited(api, "x@example.com", "owner", "admin"))[0] == 403
    assert (await api.ask("PATCH", f"{member}/{admin.user_id}", "admin", json={"role": "owner"}))[0] == 403
    assert (await api.ask("PATCH", f"{member}/{api.owner.user_id}", "admin", json={"role": "viewer"}))[0] == 403
    assert (await api.ask("DELETE", f"{member}/{api.owner.user_id}", "admin"))[0] == 403
    assert (await api.ask("PATCH", f"{member}/{admin.user_id}", json={"role": "king"}))[0] == 400


async def test_the_last_owner_stays_also_when_two_leave_at_once(api: Api) -> None:
    first = await newcomer(api, "ann")
    team = await teams.create_team(api.platform, first, name="Crew")
    ann = Actor(first.user_id, team.id, "owner")
    with pytest.raises(LastOwner):
        await teams.remove_member(api.platform, ann, ann.user_id)
    with pytest.raises(LastOwner):
        await teams.change_member(api.platform, ann, ann.user_id, role="viewer")
    second = await newcomer(api, "bob")
    await api.platform.db.execute("insert_member", team.id, second.user_id, "owner")
    bob = Actor(second.user_id, team.id, "owner")
    left = await asyncio.gather(
        teams.remove_member(api.platform, ann, ann.user_id),
        teams.remove_member(api.platform, bob, bob.user_id),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in left) == ["LastOwner", "NoneType"]


async def test_a_change_of_role_holds_from_the_next_request_on(api: Api) -> None:
    viewer = await accounts.actor_from_token(api.platform, api.callers["viewer"])
    body = {"name": "by-the-viewer"}
    assert (await api.ask("POST", "/api/projects", "viewer", json=body))[0] == 403
    path = f"/api/teams/{api.owner.team_id}/members/{viewer.user_id}"
    assert (await api.ask("PATCH", path, json={"role": "developer"}))[0] == 200
    assert (await api.ask("POST", "/api/projects", "viewer", json=body))[0] == 201
    assert (await api.ask("DELETE", path))[0] == 204
    assert (await api.ask("GET", "/api/projects", "viewer"))[0] == 401  # the token of it ended


async def test_a_member_is_restricted_and_freed_again(api: Api) -> None:
    mine, other = await api.project(), await api.project()
    viewer = await accounts.actor_from_token(api.platform, api.callers["viewer"])
    path = f"/api/teams/{api.owner.team_id}/members/{viewer.user_id}"
    status, answer = await api.ask("PATCH", path, json={"projects": [mine.name]})
    assert (status, answer["projects"]) == (200, [mine.id])
    assert [one["name"] for one in (await api.ask("GET", "/api/projects", "viewer"))[1]["items"]] == [mine.name]
    assert (await api.ask("GET", f"/api/projects/{other.name}", "viewer"))[0] == 404
    assert (await api.ask("PATCH", path, json={"projects": ["nothing"]}))[0] == 404
    assert (await api.ask("PATCH", path, json={"role": "admin"}))[0] == 409  # an admin sees all
    assert (await api.ask("PATCH", path, json={"sees_all_projects": True}))[1]["projects"] is None
    assert len((await api.ask("GET", "/api/projects", "viewer"))[1]["items"]) == 2


async def test_the_acting_team_is_one_of_ones_own(api: Api) -> None:
    ann = await newcomer(api, "ann")
    project = await api.project()
    await api.platform.db.execute("insert_member", api.owner.team_id, ann.user_id, "viewer")
    there = {"X-Vclone-Team": api.owner.team_id}
    assert (await api.ask("GET", f"/api/projects/{project.name}", "ann"))[0] == 404
    assert (await api.ask("GET", f"/api/projects/{project.name}", "ann", headers=there))[0] == 200
    assert (await api.ask("GET", f"/api/projects/{project.name}?team={api.owner.team_id}", "ann"))[0] == 200
    assert (await api.ask("GET", "/api/projects?team=owner&limit=1", "ann"))[0] == 200
    for header in ("tem_none", "x" * 1000, "a\x7fb"):
        status, problem = await api.ask("GET", "/api/projects", "ann", headers={"X-Vclone-Team": header})
        assert (status, problem["title"]) == (404, "There is no such team.")
    _, made = await api.ask("POST", "/api/tokens", "ann", json={"name": "ci", "scopes": ["read"]})
    api.callers["ci"] = made["token"]  # of ann's own team, and with scopes: of no other
    assert (await api.ask("GET", "/api/projects", "ci", headers=there))[0] == 404


async def test_a_team_is_made_renamed_and_deleted(api: Api) -> None:
    await newcomer(api, "ann")
    status, team = await api.ask("POST", "/api/teams", "ann", json={"name": "Blue Crew"})
    assert (status, team["slug"]) == (201, "blue-crew")
    assert (await api.ask("POST", "/api/teams", json={"name": "x", "slug": "blue-crew"}))[0] == 409
    assert (await api.ask("POST", "/api/teams", json={"name": "x", "slug": "Blue Crew"}))[0] == 400
    changed = await api.ask("PATCH", "/api/teams/blue-crew", "ann", json={"name": "Red", "slug": "red"})
    assert changed[1]["slug"] == "red"
    assert (await api.ask("GET", "/api/teams/blue-crew", "ann"))[0] == 404
    in_red = {"X-Vclone-Team": "red"}
    assert (await api.ask("POST", "/api/projects", "ann", json={"name": "site-1"}, headers=in_red))[0] == 201
    assert (await api.ask("DELETE", "/api/teams/red", "ann"))[0] == 409  # it has a project
    assert (await api.ask("DELETE", "/api/projects/site-1", "ann", headers=in_red))[0] == 204
    assert (await api.ask("DELETE", "/api/teams/red", "ann"))[0] == 204
    assert (await api.ask("GET", "/api/teams/red", "ann"))[0] == 404
    assert (await api.ask("GET", "/api/audit?action=delete_team", "ann"))[1]["items"][0]["facts"]["slug"] == "red"
    assert (await api.ask("POST", "/api/teams", "ann", json={"name": "Red"}))[0] == 201  # the slug is free again
    with pytest.raises(Conflict, match="personal"):
        await teams.delete_team(api.platform, api.owner)


async def test_a_token_makes_no_token_that_may_more(api: Api) -> None:
    _, admin = await api.ask("POST", "/api/tokens", json={"name": "a", "scopes": ["admin"], "expires_days": 1})
    api.callers["bot"] = admin["token"]
    assert (await api.ask("POST", "/api/tokens", "bot", json={"name": "b", "scopes": ["deploy"]}))[0] == 201
    for path, body in (
        ("/api/auth/links", {}),
        ("/api/teams", {"name": "x"}),
        ("/api/auth/password", {"password": "x"}),
    ):
        assert (await api.ask("POST", path, "bot", json=body))[0] == 403, path
    for scopes in ([], ["account"], ["everything"], ["read", "root"]):
        assert (await api.ask("POST", "/api/tokens", json={"name": "c", "scopes": scopes}))[0] == 400


async def test_tokens_are_listed_without_their_text_and_end(api: Api) -> None:
    _, made = await api.ask("POST", "/api/tokens", json={"name": "ci", "scopes": ["read", "deploy"]})
    api.callers["ci"] = made["token"]
    assert made["scopes"] == ["read", "deploy"] and made["last_used_at"] is None
    assert (await api.ask("GET", "/api/projects", "ci"))[0] == 200
    status, listed = await api.ask("GET", "/api/tokens?limit=1")
    assert status == 200 and listed["next_cursor"]
    (shown,) = listed["items"]
    assert "token" not in shown and shown["last_used_at"] is not None
    assert (await api.ask("DELETE", f"/api/tokens/{made['id']}", "viewer"))[0] == 404  # not theirs
    assert (await api.ask("DELETE", f"/api/tokens/{made['id']}"))[0] == 204
    assert (await api.ask("GET", "/api/projects", "ci"))[0] == 401
