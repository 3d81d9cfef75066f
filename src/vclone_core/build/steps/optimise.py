"""*optimise*, the sixth step: hashes, types, precompressed variants and the routing table of the collected files."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, Final

import brotli

from vclone_core.build.context import Body, Build, OutputFile, Work
from vclone_core.build.parallel import run_each
from vclone_core.errors import DetectFailed, Invalid, NotFound, OutputRefused
from vclone_core.models import EarlierFile, FileEntry, Manifest, Pack, Route, Variant
from vclone_core.rules.earlier import DAY_S, carry_forward
from vclone_core.rules.manifests import list_blobs
from vclone_core.rules.objectkeys import blob_key
from vclone_core.rules.output import COMPRESS_FROM_BYTES, is_fingerprinted, is_worth
from vclone_core.rules.route_sources import Sources, plan_routes
from vclone_core.rules.tables import compile_table
from vclone_core.rules.types import is_compressible, pick_type
from vclone_core.stores.folders import open_beneath, open_folder

# Larger files are hashed piece by piece and stay as they are.
WHOLE_BYTES: Final = 32 * 1024**2
PLUGIN_BYTES: Final = 5 * 1024**2
PIECE_BYTES: Final = 1024**2
# A batch is one trip to a thread: small enough to share the work out, large enough not to be all trips.
BATCH_FILES: Final = 32
BATCH_BYTES: Final = 4 * 1024**2
THREADS: Final = min(4, os.cpu_count() or 1)
# Variants up to this size share a blob, the pack of their batch.
PACKED_BYTES: Final = 64 * 1024
FETCHES: Final = 16
SHELF_BYTES: Final = 64 * 1024**2

Variants = Mapping[str, Variant]


@dataclass(slots=True)
class _Made:
    """What one batch gave: entries by path, and where the bytes of each hash lie."""

    entries: dict[str, FileEntry] = field(default_factory=dict)
    bodies: dict[str, Body] = field(default_factory=dict)
    compressed: int = 0


class _Shelf:
    """Keeps what was made of files until it is stored: in memory up to a limit, in a folder from there on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._room = SHELF_BYTES
        self._lock = threading.Lock()

    def keep(self, sha256: str, body: bytes) -> Body:
        """Return the bytes, or where they lie."""
        with self._lock:
            if len(body) <= self._room:
                self._room -= len(body)
                return body
            self._folder.mkdir(exist_ok=True)
        path = self._folder / sha256
        path.write_bytes(body)
        return path


async def optimise_files(work: Work) -> None:
    """Fill the manifest's entries and routes. What an earlier deployment compressed isn't compressed again."""
    assert work.output is not None
    previous = await work.build.previous_manifests()
    known = await _find_known(work, previous)
    shelf = _Shelf(work.build.workspace / "variants")
    immutable = work.detection.definition.immutable if work.detection else ()
    improve = _ask_plugins(work)
    loop = asyncio.get_running_loop()
    objects, project_id = work.build.objects, work.build.claim.project.id
    root = await asyncio.to_thread(open_folder, work.output)
    made = _Made()
    try:
        with ThreadPoolExecutor(THREADS, thread_name_prefix="optimise") as threads:
            task = _Task(
                root, known, shelf, immutable, improve, lambda sha256: objects.find_path(blob_key(project_id, sha256))
            )

            async def optimise(batch: Sequence[OutputFile]) -> None:
                stored = await _fetch(work.build, [file for file in batch if task.fetches(file)])
                one = await loop.run_in_executor(threads, task.run, batch, stored)
                made.entries |= one.entries
                made.bodies |= one.bodies
                made.compressed += one.compressed

            # A few more than threads, so that none waits for the store; never all, whose bytes would not fit in memory.
            await run_each(_batches(work.files), optimise, in_flight=2 * THREADS)
    finally:
        os.close(root)
    work.entries, work.bodies = {file.path: made.entries[file.path] for file in work.files}, made.bodies
    work.routes = await _compile_routes(work)
    work.earlier = await _carry_forward(work, previous)
    reused = sum(1 for entry in made.entries.values() if (entry.sha256, entry.type) in known)
    await work.build.log.line(f"{made.compressed:,} files compressed, {reused:,} known from before")


async def _find_known(work: Work, previous: Sequence[Manifest]) -> dict[tuple[str, str], Variants]:
    """Return the variants in the previous manifests by (SHA-256, type), those whose blobs are still stored."""
    entries = [entry for manifest in reversed(previous) for entry in manifest.files.values()]
    known = {(entry.sha256, entry.type): entry.variants for entry in entries}
    hashes = {variant.object_sha256 for variants in known.values() for variant in variants.values()}
    gone = frozenset(await work.build.blobs.missing(sorted(hashes)) if hashes else ())
    return {
        key: variants
        for key, variants in known.items()
        if gone.isdisjoint(variant.object_sha256 for variant in variants.values())
    }


