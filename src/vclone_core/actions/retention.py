"""Keeps what a project's rules keep, and frees the storage of the rest: mark and sweep, one project at a time.

deployments that go: aliases and row -> manifests without a row -> blobs that nothing needs and nobody asked for lately

A blob goes in three steps: its row says so (it counts as missing from then on), its object is removed, its row says
that. Whoever puts the same blob meanwhile is told to put it again (`records.insert_blobs`), so that no order of the two
loses it. The lease is looked at before every step; what a killed collection left is taken up by the next.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from vclone_core.actions.deployments import find_deployment
from vclone_core.actions.platform import Platform
from vclone_core.actions.publishing import remove_deployment
from vclone_core.errors import CollectionRuns, Invalid, NotFound, StoreUnavailable, VcloneError
from vclone_core.log import get_log
from vclone_core.models import Actor, Deployment, Manifest, Project, SourceFile, State, Target
from vclone_core.rules.access import require
from vclone_core.rules.buildcaches import Stored, list_removable
from vclone_core.rules.manifests import decode_manifest
from vclone_core.rules.objectkeys import blob_key, cache_key, manifest_key
from vclone_core.rules.retention import (
    Removal,
    Retention,
    Standing,
    decide_removals,
    list_needed,
    parse_retention,
)
from vclone_core.rules.sources import decode_files
from vclone_core.stores import records
from vclone_core.stores.leases import Lease, take_lease
from vclone_core.stores.postgres import Record

log = get_log(__name__)

# A collection that is silent this long has died. Removing one batch must take far less.
LEASE_S: Final = 120.0
BATCH_LEFT_S: Final = 60.0
BATCH_LIMIT_S: Final = 30.0
BATCH: Final = 256
READS_AT_ONCE: Final = 8
# A deleted project's uploads and builds have ended by then.
DELETED_REST: Final = timedelta(minutes=10)
_BLOB: Final = re.compile(r"[^/]+/blobs/([0-9a-f]{64})")
_MANIFEST: Final = re.compile(r"[^/]+/(dep_[^/]+)/manifest\.json")

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed of one project, or would: deployments, and objects with their bytes.

    `problem` says why storage was left as it is: without every manifest nobody knows what is needed.
    """

    project_id: str
    project: str
    deployments: tuple[Removal, ...] = ()
    objects: int = 0
    bytes: int = 0
    problem: str | None = None


@dataclass(slots=True)
class _Sweep:
    """One collection of one project under way. Without a lease it only looks."""

    platform: Platform
    project: Record
    lease: Lease | None
    objects: int = 0
    bytes: int = 0
    gone: frozenset[str] = field(default_factory=frozenset)

    async def go_on(self) -> None:
        """See that there is time for one more batch; raise `CollectionRuns` when somebody else took over."""
        assert self.lease is not None
        if self.lease.left_s < BATCH_LEFT_S and not await self.lease.extend(self.platform.db):
            raise CollectionRuns(project=self.project["name"])


async def show_retention(platform: Platform, actor: Actor, project: Project) -> Retention:
    """Return a project's rules."""
    require(actor, "see a project")
    row = await platform.db.fetch_one("fetch_retention", project.id)
    if row is None:
        raise NotFound(what="project")
    return parse_retention(row["retention"])


async def change_retention(platform: Platform, actor: Actor, project: Project, changes: Mapping[str, int]) -> Retention:
    """Change a project's rules and return them; raise `InvalidFields`."""
    require(actor, "change a project")
    retention = parse_retention({**asdict(await show_retention(platform, actor, project)), **changes})
    await platform.db.execute("set_retention", project.id, asdict(retention))
    return retention


async def pin(platform: Platform, actor: Actor, deployment_id: str, *, is_pinned: bool) -> Deployment:
    """Keep a deployment whatever the rules say, or let them decide again."""
    require(actor, "pin a deployment")
    found = await find_deployment(platform, actor, deployment_id)
    row = await platform.db.fetch_one("pin_deployment", found.id, is_pinned)
    if row is None:
        raise NotFound(what="deployment")
    return records.deployment_from(row)


async def collect(platform: Platform, actor: Actor, project: Project, *, is_dry_run: bool) -> Collected:
    """Apply a project's rules now and free what nothing needs; with `is_dry_run` only say what would go.

    Raises `CollectionRuns` when another process is at it.
    """
    require(actor, "collect storage")
    row = await platform.db.fetch_one("list_kept_projects", actor.team_id, project.id)
    if row is None:
        raise NotFound(what="project")
    return await collect_project(platform, row, is_dry_run=is_dry_run)


