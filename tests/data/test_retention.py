"""Retention and collection on real stores: what goes, what stays, and that no order of things loses live data."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.contracts import s3_servers

from vclone_core.actions import deployments, projects, publishing, retention, sites
from vclone_core.actions.owners import ensure_owner
from vclone_core.actions.platform import Platform, open_platform
from vclone_core.errors import BlobsCollected, CollectionRuns, MissingBlobs, NotFound
from vclone_core.models import Actor, Claim, Deployment, FileEntry, Manifest, Project, Source, SourceFile, Target
from vclone_core.rules.objectkeys import blob_key, manifest_key
from vclone_core.rules.retention import Retention
from vclone_core.settings import Settings
from vclone_core.stores import records
from vclone_core.stores.leases import take_lease

from .conftest import World

pytestmark = [pytest.mark.services, pytest.mark.processes]
DAY = timedelta(days=1)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Site:
    """A project whose deployments have real blobs; time passes by writing the database's rows back."""

    def __init__(self, world: World, project: Project) -> None:
        self.world, self.platform, self.project = world, world.platform, project
        self.refusals = 0

    async def live(self, *bodies: bytes, target: Target = Target.PREVIEW) -> Deployment:
        """Deploy an upload of these files; each is served as it was sent."""
        files = [SourceFile(f"{n}.html", sha(body), len(body)) for n, body in enumerate(bodies)]
        while True:
            try:
                missing = await projects.missing_of(self.platform, self.project.id, [file.sha256 for file in files])
                for body in bodies:
                    if sha(body) in missing:
                        await projects.store_blob(self.platform, self.project.id, sha(body), len(body), body)
                wanted = await deployments.request_deployment(
                    self.platform, self.world.actor, self.project, Source("upload"), files=files, target=target
                )
                break
            except (BlobsCollected, MissingBlobs):
                self.refusals += 1
                await asyncio.sleep(0.05)  # as the CLI does it: again
        claim = await self.world.claim(slots=64)
        assert claim.deployment.id == wanted.id
        return (await publishing.publish(self.platform, claim, self.manifest(claim, bodies))).deployment

    def manifest(self, claim: Claim, bodies: Sequence[bytes]) -> Manifest:
        files = {f"/{n}.html": FileEntry(sha(body), len(body), "text/html") for n, body in enumerate(bodies)}
        return Manifest(claim.deployment.id, self.project.id, "static", files, ())

    async def age(self, days: int, *ids: str) -> None:
        """Let everything be older: the rows of `ids` or all of the project, all blobs, and all objects."""
        await self.run(
            f"update deployments set finished_at = finished_at - interval '{days} days',"
            f" created_at = created_at - interval '{days} days' where project_id = $1"
            + (f" and id in ({', '.join(repr(one) for one in ids)})" if ids else "")
        )
        await self.run(
            f"update blobs set last_needed_at = last_needed_at - interval '{days} days' where project_id = $1"
        )

    async def run(self, sql: str) -> None:
        async with self.platform.db._pool.acquire() as connection:
            await connection.execute(sql, self.project.id)

    async def collect(self, *, is_dry_run: bool = False) -> retention.Collected:
        return await retention.collect(self.platform, self.world.actor, self.project, is_dry_run=is_dry_run)

    async def stored(self) -> set[str]:
        return {
            info.key.removeprefix(f"{self.project.id}/") async for info in self.platform.objects.list(self.project.id)
        }

    async def is_whole(self, deployment: Deployment, *bodies: bytes) -> bool:
        for body in bodies:
            async with self.platform.objects.open(blob_key(self.project.id, sha(body))) as found:
                if b"".join([chunk async for chunk in found.chunks]) != body:
                    return False
        return await self.platform.objects.head(manifest_key(self.project.id, deployment.id)) is not None


@pytest.fixture
async def site(world: World) -> Site:
    return Site(world, await world.project())


async def test_old_previews_go_with_their_hosts_and_what_only_they_needed(site: Site) -> None:
    production = await site.live(b"shared", b"live", target=Target.PRODUCTION)
    old = await site.live(b"shared", b"only old")
    young = await site.live(b"young")
    await site.age(40, old.id, production.id)
    host = next(alias.host for alias in await records.list_aliases(site.platform.db, site.project.id, [old.id])
                if alias.kind == "deployment")  # fmt: skip
    before = await site.stored()
    planned = await site.collect(is_dry_run=True)
    assert await site.stored() == before
    done = await site.collect()
    assert replace(planned) == done
    assert [(one.id, one.reason) for one in done.deployments] == [(old.id, "age")]
    assert before - await site.stored() == {f"{old.id}/manifest.json", f"blobs/{sha(b'only old')}"}
    assert done.objects == 1 and done.bytes == len(b"only old")
    assert await sites.resolve_host(site.platform, host) is None
    moves = [move async for move in tell_moves(site.platform)]
    assert (host, None) in moves
    with pytest.raises(NotFound):
        await deployments.find_deployment(site.platform, site.world.actor, old.id)
    assert await site.is_whole(production, b"shared", b"live") and await site.is_whole(young, b"young")
    assert (await site.collect()).objects == 0