async def _carry_forward(work: Work, previous: Sequence[Manifest]) -> dict[str, EarlierFile]:
    """Return the earlier builds' files that go on being served, those whose blobs are still stored."""
    kept_s = work.build.settings.earlier_assets_days * DAY_S
    carried = carry_forward(work.entries, previous, now_s=int(time.time()), kept_s=kept_s)
    hashes = {sha256 for file in carried.values() for sha256 in list_blobs([file.entry])}
    gone = frozenset(await work.build.blobs.missing(sorted(hashes)) if hashes else ())
    return {path: file for path, file in carried.items() if gone.isdisjoint(list_blobs([file.entry]))}


def _ask_plugins(work: Work) -> Callable[[OutputFile, FileEntry, bytes], bytes] | None:
    """Return what puts a file through the plugins' `optimise_asset`; None when no plugin has that hook."""
    plugins = work.build.plugins
    if not plugins.manager.hook.optimise_asset.get_hookimpls():
        return None

    def improve(file: OutputFile, entry: FileEntry, body: bytes) -> bytes:
        for _, better in plugins.ask("optimise_asset", path=file.path, entry=entry, body=body):
            body = bytes(better)
        return body

    return improve


def _batches(files: Sequence[OutputFile]) -> list[list[OutputFile]]:
    batches: list[list[OutputFile]] = []
    size = BATCH_BYTES
    for file in files:
        if size >= BATCH_BYTES or len(batches[-1]) >= BATCH_FILES:
            batches.append([])
            size = 0
        batches[-1].append(file)
        size += file.size
    return batches


async def _fetch(build: Build, files: Sequence[OutputFile]) -> dict[str, bytes]:
    """Return the bytes of files that lie in the store alone, by SHA-256."""
    bodies: dict[str, bytes] = {}

    async def fetch(file: OutputFile) -> None:
        assert file.sha256 is not None
        try:
            async with build.objects.open(blob_key(build.claim.project.id, file.sha256)) as body:
                bodies[file.sha256] = b"".join([chunk async for chunk in body.chunks])
        except NotFound as error:
            raise _gone(file) from error

    await run_each(files, fetch, in_flight=min(FETCHES, len(files)))
    return bodies


