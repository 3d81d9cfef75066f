"""The audit log: one entry for each change, which nobody can change, and which shows when somebody did."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import asyncpg
import pytest

from vclone_core.rules.audit import FIRST, find_break

from .conftest import Api


async def entries(api: Api, caller: str = "owner") -> list[dict[str, Any]]:
    response = await api.response("GET", "/api/audit/export", caller)
    assert response.status_code == 200
    return [json.loads(line) for line in (await response.get_data(as_text=True)).splitlines()]


async def change_things(api: Api) -> list[str]:
    """Make some changes; return what the log has to say of them, in order."""
    team = api.owner.team_id
    await api.ask("POST", "/api/projects", json={"name": "one"})
    await api.ask("PATCH", "/api/projects/one", json={"is_publishing_paused": True})
    await api.ask("POST", f"/api/teams/{team}/invitations", json={"email": "a@example.com", "role": "viewer"})
    await api.ask("POST", "/api/projects", json={"name": "one"})  # refused: 409
    await api.ask("POST", "/api/projects", "viewer", json={"name": "two"})  # refused: 403
    await api.ask("GET", "/api/projects")
    await api.ask("POST", "/api/projects/one/blobs/missing", json={"sha256": []})  # changes nothing
    await api.ask("DELETE", "/api/projects/one")
    return ["create_project", "change_project", "invite", "delete_project"]


async def test_each_change_is_one_entry_and_nothing_else_is(api: Api) -> None:
    wanted = await change_things(api)
    found = await entries(api)
    assert [entry["action"] for entry in found] == wanted
    assert len({entry["request_id"] for entry in found}) == len(found)
    assert {entry["actor_id"] for entry in found} == {api.owner.user_id}
    assert all(entry["address"] and entry["facts"]["via"] == "token" for entry in found)
    assert found[1]["subject"] == "one" and found[2]["facts"]["email"] == "a@example.com"
    assert found[0]["previous_hash"] == FIRST and find_break(found) == (4, None)
    assert "vci_" not in json.dumps(found)


async def test_the_table_takes_nothing_back(api: Api) -> None:
    await change_things(api)
    async with api.platform.db._pool.acquire() as connection:
        for statement in (
            "update audit_log set actor_id = 'usr_other'",
            "delete from audit_log",
            "truncate audit_log",
            "update audit_log set facts = '{}' where false",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await connection.execute(statement)


async def test_whoever_gets_round_that_breaks_the_chain(api: Api) -> None:
    await change_things(api)
    whole = await entries(api)
    async with api.platform.db._pool.acquire() as connection:
        await connection.execute("alter table audit_log disable trigger audit_log_is_append_only")
        await connection.execute("update audit_log set actor_id = 'usr_other' where action = 'invite'")
    count, broken = find_break(await entries(api))
    assert count == 2 and broken is not None and broken["action"] == "invite"
    for index in range(1, len(whole) - 1):
        assert find_break(whole[:index] + whole[index + 1 :])[1] is not None  # one taken out
    swapped = [whole[0], whole[2], whole[1], whole[3]]
    assert find_break(swapped)[1] is not None
    for name in ("at", "team_id", "actor_id", "action", "subject", "request_id", "address"):
        assert find_break([{**whole[0], name: "x"}, *whole[1:]])[1] is not None, name
    assert find_break(whole[2:]) == (2, None)  # from the middle on


async def test_changes_at_once_make_one_chain(api: Api) -> None:
    import asyncio

    names = [f"site-{number}" for number in range(20)]
    answers = await asyncio.gather(*(api.ask("POST", "/api/projects", json={"name": name}) for name in names))
    assert [status for status, _ in answers] == [201] * 20
    assert find_break(await entries(api)) == (20, None)


async def test_pages_filters_and_csv(api: Api) -> None:
    wanted = await change_things(api)
    status, first = await api.ask("GET", "/api/audit?limit=3")
    assert status == 200 and [it["action"] for it in first["items"]] == wanted[::-1][:3]
    _, second = await api.ask("GET", f"/api/audit?limit=3&cursor={first['next_cursor']}")
    assert [it["action"] for it in second["items"]] == wanted[:1] and second["next_cursor"] is None
    _, only = await api.ask("GET", "/api/audit?action=invite")
    assert [it["action"] for it in only["items"]] == ["invite"]
    assert (await api.ask("GET", f"/api/audit?by={api.owner.user_id}"))[1]["items"]
    assert (await api.ask("GET", "/api/audit?by=usr_none"))[1]["items"] == []
    assert (await api.ask("GET", "/api/audit?cursor=x"))[0] == 400
    _, text = await api.ask("GET", "/api/audit/export?format=csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["action"] for row in rows] == wanted and json.loads(rows[2]["facts"])["role"] == "viewer"


async def test_a_team_sees_its_own_log_only(api: Api) -> None:
    await change_things(api)
    assert await entries(api, "stranger") == []
    assert (await api.ask("GET", "/api/audit", "viewer"))[0] == 403
    await api.ask("POST", "/api/projects", "stranger", json={"name": "theirs"})
    assert [entry["action"] for entry in await entries(api, "stranger")] == ["create_project"]
    assert len(await entries(api)) == 4


async def test_what_a_spreadsheet_would_run_is_text(api: Api) -> None:
    await api.ask("POST", "/api/teams", json={"name": '=HYPERLINK("http://evil.example")', "slug": "t"})
    await api.ask("PATCH", "/api/auth/me", json={"name": "\u202e=1+1"})
    headers = {"X-Vclone-Team": "t"}
    _, text = await api.ask("GET", "/api/audit/export?format=csv", headers=headers)
    assert not any(cell.startswith("=") for row in csv.reader(io.StringIO(text)) for cell in row)
