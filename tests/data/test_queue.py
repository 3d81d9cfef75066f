"""The queue: one winner of each claim, no write by who lost it, nobody starved, nothing lying for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import nullcontext, suppress
from itertools import product

import pytest

from vclone_core.actions import deployments
from vclone_core.actions.projects import create_project, delete_project
from vclone_core.errors import Cancelled, NotFound, StaleAttempt, WrongState
from vclone_core.models import Claim, Failure, Source, State, Target, Trigger
from vclone_core.rules.lifecycle import TABLE, Event
from vclone_core.stores import buildlogs, queue, records
from vclone_core.stores.postgres import Database
from vclone_core.stores.queue import Hold

from .conftest import World, add_actor, manifest_of

FAILURE = Failure("step_failed", "It broke.", "", None)


async def state_of(world: World, deployment_id: str) -> State:
    found = await records.fetch_deployment_by_id(world.platform.db, deployment_id)
    assert found is not None
    return found.state


async def expire(world: World, claim: Claim) -> None:
    """Let the lease of a claim be over, by the clock that counts."""
    await run_sql(
        world.platform.db,
        "update deployments set lease_until = now() - interval '1 second' where id = $1",
        claim.deployment.id,
    )


async def run_sql(db: Database, sql: str, *args: object) -> None:
    async with db._pool.acquire() as connection:
        await connection.execute(sql, *args)


async def test_fifty_claimers_and_one_deployment(world: World) -> None:
    wanted = await world.deploy(await world.project())
    claims = await asyncio.gather(
        *(queue.claim(world.platform.db, f"w{n}", lease_s=30, project_slots=1) for n in range(50))
    )
    won = [claim for claim in claims if claim is not None]
    assert [claim.deployment.id for claim in won] == [wanted.id]
    assert (won[0].attempt, won[0].deployment.state, won[0].deployment.attempt) == (1, State.BUILDING, 1)


@pytest.mark.parametrize("slots", [1, 3])
async def test_fifty_claimers_never_exceed_a_projects_limit(world: World, slots: int) -> None:
    projects = [await world.project() for _ in range(2)]
    for project, _ in product(projects, range(10)):
        await world.deploy(project)
    claims = await asyncio.gather(
        *(queue.claim(world.platform.db, f"w{n}", lease_s=30, project_slots=slots) for n in range(50))
    )
    held = Counter(claim.project.id for claim in claims if claim is not None)
    assert held == {project.id: slots for project in projects}
    assert len({claim.deployment.id for claim in claims if claim is not None}) == 2 * slots


async def test_a_place_is_free_again_when_its_build_has_left(world: World) -> None:
    project = await world.project()
    first, second = await world.deploy(project), await world.deploy(project)
    claim = await world.claim()
    assert claim.deployment.id == first.id
    assert await queue.claim(world.platform.db, "w2", lease_s=30, project_slots=1) is None
    await queue.finish(world.platform.db, claim, Event.FAIL, failure=FAILURE)
    assert (await world.claim()).deployment.id == second.id


async def test_production_goes_first(world: World) -> None:
    project, other = await world.project(), await world.project()
    preview = await world.deploy(project, "feat/x")
    production = await world.deploy(other, "main")
    assert [(await world.claim()).deployment.id for _ in range(2)] == [production.id, preview.id]


async def test_a_preview_that_waited_long_is_as_urgent(world: World) -> None:
    project, other = await world.project(), await world.project()
    production = await world.deploy(other, "main")
    preview = await world.deploy(project, "feat/x")
    await run_sql(
        world.platform.db, "update deployments set created_at = now() - interval '3 minutes' where id = $1", preview.id
    )
    assert [(await world.claim()).deployment.id for _ in range(2)] == [preview.id, production.id]


@pytest.mark.reliability("R22.2")
async def test_a_teams_first_deployment_waits_for_one_of_anothers_hundred(world: World) -> None:
    mine = [await world.project() for _ in range(10)]
    for index in range(100):
        await world.deploy(mine[index % 10])
    await world.claim()
    actor, theirs = await world.team_project()
    source = Source("git", url="https://git.example/y.git", ref="main")
    wanted = await deployments.request_deployment(world.platform, actor, theirs, source)
    assert (await world.claim()).deployment.id == wanted.id


async def test_teams_and_projects_take_turns(world: World) -> None:
    mine = [await world.project() for _ in range(2)]
    actor, theirs = await world.team_project()
    for _ in range(3):
        await world.deploy(mine[0])
    await world.deploy(mine[1])
    source = Source("git", url="https://git.example/y.git", ref="main")
    for _ in range(2):
        await deployments.request_deployment(world.platform, actor, theirs, source)
    order = []
    for _ in range(6):
        claim = await world.claim()
        order.append(claim.project.id)
        await queue.finish(world.platform.db, claim, Event.FAIL, failure=FAILURE)
    assert order == [mine[0].id, theirs.id, mine[1].id, theirs.id, mine[0].id, mine[0].id]


async def test_a_heartbeat_moves_the_lease(world: World) -> None:
    await world.deploy(await world.project())
    claim = await world.claim(lease_s=0.5)
    await asyncio.sleep(0.3)
    assert await queue.heartbeat(world.platform.db, claim, lease_s=30) is Hold.HELD
    await asyncio.sleep(0.3)
    assert await queue.reap(world.platform.db, max_attempts=3) == []


async def test_an_expired_lease_goes_back_and_the_old_worker_writes_nothing(world: World) -> None:
    wanted = await world.deploy(await world.project())
    old = await world.claim("old")
    await expire(world, old)
    (reaped,) = await queue.reap(world.platform.db, max_attempts=3)
    assert (reaped.deployment.id, reaped.deployment.state, reaped.workspace) == (
        wanted.id,
        State.QUEUED,
        f"{wanted.id}-1",
    )
    await run_sql(world.platform.db, "update deployments set not_before = now()")
    new = await world.claim("new")
    assert new.attempt == 2

    # The old worker wakes, and does all it could do.
    db = world.platform.db
    assert await queue.heartbeat(db, old, lease_s=30) is Hold.LOST
    for event in (Event.FAIL, Event.CANCEL, Event.GIVE_BACK, Event.SKIP):
        assert await queue.finish(db, old, event, failure=FAILURE) is None
    assert await queue.retry(db, old, max_attempts=3, failure=FAILURE) is None
    assert not await queue.record_step(db, old, step="build")
    assert not await queue.record_findings(db, old, framework="vite")
    with pytest.raises(StaleAttempt):
        await buildlogs.append(db, old.fence, [buildlogs.platform_line("build", "late")], cap_bytes=1000)
    with pytest.raises(StaleAttempt):
        await deployments.publish(world.platform, old, manifest_of(old, "old"))
    assert await deployments.resolve_host(world.platform, f"{old.project.name}.localhost") is None

    assert await queue.heartbeat(db, new, lease_s=30) is Hold.HELD
    assert (await deployments.publish(world.platform, new, manifest_of(new))).deployment.attempt == 2


async def test_the_same_worker_is_fenced_from_its_own_former_attempt(world: World) -> None:
    await world.deploy(await world.project())
    old = await world.claim("same")
    await expire(world, old)
    await queue.reap(world.platform.db, max_attempts=3)
    await run_sql(world.platform.db, "update deployments set not_before = now()")
    await world.claim("same")
    assert await queue.heartbeat(world.platform.db, old, lease_s=30) is Hold.LOST


@pytest.mark.reliability("R22.1")
async def test_a_poison_build_fails_after_its_attempts_and_the_queue_moves_on(world: World) -> None:
    project = await world.project()
    poison, next_one = await world.deploy(project), await world.deploy(project)
    for attempt in (1, 2, 3):
        claim = await world.claim()
        assert (claim.deployment.id, claim.attempt) == (poison.id, attempt)
        await expire(world, claim)
        await queue.reap(world.platform.db, max_attempts=3)
        await run_sql(world.platform.db, "update deployments set not_before = now()")
    found = await records.fetch_deployment_by_id(world.platform.db, poison.id)
    assert found is not None and found.failure is not None
    assert (found.state, found.failure.code) == (State.FAILED, "attempts_exhausted")
    assert "started 3 times" in found.failure.sentence
    assert (await buildlogs.read(world.platform.db, poison.id))[-1].text.endswith("[attempts_exhausted]")
    assert (await world.claim()).deployment.id == next_one.id


async def test_a_lost_build_rests_before_its_next_start(world: World) -> None:
    wanted = await world.deploy(await world.project())
    await expire(world, await world.claim())
    await queue.reap(world.platform.db, max_attempts=3)
    assert await queue.claim(world.platform.db, "w", lease_s=30, project_slots=1) is None
    place = await queue.fetch_place(world.platform.db, wanted.id, project_slots=1)
    assert place is not None
    assert place.reason.startswith("Its last start was lost; it starts again in")


async def test_ten_reapers_take_a_build_once(world: World) -> None:
    await world.deploy(await world.project())
    await expire(world, await world.claim())
    reaped = await asyncio.gather(*(queue.reap(world.platform.db, max_attempts=3) for _ in range(10)))
    assert sum(map(len, reaped)) == 1


async def test_giving_back_costs_no_attempt_and_fences_all_the_same(world: World) -> None:
    wanted = await world.deploy(await world.project())
    for attempt in range(1, 6):
        claim = await world.claim()
        assert claim.attempt == attempt
        given = await queue.finish(world.platform.db, claim, Event.GIVE_BACK)
        assert given is not None and given.state is State.QUEUED
    await expire(world, await world.claim())
    (reaped,) = await queue.reap(world.platform.db, max_attempts=2)
    assert reaped.deployment.state is State.QUEUED
    assert await state_of(world, wanted.id) is State.QUEUED


async def test_cancelling_what_waits_is_done_at_once(world: World) -> None:
    wanted = await world.deploy(await world.project())
    cancelled = await deployments.cancel(world.platform, world.actor, wanted.id)
    assert cancelled.state is State.CANCELLED
    assert cancelled.finished_at is not None
    assert await queue.claim(world.platform.db, "w", lease_s=30, project_slots=1) is None


async def test_cancelling_what_builds_is_told_by_the_heartbeat_and_forbids_publishing(world: World) -> None:
    wanted = await world.deploy(await world.project())
    claim = await world.claim()
    assert (await deployments.cancel(world.platform, world.actor, wanted.id)).state is State.BUILDING
    assert await queue.heartbeat(world.platform.db, claim, lease_s=30) is Hold.CANCELLED
    with pytest.raises(Cancelled):
        await deployments.publish(world.platform, claim, manifest_of(claim))
    # Neither a stopping worker nor the reaper puts it back into the queue.
    assert await queue.finish(world.platform.db, claim, Event.GIVE_BACK) is None
    await expire(world, claim)
    (reaped,) = await queue.reap(world.platform.db, max_attempts=3)
    assert reaped.deployment.state is State.CANCELLED


@pytest.mark.parametrize("state", [State.READY, State.FAILED, State.CANCELLED, State.SKIPPED])
async def test_what_is_final_cannot_be_cancelled(world: World, state: State) -> None:
    wanted = await world.deploy(await world.project())
    await force(world, wanted.id, state)
    with pytest.raises(WrongState):
        await deployments.cancel(world.platform, world.actor, wanted.id)
    assert await state_of(world, wanted.id) is state


async def test_cancel_races_with_a_claim(world: World) -> None:
    project = await world.project()
    for _ in range(20):
        wanted = await world.deploy(project)
        claim, cancelled = await asyncio.gather(
            queue.claim(world.platform.db, "w", lease_s=30, project_slots=1),
            deployments.cancel(world.platform, world.actor, wanted.id),
        )
        if claim is None:
            assert await state_of(world, wanted.id) is State.CANCELLED
        else:
            assert cancelled.state is State.BUILDING
            assert await queue.heartbeat(world.platform.db, claim, lease_s=30) is Hold.CANCELLED
            await queue.finish(world.platform.db, claim, Event.CANCEL)


async def test_a_newer_push_calls_off_the_older_ones_of_its_branch(world: World) -> None:
    project, other = await world.project(), await world.project()
    live = await world.build(project, "feat/x")
    building = await world.deploy(project, "feat/x", trigger=Trigger.PUSH)
    claim = await world.claim()
    assert claim.deployment.id == building.id
    older = [await world.deploy(project, "feat/x") for _ in range(2)]
    kept = [await world.deploy(one, ref, trigger=Trigger.PUSH) for one, ref in ((project, "feat/y"), (other, "feat/x"))]
    newest = await world.deploy(project, "feat/x", trigger=Trigger.PUSH)
    assert [await state_of(world, deployment.id) for deployment in older] == [State.CANCELLED] * 2
    assert [await state_of(world, deployment.id) for deployment in kept] == [State.QUEUED] * 2
    assert await state_of(world, live.id) is State.READY
    assert await queue.heartbeat(world.platform.db, claim, lease_s=30) is Hold.CANCELLED
    ended = await queue.finish(world.platform.db, claim, Event.CANCEL)
    assert ended is not None
    assert (ended.state, ended.reason) == (State.CANCELLED, f"superseded by {newest.id}")
    assert await state_of(world, newest.id) is State.QUEUED


async def test_the_production_branch_is_one_branch_named_or_not(world: World) -> None:
    project = await world.project()
    older = await world.deploy(project, None)
    preview = await world.deploy(project, "main", target=Target.PREVIEW)
    await world.deploy(project, "main", trigger=Trigger.HOOK)
    assert await state_of(world, older.id) is State.CANCELLED
    assert await state_of(world, preview.id) is State.QUEUED


async def test_pushes_that_supersede_each_other_at_once_leave_the_newest(world: World) -> None:
    project = await world.project()
    made = await asyncio.gather(*(world.deploy(project, "feat/x", trigger=Trigger.PUSH) for _ in range(12)))
    newest = max(made, key=lambda one: one.sequence)
    states = {one.id: await state_of(world, one.id) for one in made}
    assert states.pop(newest.id) is State.QUEUED
    assert set(states.values()) == {State.CANCELLED}


async def test_a_push_whose_message_says_so_is_skipped_and_supersedes_nothing(world: World) -> None:
    project = await world.project()
    waiting = await world.deploy(project, "main", trigger=Trigger.PUSH)
    source = Source("git", url="https://git.example/x.git", ref="main", message="docs [skip ci]")
    skipped = await deployments.request_deployment(world.platform, world.actor, project, source, trigger=Trigger.PUSH)
    assert (skipped.state, skipped.reason) == (State.SKIPPED, "the commit message says [skip ci]")
    assert skipped.finished_at is not None
    assert await state_of(world, waiting.id) is State.QUEUED
    asked = await deployments.request_deployment(world.platform, world.actor, project, source)
    assert asked.state is State.QUEUED


async def test_asking_twice_for_a_branch_builds_it_twice(world: World) -> None:
    project = await world.project()
    wanted = [await world.deploy(project) for _ in range(3)]
    assert [await state_of(world, deployment.id) for deployment in wanted] == [State.QUEUED] * 3


async def test_the_place_in_the_queue_and_why(world: World) -> None:
    project = await world.project()
    first = await world.deploy(project)
    rest = [await world.deploy(project) for _ in range(3)]
    actor, theirs = await world.team_project()
    source = Source("git", url="https://git.example/y.git", ref="main")
    other = await deployments.request_deployment(world.platform, actor, theirs, source)
    assert (await world.claim()).deployment.id == first.id
    places = [await deployments.find_place(world.platform, d) for d in (*rest, other)]
    assert [place.position for place in places if place is not None] == [1, 3, 4, 2]
    assert [place.reason.split()[-1] for place in places if place is not None] == ["project."] * 3 + ["worker."]
    gone = await records.fetch_deployment_by_id(world.platform.db, first.id)
    assert gone is not None
    assert await deployments.find_place(world.platform, gone) is None


async def test_nothing_writes_to_a_row_once_it_was_rung_for(world: World) -> None:
    """Or the worker that was woken would find it locked, pass it over, and come back seconds later."""
    wanted = await world.deploy(await world.project())
    async with world.platform.db._pool.acquire() as connection:
        row = await connection.fetchrow("select created_at, rung_at, xmin from deployments where id = $1", wanted.id)
        project = await connection.fetchrow("select xmin from projects where id = $1", wanted.project_id)
    # One transaction took the project's next number and made the row, and no other has written to it.
    assert row["rung_at"] == row["created_at"]
    assert row["xmin"] == project["xmin"]


async def test_a_lost_ring_is_rung_again(world: World) -> None:
    wanted = await world.deploy(await world.project())
    assert await queue.take_unrung(world.platform.db) == []
    await run_sql(world.platform.db, "update deployments set rung_at = null")
    assert await queue.take_unrung(world.platform.db) == [(wanted.id, wanted.project_id, True)]
    assert await queue.take_unrung(world.platform.db) == []
    await run_sql(world.platform.db, "update deployments set rung_at = now() - interval '1 hour'")
    assert len(await queue.take_unrung(world.platform.db)) == 1


async def test_deleting_a_project_ends_its_builds_and_empties_the_queue(world: World) -> None:
    project = await world.project()
    building, waiting = await world.deploy(project), await world.deploy(project)
    claim = await world.claim()
    await delete_project(world.platform, world.actor, project)
    assert await state_of(world, waiting.id) is State.CANCELLED
    assert await queue.heartbeat(world.platform.db, claim, lease_s=30) is Hold.CANCELLED
    assert claim.deployment.id == building.id


async def test_what_was_claimed_while_its_project_was_deleted_is_not_published(world: World) -> None:
    project = await world.project()
    await world.deploy(project)
    claim = await world.claim()
    await delete_project(world.platform, world.actor, project)
    await run_sql(world.platform.db, "update deployments set cancel_requested_at = null")
    with pytest.raises(NotFound):
        await deployments.publish(world.platform, claim, manifest_of(claim))
    assert await deployments.resolve_host(world.platform, f"{project.name}.localhost") is None


async def force(world: World, deployment_id: str, state: State) -> None:
    """Put a deployment into a state, whatever led there."""
    await run_sql(
        world.platform.db,
        "update deployments set state = $2, worker_id = 'w', attempt = 1, not_before = now(),"
        " slot = case when $2 = 'building' then 0 end,"
        " lease_until = case when $2 = 'building' then now() + interval '1 hour' end where id = $1",
        deployment_id,
        state.value,
    )


async def try_event(world: World, state: State, event: Event) -> State:
    """Put a deployment into `state`, try `event` through its own door, and return where that led."""
    project = await world.project()
    wanted = await world.deploy(project)
    await force(world, wanted.id, state)
    db = world.platform.db
    claim = Claim(wanted, project, "w", 1)
    match event:
        case Event.CLAIM:
            await queue.claim(db, "w2", lease_s=30, project_slots=1)
        case Event.PUBLISH:
            # Asking again for what is done is answered with it; from anywhere else it is stale.
            with suppress(StaleAttempt) if state not in (State.BUILDING, State.READY) else nullcontext():
                assert (await deployments.publish(world.platform, claim, manifest_of(claim))).deployment.id == wanted.id
        case Event.CANCEL if state is State.QUEUED:
            await queue.cancel(db, wanted.id)
        case Event.RETRY:
            await queue.retry(db, claim, max_attempts=3, failure=FAILURE)
        case Event.EXHAUST:
            await queue.retry(db, claim, max_attempts=1, failure=FAILURE)
        case _:
            await queue.finish(db, claim, event, failure=FAILURE if event is Event.FAIL else None)
    led_to = await state_of(world, wanted.id)
    await force(world, wanted.id, State.CANCELLED)
    return led_to


async def test_the_database_agrees_with_the_table(world: World) -> None:
    # Skipping what still waits has no door yet.
    pairs = [pair for pair in product(State, Event) if pair != (State.QUEUED, Event.SKIP)]
    led_to = {(state, event): await try_event(world, state, event) for state, event in pairs}
    assert led_to == {(state, event): TABLE.get((state, event), state) for state, event in pairs}


async def test_twenty_builds_of_five_teams_share_two_slots_in_turns(world: World) -> None:
    """Each team's first starts before any team's second, also where one team asked for all of its first."""
    waiting: dict[str, list[str]] = {}
    for number, count in enumerate((8, 6, 3, 2, 1)):
        actor = await add_actor(world.platform)
        for index in range(count):
            project = await create_project(world.platform, actor, f"fair-{number}-{index}")
            source = Source("git", url="https://git.example/y.git", ref="main")
            wanted = await deployments.request_deployment(world.platform, actor, project, source)
            waiting.setdefault("ABCDE"[number], []).append(wanted.id)
    team_of = {deployment: team for team, ids in waiting.items() for deployment in ids}
    order, running = "", [await world.claim(), await world.claim()]
    while running:
        order += team_of[running[0].deployment.id]
        await queue.finish(world.platform.db, running.pop(0), Event.FAIL, failure=FAILURE)
        if claim := await queue.claim(world.platform.db, "w1", lease_s=30, project_slots=1):
            running.append(claim)
    print(f"\n20 builds of 5 teams in 2 slots, asked for team by team: {order}")
    assert order == "ABCDEABCDABCABABABAA"
