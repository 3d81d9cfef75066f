"""One build's caches: laid out before the install, packed beside the last steps, stored when all of them went well.

A cache is never a reason to fail: what is missing, damaged or too much is said in the log, and the build goes on.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vclone_core.build.archives import NotArchived, Packed, find_folders, pack, unpack
from vclone_core.build.context import Build
from vclone_core.errors import NotFound, Unavailable
from vclone_core.rules.buildcaches import (
    Base,
    CacheKind,
    CachePlan,
    Stored,
    list_removable,
    pick_newest,
)
from vclone_core.rules.objectkeys import cache_key
from vclone_core.rules.output import format_size

MODULES: Final = "node_modules"


@dataclass(slots=True)
class Caches:
    """What one build has restored, and what it will store."""

    build: Build
    plans: tuple[CachePlan, ...]
    exact: set[CacheKind] = field(default_factory=set)
    _late: list[tuple[Path, Path]] = field(default_factory=list)
    _packed: dict[CacheKind, tuple[Path, Packed]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _packing: asyncio.Task[None] | None = None
    _seconds: float = 0.0

    async def restore(self) -> None:
        """Lay out what is stored. What belongs below `node_modules` waits for `restore_rest` unless that is exact."""
        if not self.build.project_settings.build_cache:
            await self.build.log.line("Caches: this build starts without them; what it makes is kept for later ones")
            return
        started = time.monotonic()
        for plan in self.plans:
            if plan.kind is CacheKind.PACKAGES and CacheKind.MODULES in self.exact:
                continue
            await self._restore_one(plan)
        self._note("cache_restore", time.monotonic() - started)

    async def restore_rest(self) -> None:
        """Lay out what a clean install would have removed."""
        for folder, base in self._late:
            await asyncio.to_thread(_merge, folder, base, None)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        self._late.clear()

    async def drop_modules(self) -> None:
        """Take restored packages away again: they did not fit."""
        self.exact.discard(CacheKind.MODULES)
        source = self.build.workspace / Base.SOURCE
        for path in await asyncio.to_thread(find_folders, source, MODULES):
            await asyncio.to_thread(shutil.rmtree, source / path, ignore_errors=True)

    def start_packing(self) -> None:
        """Begin to pack what the next build can use, beside the steps that follow the build."""
        self._packing = asyncio.create_task(self._pack_all(), name="pack caches")

    async def store(self) -> None:
        """Store what was packed, and remove what the project keeps too much of."""
        if self._packing is None:
            return
        started = time.monotonic()
        await self._packing
        for plan in self.plans:
            if plan.kind not in self._packed:
                continue
            archive, packed = self._packed[plan.kind]
            try:
                await self.build.objects.put(self._key(plan.key), archive, size=packed.size_bytes, overwrite=True)
            except (Unavailable, OSError) as error:
                await self._say(f"{plan.kind} not stored: {error}")
                continue
            await self._say(f"{plan.kind} stored, {packed.files:,} entries, {format_size(packed.size_bytes)}")
        if self._packed:
            await self._trim()
        self._seconds += time.monotonic() - started
        self._note("cache_store", self._seconds)

    async def close(self) -> None:
        """End what still packs."""
        self._stop.set()
        if self._packing is not None:
            await asyncio.wait({self._packing})

    async def _restore_one(self, plan: CachePlan) -> None:
        build, started = self.build, time.monotonic()
        folder = build.workspace / "restored" / plan.kind
        try:
            found = await self._find(plan)
            if found is None:
                return
            packed = await self._fetch(found, folder)
        except NotFound:
            return
        except (NotArchived, Unavailable, OSError) as error:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            await self._say(f"{plan.kind} ignored: {error}")
            return
        is_exact = found == self._key(plan.key)
        if is_exact:
            self.exact.add(plan.kind)
        base = build.workspace / plan.base
        await asyncio.to_thread(base.mkdir, exist_ok=True)
        is_kept = plan.kind is CacheKind.FRAMEWORK and CacheKind.MODULES not in self.exact
        await asyncio.to_thread(_merge, folder, base, MODULES if is_kept else None)
        if is_kept:
            self._late.append((folder, base))
        seconds = time.monotonic() - started
        what = "the same" if is_exact and not plan.is_rewritten else "an earlier one's"
        size = format_size(packed.size_bytes)
        await self._say(f"{plan.kind} restored ({what}), {packed.files:,} entries, {size}, {seconds:.2f} s")

    async def _find(self, plan: CachePlan) -> str | None:
        """Return the key of the archive to read, None where there is none."""
        exact = self._key(plan.key)
        if plan.fallback is None or await self.build.objects.head(exact) is not None:
            return exact
        newest = pick_newest(await self._list(self._key(plan.fallback)))
        return None if newest is None else newest.key

    async def _fetch(self, key: str, folder: Path) -> Packed:
        await asyncio.to_thread(folder.mkdir, parents=True)
        async with self.build.objects.open(key) as body:
            if body.path is not None:
                return await asyncio.to_thread(unpack, body.path, folder)
            archive = folder.with_name(f"{folder.name}.archive")
            with await asyncio.to_thread(archive.open, "wb") as out:
                async for chunk in body.chunks:
                    await asyncio.to_thread(out.write, chunk)
        try:
            return await asyncio.to_thread(unpack, archive, folder)
        finally:
            await asyncio.to_thread(archive.unlink, missing_ok=True)

    async def _pack_all(self) -> None:
        started = time.monotonic()
        folder = self.build.workspace / "packed"
        own = {path for plan in self.plans if plan.kind is CacheKind.FRAMEWORK for path in plan.paths}
        for plan in self.plans:
            if plan.kind in self.exact and not plan.is_rewritten:
                continue
            if plan.kind is CacheKind.PACKAGES and CacheKind.MODULES in self.exact:
                continue
            base, archive = self.build.workspace / plan.base, folder / f"{plan.kind}.tar.zst"
            left_out = () if plan.kind is CacheKind.FRAMEWORK else own
            try:
                await asyncio.to_thread(folder.mkdir, exist_ok=True)
                packed = await asyncio.to_thread(_pack_plan, plan, base, archive, left_out, self._stop)
            except NotArchived as error:
                await self._say(f"{plan.kind} not kept: {error}")
            except OSError as error:
                await asyncio.to_thread(archive.unlink, missing_ok=True)
                await self._say(f"{plan.kind} not kept: {error}")
            else:
                if packed.files:
                    self._packed[plan.kind] = archive, packed
        self._seconds = time.monotonic() - started

    async def _trim(self) -> None:
        try:
            stored = await self._list(self._key(""))
            removable = list_removable(stored, now_s=time.time())
            if removable:
                await self.build.objects.delete(removable)
        except Unavailable as error:
            await self._say(f"old ones not removed: {error.sentence}")

    async def _list(self, prefix: str) -> list[Stored]:
        return [Stored(one.key, one.size, one.modified_s) async for one in self.build.objects.list(prefix)]

    def _key(self, key: str) -> str:
        return cache_key(self.build.claim.project.id, key)

    def _note(self, name: str, seconds: float) -> None:
        self.build.log.step_seconds[name] = round(seconds, 3)

    async def _say(self, text: str) -> None:
        if not self._stop.is_set():
            await self.build.log.line(f"Caches: {text}")


def _pack_plan(plan: CachePlan, base: Path, archive: Path, left_out: Iterable[str], stop: threading.Event) -> Packed:
    paths: list[str] = []
    for path in plan.paths:
        paths += find_folders(base, path.removeprefix("**/")) if path.startswith("**/") else [path]
    if not base.is_dir():
        return Packed(0, 0)
    return pack(base, paths, archive, left_out=frozenset(left_out), stop=stop)


def _merge(origin: Path, target: Path, skipped: str | None) -> None:
    """Move what lies in `origin` into `target` where nothing of that name is; folders of that name are gone into.

    Folders named `skipped` stay. No command of the build runs meanwhile, and links in `target` are not taken.
    """
    for here in sorted(origin.iterdir()):
        name, there = here.name, target / here.name
        is_folder = here.is_dir() and not here.is_symlink()
        if name == skipped:
            continue
        if is_folder and (os.path.lexists(there) or _holds(here, skipped)):
            if not os.path.lexists(there):
                there.mkdir()
            if there.is_dir() and not there.is_symlink():
                _merge(here, there, skipped)
        elif not os.path.lexists(there):
            here.rename(there)


def _holds(folder: Path, name: str | None) -> bool:
    return name is not None and any(name in folders for _, folders, _ in os.walk(folder))
