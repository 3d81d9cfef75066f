"""What a git host is told: statuses, entries, one comment; and what becomes of it while the host is down."""

from __future__ import annotations

import pytest
from tests.host_server import TOKEN, HostServer
from tests.payloads import SHAS, ZERO

from vclone_core.actions import gitnotes
from vclone_core.models import State
from vclone_core.settings import Settings

from .conftest import Api
from .shops import Shop, connected, following

A, B, C, D, *_ = SHAS


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return following(settings)


FORK = {"fork": "eve/shop", "clone_url": "http://github.localhost:8000/eve/shop.git"}


async def test_the_host_is_told_of_each_state(shop: Shop, host: HostServer) -> None:
    push = await shop.deliver(shop.repository.push("next", ZERO, A))
    await shop.deliver(shop.repository.pull(7, "next", A))
    await shop.tell()
    await shop.publish(str(push.deployment_id))
    await shop.tell()
    assert host.of_sha(A)[0] == "pending"
    assert host.of_sha(A)[-1] == "success"
    _, status = host.statuses[-1]
    assert (status["context"], status["description"]) == (f"vclone/{shop.project.name}", "Ready")
    (entry,) = host.entries.values()
    assert (entry["ref"], entry["environment"], entry["states"][-1]) == (A, f"{shop.project.name} preview", "success")
    (comment,) = host.comments_on(7)
    (branch_host,) = await shop.hosts()
    assert f"http://{branch_host}.localhost:8080" in comment
    await shop.deliver(shop.repository.pull(7, "next", A, action="closed"))
    await shop.tell()
    (comment,) = host.comments_on(7)
    assert "is gone" in comment
    assert {one["state"] for one in await shop.reports()} == {"done"}


async def test_one_comment_is_edited_whatever_happens_to_it(shop: Shop, host: HostServer) -> None:
    await shop.deliver(shop.repository.pull(7, "next", A))
    await shop.tell()
    (first,) = host.comments
    await shop.deliver(shop.repository.push("next", A, B))
    await shop.deliver(shop.repository.pull(7, "next", B, action="synchronize"))
    await shop.tell()
    assert list(host.comments) == [first]
    assert B[:12] in host.comments_on(7)[0]
    host.comments.clear()  # somebody deleted it
    await shop.deliver(shop.repository.push("next", B, C))
    await shop.deliver(shop.repository.pull(7, "next", C, action="synchronize"))
    await shop.tell()
    assert len(host.comments) == 1


async def test_a_fork_s_commit_says_that_it_waits(shop: Shop, host: HostServer) -> None:
    await shop.deliver(shop.repository.pull(9, "main", A, **FORK))
    await shop.tell()
    assert [(sha, status["state"], status["description"]) for sha, status in host.statuses] == [
        (A, "pending", "Waiting for the approval of a member")
    ]
    (comment,) = host.comments_on(9)
    assert "comes from another repository" in comment


async def test_a_host_that_is_down_hears_later_and_no_deploy_waits(shop: Shop, host: HostServer) -> None:
    host.answers_with = 502
    push = await shop.deliver(shop.repository.push("next", ZERO, A))
    await shop.tell()
    done = await shop.publish(str(push.deployment_id))
    assert done.state is State.READY
    await shop.tell()
    missed = await shop.reports()
    assert {(one["part"], one["state"]) for one in missed} == {("status", "waiting"), ("entry", "waiting")}
    assert all("502" in one["problem"] for one in missed)
    host.answers_with = None
    await shop.api.ask("POST", f"/api/projects/{shop.project.name}/git/reports/repeat")
    connection = await shop.api.platform.db.fetch("list_reports", shop.project.id, 10)
    assert all(row["attempt"] >= 1 for row in connection)
    await soon(shop)
    await shop.tell()
    assert (host.of_sha(A), [one["states"] for one in host.entries.values()]) == (["success"], [["success"]])


async def soon(shop: Shop) -> None:
    """Let no report rest any longer."""
    import asyncpg

    connection = await asyncpg.connect(shop.api.platform.settings.database_url.get_secret_value())
    await connection.execute("update git_reports set not_before = now()")
    await connection.close()


async def test_a_refusal_is_shown_with_its_reason_and_not_repeated(shop: Shop, host: HostServer) -> None:
    host.tokens.clear()
    await shop.deliver(shop.repository.push("next", ZERO, A))
    await shop.tell()
    refused = await shop.reports()
    assert {one["state"] for one in refused} == {"failed"}
    assert all("401: Bad credentials" in one["problem"] and TOKEN not in one["problem"] for one in refused)
    host.tokens.add(TOKEN)
    status, answer = await shop.api.ask("POST", f"/api/projects/{shop.project.name}/git/reports/repeat")
    assert (status, answer) == (202, {"repeated": 2})
    await shop.tell()
    assert host.of_sha(A) == ["pending"]


async def test_what_a_dead_process_did_not_note_is_found(shop: Shop, host: HostServer) -> None:
    import asyncpg

    await shop.deliver(shop.repository.push("next", ZERO, A))
    await shop.tell()
    connection = await asyncpg.connect(shop.api.platform.settings.database_url.get_secret_value())
    await connection.execute("update deployments set state = 'failed', finished_at = now()")
    await connection.close()
    assert await gitnotes.note_missed(shop.api.platform) == 2
    assert await gitnotes.note_missed(shop.api.platform) == 0
    await shop.tell()
    assert host.of_sha(A)[-1] == "failure"


async def test_without_a_token_nothing_is_told_and_nothing_fails(api: Api, host: HostServer) -> None:
    shop = await connected(api, host, name="acme/quiet", token=None)
    push = await shop.deliver(shop.repository.push("next", ZERO, A))
    await shop.deliver(shop.repository.pull(7, "next", A))
    await shop.publish(str(push.deployment_id))
    await shop.tell()
    assert (await shop.reports(), host.asked) == ([], [])
