"""The queue's own cost: claims from a deep queue, publishes and promotes, on a real PostgreSQL; and whose turn it is.

    python benchmarks/deploy_queue.py [--queued 5000]

Prints
milliseconds, keeps them in `results/deploy_queue.json`, and prints the order of 20 builds of 5 teams on 2 slots.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable

from machine import keep_result, percentile, print_table
from services import database, services

from vclone_core.actions import deployments
from vclone_core.actions.owners import ensure_owner
from vclone_core.actions.platform import Platform, open_platform
from vclone_core.actions.projects import create_project
from vclone_core.models import Actor, Claim, FileEntry, Manifest, Source
from vclone_core.settings import Settings
from vclone_core.stores import queue

PROJECTS, BUILT = 300, 100
SLOTS = 2


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queued", type=int, default=5000)
    queued = parser.parse_args().queued
    with services(is_durable=True) as (postgres, _), tempfile.TemporaryDirectory() as folder:
        async with database(postgres) as database_url:
            settings = Settings(database_url=database_url, redis_url="redis://127.0.0.1:1", store=f"file://{folder}")
            async with open_platform(settings) as platform:
                await show_turns(platform)
                await measure(platform, queued)


async def show_turns(platform: Platform) -> None:
    """Queue 16 builds of one team, then one of each of four others, and print in which order two slots take them."""
    teams = [await add_team(platform, letter) for letter in "ABCDE"]
    wanted = [teams[0]] * 16 + teams[1:]
    for number, (actor, letter) in enumerate(wanted):
        project = await create_project(platform, actor, f"{letter.lower()}{number}")
        await deployments.request_deployment(platform, actor, project, Source("git", url="https://git.example/x.git"))
    letters = {actor.team_id: letter for actor, letter in teams}
    order: list[str] = []
    slots: list[Claim] = []
    while len(order) < len(wanted):
        if len(slots) == SLOTS:
            done = slots.pop(0)
            await deployments.publish(platform, done, manifest_of(done))
        claim = await queue.claim(platform.db, "turns", lease_s=600, project_slots=1)
        assert claim is not None
        slots.append(claim)
        order.append(letters[claim.project.team_id])
    for claim in slots:
        await deployments.publish(platform, claim, manifest_of(claim))
    last = max(order.index(letter) for letter in "BCDE")
    print(f"order of 16 builds of team A and one each of B to E, {SLOTS} slots: {' '.join(order)}")
    print(f"the first build of every other team was among the first {last + 1} starts")


async def add_team(platform: Platform, letter: str) -> tuple[Actor, str]:
    user_id, team_id = f"usr_bench{letter}", f"tem_bench{letter}"
    await platform.db.execute("insert_user", user_id, f"{letter}@example.com", letter)
    await platform.db.execute("insert_team", team_id, letter, letter.lower(), False)
    await platform.db.execute("insert_member", team_id, user_id, "owner")
    return Actor(user_id, team_id, "owner"), letter


async def measure(platform: Platform, queued: int) -> None:
    owner = await ensure_owner(platform.db)
    actor = Actor(owner.user.id, owner.team.id, "owner")
    source = Source("git", url="https://git.example/x.git", ref="main")
    projects = [await create_project(platform, actor, f"p{number}") for number in range(PROJECTS)]
    asked = await timed(
        queued, lambda n: deployments.request_deployment(platform, actor, projects[n % PROJECTS], source)
    )
    claims: list[Claim] = []

    async def claim(_: int) -> None:
        found = await queue.claim(platform.db, "bench", lease_s=600, project_slots=1)
        assert found is not None
        claims.append(found)

    claimed = await timed(BUILT, claim)
    beaten = await timed(BUILT, lambda n: queue.heartbeat(platform.db, claims[n], lease_s=600))
    published = await timed(BUILT, lambda n: deployments.publish(platform, claims[n], manifest_of(claims[n])))
    resolved = await timed(
        BUILT, lambda n: deployments.resolve_host(platform, f"{claims[n % BUILT].project.name}.localhost")
    )
    rows = [
        (what, f"{percentile(times, 0.5) * 1000:.1f}", f"{percentile(times, 0.99) * 1000:.1f}")
        for what, times in [
            ("request a deployment", asked),
            (f"claim, {queued} waiting in {PROJECTS} projects", claimed),
            ("heartbeat", beaten),
            ("publish", published),
            ("resolve a host", resolved),
        ]
    ]
    print_table("Queue", ("what", "p50 ms", "p99 ms"), rows)
    keep_result("deploy_queue", {what: {"p50_ms": float(p50), "p99_ms": float(p99)} for what, p50, p99 in rows})


def manifest_of(claim: Claim) -> Manifest:
    entry = FileEntry(sha256="0" * 64, size=5, type="text/html")
    return Manifest(claim.deployment.id, claim.project.id, "static", {"/index.html": entry}, ())


async def timed(count: int, call: Callable[[int], Awaitable[object]]) -> list[float]:
    times = []
    for number in range(count):
        started = time.perf_counter()
        await call(number)
        times.append(time.perf_counter() - started)
    return times


asyncio.run(main())