@dataclass(frozen=True, slots=True)
class _Task:
    """What is done with every file of an output, whose root is open as `root`."""

    root: int
    known: Mapping[tuple[str, str], Variants]
    shelf: _Shelf
    immutable: Sequence[str]
    improve: Callable[[OutputFile, FileEntry, bytes], bytes] | None
    find_path: Callable[[str], Path | None]

    def fetches(self, file: OutputFile) -> bool:
        """Say whether the bytes of a file have to be asked of a store on another machine."""
        return self.reads(file) and self.find_path(file.sha256 or "") is None

    def reads(self, file: OutputFile) -> bool:
        """Say whether the bytes of a file that lies in the store alone are needed."""
        if file.sha256 is None:
            return False
        return self._is_improved(file.size) or self._is_compressed(file.sha256, file.size, _type_of(file))

    def run(self, batch: Sequence[OutputFile], stored: Mapping[str, bytes]) -> _Made:
        """Optimise some files, in a thread; `stored` has the bytes of those that `fetches` asked for."""
        made = _Made()
        fresh: dict[str, Mapping[str, bytes]] = {}
        for file in batch:
            type_ = _type_of(file)
            is_immutable = is_fingerprinted(file.path, type_, immutable=self.immutable, is_copied=file.is_copied)
            if file.sha256 is not None:
                body = (stored.get(file.sha256) or self._read_stored(file)) if self.reads(file) else None
                sha256, size = file.sha256, file.size
            else:
                body, sha256, size = self._read(file)
                made.bodies[sha256] = replace(file, size=size)
            entry = FileEntry(sha256, size, type_, is_immutable)
            if body is not None and self.improve is not None and self._is_improved(size):
                better = self.improve(file, entry, body)
                if better != body:
                    body = better
                    entry = FileEntry(hashlib.sha256(body).hexdigest(), len(body), type_, is_immutable)
                    made.bodies[entry.sha256] = self.shelf.keep(entry.sha256, body)
            if body is not None and self._is_compressed(entry.sha256, entry.size, type_):
                fresh[file.path] = _compress(body)
            made.entries[file.path] = replace(entry, variants=self.known.get((entry.sha256, type_), {}))
        self._keep(fresh, made)
        return made

    def _keep(self, fresh: Mapping[str, Mapping[str, bytes]], made: _Made) -> None:
        """Shelve the variants of a batch, the small ones as one blob: to store thousands of files takes seconds."""
        bodies = {hashlib.sha256(body).hexdigest(): body for smaller in fresh.values() for body in smaller.values()}
        hashes = {body: sha256 for sha256, body in bodies.items()}
        packed = {sha256: body for sha256, body in bodies.items() if len(body) <= PACKED_BYTES}
        packs: dict[str, Pack] = {}
        if len(packed) > 1:
            whole = b"".join(packed.values())
            sha256 = hashlib.sha256(whole).hexdigest()
            starts = accumulate(map(len, packed.values()), initial=0)
            packs = {part: Pack(sha256, len(whole), start) for part, start in zip(packed, starts, strict=False)}
            bodies = {sha256: whole, **{one: body for one, body in bodies.items() if one not in packs}}
        for path, smaller in fresh.items():
            variants = {}
            for coding, body in smaller.items():
                sha256 = hashes[body]
                variants[coding] = Variant(sha256, len(body), packs.get(sha256))
            made.entries[path] = replace(made.entries[path], variants=variants)
        made.bodies |= {sha256: self.shelf.keep(sha256, body) for sha256, body in bodies.items()}
        made.compressed += len(fresh)

    def _is_improved(self, size: int) -> bool:
        return self.improve is not None and size <= PLUGIN_BYTES

    def _is_compressed(self, sha256: str, size: int, type_: str) -> bool:
        is_candidate = COMPRESS_FROM_BYTES <= size <= WHOLE_BYTES and is_compressible(type_)
        return is_candidate and (sha256, type_) not in self.known

    def _read(self, file: OutputFile) -> tuple[bytes | None, str, int]:
        try:
            descriptor = open_beneath(self.root, file.local)
        except OSError as error:
            raise OutputRefused(what=f"{file.path} can't be read ({error.strerror or error})") from error
        with os.fdopen(descriptor, "rb", 0) as source:
            return _read(source)

    def _read_stored(self, file: OutputFile) -> bytes:
        path = self.find_path(file.sha256 or "")
        try:
            return path.read_bytes() if path is not None else b""
        except FileNotFoundError as error:
            raise _gone(file) from error


def _gone(file: OutputFile) -> OutputRefused:
    return OutputRefused(what=f"the bytes of {file.path} are gone from the store", hint="Deploy again.")


def _type_of(file: OutputFile) -> str:
    return file.type or pick_type(file.path)


def _read(source: BinaryIO | Any) -> tuple[bytes | None, str, int]:
    """Return a file's bytes (None for a large one), SHA-256 and size."""
    body = source.read(WHOLE_BYTES + 1)
    digest, size = hashlib.sha256(body), len(body)
    if size <= WHOLE_BYTES:
        return body, digest.hexdigest(), size
    while piece := source.read(PIECE_BYTES):
        digest.update(piece)
        size += len(piece)
    return None, digest.hexdigest(), size


def _brotli(body: bytes) -> bytes:
    # A window that fits: clearing tables for a larger one is half the work on a small file.
    smaller: bytes = brotli.compress(body, quality=5, lgwin=max(16, min(22, len(body).bit_length())))
    return smaller


# Brotli 5 and gzip 6: higher levels cost many times the time for a few per cent. The same bytes give the same blob.
_CODINGS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "br": _brotli,
    "gzip": lambda body: gzip.compress(body, 6, mtime=0),
}


def _compress(body: bytes) -> Mapping[str, bytes]:
    """Return the variants of a file that are worth their place."""
    smaller = {coding: compress(body) for coding, compress in _CODINGS.items()}
    return {coding: short for coding, short in smaller.items() if is_worth(len(body), len(short))}


async def _compile_routes(work: Work) -> tuple[Route, ...]:
    project = work.build.claim.project
    answers = await work.build.plugins.ask_beside("request_rules", project=project)
    before = [route for _, routes in answers for route in routes]
    sources = Sources(
        ready=None if work.config is None else work.config.routes,
        vercel=work.vercel,
        redirects=work.redirects,
        headers=work.headers,
        is_single_page=work.detection is not None and work.detection.definition.single_page,
        has_clean_urls=work.detection is not None and work.detection.definition.clean_urls,
    )
    routes = plan_routes(sources, work.entries, before=before)
    try:
        compile_table(Manifest(work.build.claim.deployment.id, project.id, None, work.entries, routes))
    except Invalid as error:
        raise DetectFailed(what=str(error.facts.get("what", error))) from error
    return routes