async def collect_all(platform: Platform) -> list[Collected]:
    """Apply every project's rules; one that can't be done is logged and tried again next time."""
    done = []
    for row in await platform.db.fetch("list_kept_projects", None, None):
        try:
            collected = await collect_project(platform, row, is_dry_run=False)
        except VcloneError as error:
            log.warning("collection.missed", project=row["id"], why=error.sentence)
            continue
        if collected.deployments or collected.objects or collected.problem:
            log.info(
                "collection.done",
                project=row["id"],
                deployments=len(collected.deployments),
                objects=collected.objects,
                bytes=collected.bytes,
                problem=collected.problem,
            )
        done.append(collected)
    return done


async def collect_project(platform: Platform, row: Record, *, is_dry_run: bool) -> Collected:
    """Collect one project, a row of `list_kept_projects`."""
    lease = None
    if not is_dry_run:
        lease = await take_lease(platform.db, f"collect:{row['id']}", LEASE_S)
        if lease is None:
            raise CollectionRuns(project=row["name"])
    sweep = _Sweep(platform, row, lease)
    try:
        if row["is_deleted"]:
            return await _free_project(sweep)
        return await _collect(sweep)
    finally:
        if lease is not None:
            await lease.drop(platform.db)


async def _collect(sweep: _Sweep) -> Collected:
    platform, project_id = sweep.platform, sweep.project["id"]
    now = await _now(platform)
    cutoff = now - timedelta(hours=platform.settings.collect_grace_h)
    removals = decide_removals(
        [_standing(row) for row in await platform.db.fetch("list_standings", project_id)],
        parse_retention(sweep.project["retention"]),
        now=now,
    )
    if sweep.lease is not None:
        removals = tuple([one for one in removals if await _remove(sweep, one)])
    sweep.gone = frozenset(one.id for one in removals)
    collected = Collected(project_id, sweep.project["name"], removals)
    try:
        needed, kept = await _mark(sweep)
    except Invalid as problem:
        return replace(collected, problem=problem.sentence)
    await _sweep_objects(sweep, kept, cutoff, needed)
    await _sweep_blobs(sweep, needed, cutoff)
    return replace(collected, objects=sweep.objects, bytes=sweep.bytes)


async def _remove(sweep: _Sweep, removal: Removal) -> bool:
    await sweep.go_on()
    if not await remove_deployment(sweep.platform, removal.id):
        return False  # it was pinned, or shown by a host, since the rules were asked
    await sweep.platform.objects.delete([manifest_key(sweep.project["id"], removal.id)])
    return True


async def _mark(sweep: _Sweep) -> tuple[frozenset[str], frozenset[str]]:
    """Return the blobs that are needed, and the deployments that there are. Raises `Invalid` when one can't be read.

    What is asked for from now on needs no mark: it counts as needed lately.
    """
    marked = await sweep.platform.db.fetch("list_marked", sweep.project["id"])
    rows = [row for row in marked if row["id"] not in sweep.gone]
    sources: list[Sequence[SourceFile]] = [decode_files(row["files"]) for row in rows if row["files"] is not None]
    # A build that died behind its manifest goes on from it; the others' manifests are there or not.
    wanted = [row for row in rows if row["state"] in (State.READY, State.BUILDING, State.QUEUED)]
    manifests: list[Manifest] = []
    for some in _batches(wanted, READS_AT_ONCE):
        found = await asyncio.gather(*(_read_manifest(sweep, row) for row in some))
        manifests += [manifest for manifest in found if manifest is not None]
        if sweep.lease is not None:
            await sweep.go_on()
    return list_needed(manifests, sources), frozenset(row["id"] for row in rows)


async def _read_manifest(sweep: _Sweep, row: Record) -> Manifest | None:
    try:
        async with sweep.platform.objects.open(manifest_key(sweep.project["id"], row["id"])) as body:
            return decode_manifest(b"".join([chunk async for chunk in body.chunks]))
    except NotFound:
        if row["state"] != State.READY:
            return None
        # Removed beside us together with its row, or lost: then nobody knows what it needs.
        if await sweep.platform.db.fetch_one("fetch_deployment_by_id", row["id"]) is None:
            return None
        raise Invalid(what=f"the manifest of {row['id']} is gone from the store") from None


