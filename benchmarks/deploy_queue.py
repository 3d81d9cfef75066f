"""The queue's own cost: claims from a deep queue, publishes and promotes, on a real PostgreSQL.

    VCLONE_TEST_DATABASE_URL=postgresql://… python benchmarks/deploy_queue.py [--queued 5000]

Makes a database beside the one named, and drops it. Prints milliseconds and keeps them in `results/deploy_queue.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable

import asyncpg
from machine import keep_result, percentile, print_table

from vclone_core.actions import deployments
from vclone_core.actions.owners import ensure_owner
from vclone_core.actions.platform import Platform, open_platform
from vclone_core.actions.projects import create_project
from vclone_core.models import Actor, Claim, FileEntry, Manifest, Source
from vclone_core.settings import Settings
from vclone_core.stores import queue
from vclone_core.stores.postgres import migrate

PROJECTS, BUILT = 300, 100


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queued", type=int, default=5000)
    queued = parser.parse_args().queued
    url = os.environ["VCLONE_TEST_DATABASE_URL"]
    name = f"vclone_bench_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(url)
    await admin.execute(f"create database {name}")
    database_url = f"{url.rpartition('/')[0]}/{name}"
    try:
        await migrate(database_url)
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(database_url=database_url, redis_url="redis://127.0.0.1:1", store=f"file://{folder}")
            async with open_platform(settings) as platform:
                await measure(platform, queued)
    finally:
        await admin.execute(f"drop database {name} with (force)")
        await admin.close()


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