async def tell_moves(platform: Platform) -> AsyncIterator[tuple[str, object]]:
    for row in await platform.db.fetch("list_moves", 0, 1000):
        yield row["host"], row["site"]


async def test_pinned_ones_stay_until_they_are_unpinned(site: Site) -> None:
    pinned = await site.live(b"keep")
    await site.live(b"newer")
    await site.age(400)
    kept = await retention.pin(site.platform, site.world.actor, pinned.id, is_pinned=True)
    assert kept.is_pinned
    assert pinned.id not in {one.id for one in (await site.collect()).deployments}
    assert await site.is_whole(pinned, b"keep")
    await retention.pin(site.platform, site.world.actor, pinned.id, is_pinned=False)
    assert pinned.id in {one.id for one in (await site.collect()).deployments}


async def test_the_newest_of_production_are_there_to_go_back_to(site: Site) -> None:
    rules = await retention.change_retention(
        site.platform, site.world.actor, site.project, {"production_count": 2, "production_days": 5}
    )
    assert rules == Retention(production_count=2, production_days=5)
    made = [await site.live(f"{n}".encode(), target=Target.PRODUCTION) for n in range(4)]
    await site.age(10)
    assert [one.id for one in (await site.collect()).deployments] == [made[0].id, made[1].id]
    await publishing.rollback(site.platform, site.world.actor, site.project)
    shown = await sites.resolve_host(site.platform, f"{site.project.name}.localhost")
    assert shown is not None and shown.deployment_id == made[2].id


async def test_blobs_that_were_asked_for_lately_stay(site: Site) -> None:
    await projects.store_blob(site.platform, site.project.id, sha(b"new"), 3, b"new")
    await projects.store_blob(site.platform, site.project.id, sha(b"old"), 3, b"old")
    await projects.store_blob(site.platform, site.project.id, sha(b"asked"), 5, b"asked")
    await site.run(
        "update blobs set last_needed_at = now() - interval '3 days' where project_id = $1 and size_bytes <> 1"
    )
    # The question of an upload that is under way, then of one whose bytes are just stored.
    assert await projects.missing_of(site.platform, site.project.id, [sha(b"asked")]) == []
    await projects.store_blob(site.platform, site.project.id, sha(b"new"), 3, b"new")
    await site.collect()
    assert await site.stored() == {f"blobs/{sha(b'new')}", f"blobs/{sha(b'asked')}"}
    assert await projects.missing_of(site.platform, site.project.id, [sha(b"old")]) == [sha(b"old")]


async def test_what_a_queued_upload_waits_with_stays(site: Site) -> None:
    await projects.store_blob(site.platform, site.project.id, sha(b"waits"), 5, b"waits")
    files = [SourceFile("a", sha(b"waits"), 5)]
    await deployments.request_deployment(site.platform, site.world.actor, site.project, Source("upload"), files=files)
    await site.age(400)
    assert (await site.collect()).objects == 0


@pytest.mark.reliability("R8.4")
async def test_objects_that_no_row_speaks_of_go_after_the_grace(site: Site, tmp_path: Path) -> None:
    live = await site.live(b"live")
    for key in (blob_key(site.project.id, sha(b"orphan")), manifest_key(site.project.id, "dep_gone")):
        await site.platform.objects.put(key, b"orphan", size=6)
    assert (await site.collect()).objects == 0
    for path in (tmp_path / "objects").rglob("*"):
        os.utime(path, (time.time() - 90_000,) * 2)
    assert (await site.collect()).objects == 2
    assert await site.is_whole(live, b"live")
    assert len(await site.stored()) == 2


async def test_without_every_manifest_nothing_is_freed(site: Site) -> None:
    live = await site.live(b"live", target=Target.PRODUCTION)
    await projects.store_blob(site.platform, site.project.id, sha(b"old"), 3, b"old")
    await site.platform.objects.delete([manifest_key(site.project.id, live.id)])
    await site.age(40)
    done = await site.collect()
    assert done.problem is not None and live.id in done.problem
    assert f"blobs/{sha(b'old')}" in await site.stored() and f"blobs/{sha(b'live')}" in await site.stored()


