"""Fifty promotes at once: one production deployment at every instant, and moves that follow from one another."""

from __future__ import annotations

import asyncio
import itertools
import random

from .conftest import Api

PROMOTES = 50


async def test_parallel_promotes_are_as_if_one_after_the_other(api: Api) -> None:
    project = await api.project()
    ready = [(await api.live(project)).id for _ in range(6)]
    host = f"{project.name}.localhost"
    seen: list[int] = []
    done = asyncio.Event()

    async def watch() -> None:
        """Count, from outside of any of them, what production shows."""
        async with api.platform.db._pool.acquire() as connection:
            while not done.is_set():
                seen.append(
                    await connection.fetchval(
                        "select count(*) from aliases where project_id = $1 and kind = 'production'", project.id
                    )
                )
                await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    wanted = random.Random(1).choices(ready, k=PROMOTES)
    answers = await asyncio.gather(*(api.ask("POST", f"/api/deployments/{one}/promote") for one in wanted))
    done.set()
    await watching
    assert [status for status, _ in answers] == [200] * PROMOTES
    assert len(seen) > 10 and set(seen) == {1}
    async with api.platform.db._pool.acquire() as connection:
        rows = await connection.fetch(
            "select deployment_id, previous_deployment_id, reason from alias_history where host = $1 order by version",
            host,
        )
        current = await connection.fetchval("select deployment_id from aliases where host = $1", host)
    # One order that explains all of them: each move leaves from where the one before it arrived.
    for earlier, later in itertools.pairwise(rows):
        assert later["previous_deployment_id"] == earlier["deployment_id"] != later["deployment_id"]
    assert rows[-1]["deployment_id"] == current
    # A promote of what is shown already moves nothing; every other one is a move and an event.
    moves = [row["deployment_id"] for row in rows if row["reason"] == "promote"]
    assert 1 < len(moves) <= PROMOTES and set(moves) <= set(ready)
    events = (await api.ask("GET", "/api/events?limit=1000"))[1]["items"]
    promoted = [one["data"]["deployment_id"] for one in events if one["type"] == "deployment.promoted"]
    assert promoted == moves[::-1]
