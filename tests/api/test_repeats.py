"""Requests with an `Idempotency-Key`: carried out once, whoever sends them again, and whatever dies in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from vclone_core.actions import audit, repeats
from vclone_core.actions.repeats import Held
from vclone_core.errors import KeyInUse, OutcomeUnknown

from .conftest import Api


def key(text: str) -> dict[str, str]:
    return {"Idempotency-Key": text}


async def test_the_same_request_is_answered_the_same_and_done_once(api: Api) -> None:
    body = {"name": "once"}
    first = await api.response("POST", "/api/projects", json=body, headers=key("k-1"))
    again = await api.response("POST", "/api/projects", json=body, headers=key('"k-1"'))
    assert (first.status_code, again.status_code) == (201, 201)
    assert await first.get_data() == await again.get_data()
    assert again.headers["location"] == first.headers["location"] == f"/api/projects/{(await first.get_json())['id']}"
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"
    actions = [entry.action async for entry in audit.read_all(api.platform, api.owner)]
    assert actions == ["create_project"]


async def test_another_body_address_or_query_is_refused(api: Api) -> None:
    await api.ask("POST", "/api/projects", json={"name": "one"}, headers=key("k"))
    table: list[tuple[str, dict[str, Any]]] = [
        ("/api/projects", {"json": {"name": "two"}}),
        ("/api/teams", {"json": {"name": "one"}}),
        (f"/api/projects?team={api.owner.team_id}", {"json": {"name": "one"}}),
    ]
    for path, more in table:
        status, problem = await api.ask("POST", path, **more, headers=key("k"))
        assert (status, problem["code"]) == (422, "key_reused"), path
    # A key is its caller's own.
    status, _ = await api.ask("POST", "/api/projects", "stranger", json={"name": "theirs"}, headers=key("k"))
    assert status == 201


@pytest.mark.parametrize("text", ["", "a b", "ä", "x" * 256])
async def test_a_malformed_key_is_refused(api: Api, text: str) -> None:
    status, problem = await api.ask("POST", "/api/projects", json={"name": "p"}, headers=key(text))
    assert (status, problem["code"]) == (400, "invalid")


async def test_of_twins_one_runs(api: Api) -> None:
    body = {"name": "t", "scopes": ["read"]}
    answers = await asyncio.gather(*(api.ask("POST", "/api/tokens", json=body, headers=key("k")) for _ in range(12)))
    codes = Counter(status if status == 201 else answer["code"] for status, answer in answers)
    assert set(codes) <= {201, "key_in_use"} and codes[201] >= 1
    assert len({answer["token"] for status, answer in answers if status == 201}) == 1
    listed = (await api.ask("GET", "/api/tokens"))[1]["items"]
    assert [one["name"] for one in listed].count("t") == 1


async def test_a_secret_that_is_answered_again_lies_sealed(api: Api) -> None:
    _, made = await api.ask("POST", "/api/tokens", json={"name": "t", "scopes": ["read"]}, headers=key("k"))
    _, again = await api.ask("POST", "/api/tokens", json={"name": "t", "scopes": ["read"]}, headers=key("k"))
    assert again["token"] == made["token"]
    async with api.platform.db._pool.acquire() as connection:
        row = await connection.fetchrow("select * from idempotency_keys")
    assert made["token"].encode() not in bytes(row["answer"]) and bytes(row["answer"]).startswith(b"v1.")


async def test_what_changed_nothing_may_be_tried_again(api: Api) -> None:
    taken = await api.project()
    body = {"name": taken.name}
    assert (await api.ask("POST", "/api/projects", json=body, headers=key("k")))[0] == 409
    await api.ask("DELETE", f"/api/projects/{taken.id}")
    assert (await api.ask("POST", "/api/projects", json=body, headers=key("k")))[0] == 201


async def test_a_refusal_after_a_change_is_answered_again(api: Api) -> None:
    """The project is made, then the deployment is refused: both are told of, and neither happens twice."""
    body = {"project": "half", "create_project": True, "source": {"kind": "upload"}, "files": []}
    first = await api.ask("POST", "/api/deployments", json=body, headers=key("k"))
    assert first[0] == 422 and (await api.ask("GET", "/api/projects/half"))[0] == 200
    again = await api.ask("POST", "/api/deployments", json=body, headers=key("k"))
    assert again == first
    entries = [entry async for entry in audit.read_all(api.platform, api.owner)]
    assert [(entry.action, entry.facts["failed"]) for entry in entries] == [("create_deployment", first[1]["code"])]


async def test_a_key_is_bounded_in_time(api: Api) -> None:
    await api.ask("POST", "/api/projects", json={"name": "one"}, headers=key("k"))
    async with api.platform.db._pool.acquire() as connection:
        await connection.execute("update idempotency_keys set expires_at = now() - interval '1 second'")
    assert (await api.ask("POST", "/api/projects", json={"name": "two"}, headers=key("k")))[0] == 201


async def claim(api: Api) -> Held:
    held = await repeats.claim(api.platform, "token/x/y", "k", request_hash=b"h", lease_s=60)
    assert isinstance(held, Held)
    return held


async def expire(api: Api) -> None:
    async with api.platform.db._pool.acquire() as connection:
        await connection.execute("update idempotency_keys set lease_until = now() - interval '1 second'")


async def test_a_killed_process_leaves_a_key_that_tells_how_far_it_came(api: Api) -> None:
    held = await claim(api)
    await expire(api)
    held = await claim(api)  # nothing had been changed: as good as new
    async with api.platform.db.transaction() as tx:
        await repeats.begin(tx, held)
    await expire(api)
    with pytest.raises(OutcomeUnknown):
        await claim(api)


async def test_what_was_given_up_and_comes_late_commits_nothing(api: Api) -> None:
    late = await claim(api)
    await repeats.give_up(api.platform.db, late)
    await claim(api)  # the same request again
    with pytest.raises(KeyInUse):
        async with api.platform.db.transaction() as tx:
            await repeats.begin(tx, late)


async def test_a_change_whose_process_was_killed_is_told_of_all_the_same(api: Api) -> None:
    """What is known of a change is committed with it; the entry is made of that when nobody else has made it."""
    note = audit.Note(api.owner.team_id, api.owner.user_id, "create_project", "one", {}, "req_1", "127.0.0.1")
    async with api.platform.db.transaction() as tx:
        await audit.begin(tx, note)
    assert await audit.settle_stale(api.platform.db) == 0  # its request may still run
    assert await audit.settle_stale(api.platform.db, after_s=0) == 1
    (entry,) = [entry async for entry in audit.read_all(api.platform, api.owner)]
    assert (entry.action, entry.request_id, entry.facts["outcome"]) == ("create_project", "req_1", "unfinished")


async def test_every_change_is_committed_with_what_is_known_of_it(api: Api) -> None:
    """Looked at from inside the database: a trigger sees, at the commit, that the entry to come is there."""
    async with api.platform.db._pool.acquire() as connection:
        await connection.execute("""
            create table seen (pending bigint);
            create function look() returns trigger language plpgsql as $$
            begin insert into seen select count(*) from pending_changes; return null; end $$;
            create constraint trigger look_projects after insert on projects
                deferrable initially deferred for each row execute function look();
            create constraint trigger look_tokens after insert on api_tokens
                deferrable initially deferred for each row execute function look();
        """)
    assert (await api.ask("POST", "/api/projects", json={"name": "one"}))[0] == 201
    assert (await api.ask("POST", "/api/tokens", json={"name": "t", "scopes": ["read"]}))[0] == 201
    async with api.platform.db._pool.acquire() as connection:
        assert [row["pending"] for row in await connection.fetch("select * from seen")] == [1, 1]
        assert await connection.fetchval("select count(*) from pending_changes") == 0