async def test_a_deleted_project_leaves_nothing(site: Site) -> None:
    await site.live(b"one", b"two")
    await projects.delete_project(site.platform, site.world.actor, site.project)
    await retention.collect_all(site.platform)
    assert await site.stored()  # what still runs may write for a while
    await site.run("update projects set deleted_at = now() - interval '1 hour' where id = $1")
    await retention.collect_all(site.platform)
    assert await site.stored() == set()
    assert await site.platform.db.fetch("list_kept_projects", None, site.project.id) == []


async def test_one_collection_at_a_time(site: Site) -> None:
    lease = await take_lease(site.platform.db, f"collect:{site.project.id}", 60)
    assert lease is not None
    with pytest.raises(CollectionRuns):
        await site.collect()
    assert await lease.extend(site.platform.db)
    await lease.drop(site.platform.db)
    await site.collect()


async def test_a_lease_that_ran_out_is_taken_and_not_got_back(site: Site) -> None:
    db = site.platform.db
    first = await take_lease(db, "x", 0.05)
    assert first is not None
    async with asyncio.timeout(10):
        while (second := await take_lease(db, "x", 60)) is None:
            await asyncio.sleep(0.02)
    assert not await first.extend(db)
    await first.drop(db)
    assert await take_lease(db, "x", 60) is None
    assert second.left_s > 0


@pytest.mark.parametrize("moment", ["before its object is gone", "after", "after it was forgotten that it was there"])
async def test_a_blob_that_is_put_while_it_is_collected_is_put_again(site: Site, moment: str) -> None:
    """The three steps of a collection, with a put before them that found the object in its place."""
    db, project_id, body = site.platform.db, site.project.id, b"wanted again"
    await projects.store_blob(site.platform, project_id, sha(body), len(body), body)
    await site.age(3)
    since_s = time.monotonic()
    key = blob_key(project_id, sha(body))
    assert await site.platform.objects.put(key, body, size=len(body)) is False
    now = await retention._now(site.platform)
    assert len(await db.fetch("begin_collecting", project_id, [sha(body)], now)) == 1
    assert await projects.missing_of(site.platform, project_id, [sha(body)]) == [sha(body)]
    if moment != "before its object is gone":
        await site.platform.objects.delete([key])
        await db.execute("end_collecting", project_id, [sha(body)])
        await db.execute("forget_collected", project_id)
    with pytest.raises(BlobsCollected):
        await projects.note_blobs(site.platform, project_id, [(sha(body), len(body))], since_s=since_s)
    assert await projects.missing_of(site.platform, project_id, [sha(body)]) == [sha(body)]
    if moment == "before its object is gone":
        return
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(BlobsCollected):
                await projects.store_blob(site.platform, project_id, sha(body), len(body), body)
                break
            await asyncio.sleep(0.1)
    assert await projects.missing_of(site.platform, project_id, [sha(body)]) == []
    assert await site.platform.objects.head(key) is not None


async def test_who_asks_first_keeps_it(site: Site) -> None:
    """A question and a collection at the same moment: told that it is here, or collected, never both."""
    bodies = [f"{n}".encode() for n in range(200)]
    for body in bodies:
        await projects.store_blob(site.platform, site.project.id, sha(body), len(body), body)
    await site.age(3)
    cutoff = await retention._now(site.platform)
    hashes = [sha(body) for body in bodies]
    random.Random(1).shuffle(hashes)

    async def ask() -> set[str]:
        told: set[str] = set()
        for start in range(0, 200, 7):
            some = hashes[start : start + 7]
            told |= set(some) - set(await projects.missing_of(site.platform, site.project.id, some))
        return told

    async def take() -> set[str]:
        taken: set[str] = set()
        for start in range(200, 0, -9):
            some = hashes[max(0, start - 9) : start]
            # A moment of before the questions, so that only they can save a blob.
            rows = await site.platform.db.fetch("begin_collecting", site.project.id, some, cutoff - DAY)
            taken |= {row["sha256"] for row in rows}
        return taken

    told, taken = await asyncio.gather(ask(), take())
    assert told.isdisjoint(taken)
    assert told | taken == set(hashes)