async def _sweep_objects(sweep: _Sweep, kept: frozenset[str], cutoff: datetime, needed: frozenset[str]) -> None:
    """Remove manifests without a row, and take objects that no row speaks of among the blobs that are being removed.

    Build caches go here too when they are old, for projects that build no more: a build removes its own project's.
    """
    platform, project_id = sweep.platform, sweep.project["id"]
    doomed: dict[str, int] = {}
    caches: list[Stored] = []
    lost: dict[str, int] = {}
    known = {row["sha256"] for row in await platform.db.fetch("list_blobs", project_id)}
    async for info in platform.objects.list(f"{project_id}/"):
        if info.key.startswith(cache_key(project_id, "")):
            caches.append(Stored(info.key, info.size, info.modified_s))
        elif info.modified_s >= cutoff.timestamp():
            continue
        elif (found := _BLOB.fullmatch(info.key)) and found[1] not in known and found[1] not in needed:
            lost[found[1]] = info.size
        elif (found := _MANIFEST.fullmatch(info.key)) and found[1] not in kept:
            doomed[info.key] = info.size
    sizes = {cache.key: cache.size for cache in caches}
    doomed |= {key: sizes[key] for key in list_removable(caches, now_s=(await _now(platform)).timestamp())}
    sweep.objects, sweep.bytes = sweep.objects + len(doomed), sweep.bytes + sum(doomed.values())
    if sweep.lease is None:
        sweep.objects, sweep.bytes = sweep.objects + len(lost), sweep.bytes + sum(lost.values())
        return
    for keys in _batches(list(doomed), BATCH):
        await _delete(sweep, keys)
    for some in _batches(list(lost), BATCH):
        await sweep.go_on()
        rows = await platform.db.fetch("adopt_orphans", project_id, some, [lost[sha256] for sha256 in some])
        await _remove_blobs(sweep, rows)


async def _sweep_blobs(sweep: _Sweep, needed: frozenset[str], cutoff: datetime) -> None:
    platform, project_id = sweep.platform, sweep.project["id"]
    rows = await platform.db.fetch("list_unneeded", project_id, cutoff)
    unneeded = [row for row in rows if row["sha256"] not in needed]
    if sweep.lease is None:
        sweep.objects, sweep.bytes = sweep.objects + len(unneeded), sweep.bytes + sum(r["size_bytes"] for r in unneeded)
        return
    await platform.db.execute("forget_collected", project_id)
    for some in _batches(unneeded, BATCH):
        await sweep.go_on()
        hashes = [row["sha256"] for row in some]
        await _remove_blobs(sweep, await platform.db.fetch("begin_collecting", project_id, hashes, cutoff))


async def _remove_blobs(sweep: _Sweep, rows: Sequence[Record]) -> None:
    """Remove the objects of blobs whose rows say that they are being collected."""
    project_id = sweep.project["id"]
    hashes = [row["sha256"] for row in rows]
    await _delete(sweep, [blob_key(project_id, sha256) for sha256 in hashes])
    await sweep.platform.db.execute("end_collecting", project_id, hashes)
    sweep.objects += len(rows)
    sweep.bytes += sum(row["size_bytes"] for row in rows)


async def _free_project(sweep: _Sweep) -> Collected:
    """Remove everything of a deleted project, once nothing of it runs any more."""
    platform, project_id = sweep.platform, sweep.project["id"]
    collected = Collected(project_id, sweep.project["name"])
    unfinished = await platform.db.fetch_one("count_unfinished", project_id)
    rested = sweep.project["deleted_at"] < await _now(platform) - DELETED_REST
    if not rested or unfinished is None or unfinished["unfinished"]:
        return collected
    keys = []
    async for info in platform.objects.list(f"{project_id}/"):
        keys.append(info.key)
        sweep.bytes += info.size
    sweep.objects = len(keys)
    if sweep.lease is not None:
        for some in _batches(keys, BATCH):
            await sweep.go_on()
            await _delete(sweep, some)
        async with platform.db.transaction() as tx:
            for query in ("delete_deployments_of_project", "delete_blobs_of_project", "mark_freed"):
                await tx.execute(query, project_id)
    return replace(collected, objects=sweep.objects, bytes=sweep.bytes)


async def _delete(sweep: _Sweep, keys: Sequence[str]) -> None:
    # Cut off well before the lease ends: its next holder must not meet our late deletes.
    try:
        async with asyncio.timeout(BATCH_LIMIT_S):
            await sweep.platform.objects.delete(keys)
    except TimeoutError:
        raise StoreUnavailable(why=f"it did not remove {len(keys)} objects within {BATCH_LIMIT_S:.0f} s") from None


async def _now(platform: Platform) -> datetime:
    row = await platform.db.fetch_one("fetch_collection_time")
    assert row is not None
    now: datetime = row["now"]
    return now.astimezone(UTC)


def _standing(row: Record) -> Standing:
    return Standing(
        id=row["id"],
        target=Target(row["target"]),
        state=State(row["state"]),
        sequence=row["sequence"],
        ended_at=row["ended_at"],
        is_pinned=row["is_pinned"],
        is_shown=row["is_shown"],
    )


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