async def storm(site: Site, collect: Callable[[], Awaitable[None]]) -> int:
    """Deploy files that were just going to be collected, while they are; return how many objects had gone.

    Each deployment must have every byte of its own in the end.
    """
    dice = random.Random(7)
    bodies = [f"body {n}".encode() * 50 for n in range(60)]
    stored = 0
    for _ in range(3):
        await site.live(b"something else")
        await asyncio.gather(*(put_patiently(site, body) for body in bodies))
        await site.run("delete from leases where $1::text <> ''")
        before = len(await site.stored())
        await site.age(2)
        ended = asyncio.Event()

        async def keep_collecting(ended: asyncio.Event = ended) -> None:
            while not ended.is_set():
                with contextlib.suppress(CollectionRuns):
                    await collect()
                await asyncio.sleep(0)

        collectors = [asyncio.create_task(keep_collecting()) for _ in range(2)]
        try:
            made = []
            for _ in range(4):
                wanted = dice.sample(bodies, 6)
                made.append((await site.live(*wanted), wanted))
        finally:
            ended.set()
            await asyncio.gather(*collectors)
        for deployment, wanted in made:
            assert await site.is_whole(deployment, *wanted)
        stored += before - len(await site.stored())
    return stored


async def put_patiently(site: Site, body: bytes) -> None:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(BlobsCollected):
                await projects.store_blob(site.platform, site.project.id, sha(body), len(body), body)
                return
            await asyncio.sleep(0.1)


async def test_deploys_and_collections_at_the_same_time_lose_nothing(site: Site) -> None:
    async def collect() -> None:
        await site.collect()

    assert await storm(site, collect) > 0


@pytest.fixture
def s3_url() -> Iterator[str]:
    server = s3_servers.Moto()
    server.start()
    yield f"s3://vclone-{secrets.token_hex(4)}?endpoint={server.endpoint}&region=us-east-1"
    server.stop()


async def test_the_same_on_an_s3_store(settings: Settings, s3_url: str) -> None:
    on_s3 = settings.model_copy(
        update={
            "store": s3_url,
            "store_access_key": SecretStr(s3_servers.ACCESS_KEY),
            "store_secret_key": SecretStr(s3_servers.SECRET_KEY),
        }
    )
    async with open_platform(on_s3) as platform:
        owner = await ensure_owner(platform.db)
        world = World(platform, Actor(owner.user.id, owner.team.id, "owner"))
        site = Site(world, await world.project())

        async def collect() -> None:
            await site.collect()

        assert await storm(site, collect) > 0


KILLED = """
import asyncio, sys
from vclone_core.actions import retention
from vclone_core.actions.platform import open_platform
from vclone_core.settings import Settings

async def main():
    async with open_platform(Settings.model_validate_json(sys.argv[1])) as platform:
        print("ready", flush=True)
        while True:
            await retention.collect_all(platform)

asyncio.run(main())
"""


async def test_collections_that_are_killed_lose_nothing_and_are_taken_up(site: Site) -> None:
    secret = {"database_url": site.platform.settings.database_url.get_secret_value(),
              "redis_url": site.platform.settings.redis_url.get_secret_value()}  # fmt: skip
    settings = json.dumps(
        {**secret, "store": site.platform.settings.store, "data_dir": str(site.platform.settings.data_dir)}
    )
    dice = random.Random(3)
    for _ in range(3):
        bodies = [f"body {n}".encode() * 20 for n in range(20)]
        await site.run("delete from leases where $1::text <> ''")  # as if the dead one's had run out
        await asyncio.gather(*(put_patiently(site, body) for body in bodies))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, settings, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        assert process.stdout is not None
        assert (await process.stdout.readline()).strip() == b"ready"
        await site.age(2)
        await asyncio.sleep(dice.random() * 0.1)
        wanted = dice.sample(bodies, 5)
        deploying = asyncio.create_task(site.live(*wanted))
        await asyncio.sleep(dice.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        # Refused this often, it waits for blobs that the dead one was removing.
        limit = site.refusals + 60
        while not deploying.done() and site.refusals < limit:
            await asyncio.sleep(0.01)
        if not (done := deploying.done()):
            deploying.cancel()
            await asyncio.wait({deploying})
        # Nothing is under way: let ten minutes pass, after which they are nobody's.
        for column in ("collecting_since", "collected_at"):
            await site.run(f"update blobs set {column} = {column} - interval '1 hour' where project_id = $1")
        deployment = await (deploying if done else site.live(*wanted))
        assert await site.is_whole(deployment, *wanted)
    await site.run("delete from leases where $1::text <> ''")
    await site.collect()
    left = "select count(*) from blobs where project_id = $1 and collecting_since is not null and collected_at is null"
    async with site.platform.db._pool.acquire() as connection:
        assert await connection.fetchval(left, site.project.id) == 0
    assert (await site.collect()).objects == 0
