"""*upload*, the last step before *publish*, which stores the manifest: the blobs that the project lacks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

from vclone_core.build.context import Body, Build, OutputFile, Work
from vclone_core.build.parallel import run_each
from vclone_core.errors import BlobsCollected, Invalid, UploadFailed
from vclone_core.models import Manifest
from vclone_core.rules.manifests import list_blobs
from vclone_core.rules.objectkeys import blob_key
from vclone_core.rules.output import format_size
from vclone_core.stores.folders import open_beneath, open_folder

# Small bodies are cheap to hold and worth gathering, for stores that write many in one go.
SMALL_BYTES: Final = 64 * 1024
SMALL_IN_FLIGHT: Final = 256
IN_FLIGHT: Final = 16
ATTEMPTS: Final = 10
COLLECTION_REST_S: Final = 1.0
WHOLE_BYTES: Final = 8 * 1024**2
PIECE_BYTES: Final = 256 * 1024


async def upload_files(work: Work) -> None:
    """Store every blob that the manifest names and the project lacks; raise `UploadFailed`."""
    build = work.build
    sizes = list_blobs(work.entries.values())
    stored: dict[str, int] = {}
    for attempt in range(1, ATTEMPTS + 1):
        missing = await build.blobs.missing(list(sizes))
        started_s = time.monotonic()
        await _put_all(work, missing, sizes)
        try:
            await build.blobs.note([(sha256, sizes[sha256]) for sha256 in missing], since_s=started_s)
        except BlobsCollected:
            # Nobody had needed some of them until now, and they were being removed just then.
            if attempt == ATTEMPTS:
                raise
            await asyncio.sleep(COLLECTION_REST_S)
        else:
            stored |= {sha256: sizes[sha256] for sha256 in missing}
            break
    deployment = build.claim.deployment
    work.manifest = Manifest(
        deployment_id=deployment.id,
        project_id=deployment.project_id,
        framework=work.detection.framework if work.detection else None,
        files=work.entries,
        routes=work.routes,
        earlier=work.earlier,
    )
    await build.log.line(f"{len(stored):,} of {len(sizes):,} blobs were new, {format_size(sum(stored.values()))}")


async def _put_all(work: Work, missing: Sequence[str], sizes: Mapping[str, int]) -> None:
    build = work.build
    if lost := [sha256 for sha256 in missing if sha256 not in work.bodies]:
        gone = frozenset(lost)
        paths = sorted(path for path, entry in work.entries.items() if not gone.isdisjoint(list_blobs([entry])))
        raise UploadFailed(what=f"the bytes of {', '.join(paths[:3])} are gone from the store", hint="Deploy again.")
    small = [sha256 for sha256 in missing if sizes[sha256] <= SMALL_BYTES]
    large = [sha256 for sha256 in missing if sizes[sha256] > SMALL_BYTES]
    assert work.output is not None
    root = await asyncio.to_thread(open_folder, work.output)
    try:
        for some, in_flight in ((small, SMALL_IN_FLIGHT), (large, IN_FLIGHT)):
            await run_each(
                some,
                lambda sha256: _put_blob(build, sha256, sizes[sha256], work.bodies[sha256], root),
                in_flight=min(in_flight, len(some)),
            )
    finally:
        os.close(root)


async def _put_blob(build: Build, sha256: str, size: int, body: Body, root: int) -> None:
    key = blob_key(build.claim.project.id, sha256)
    try:
        if isinstance(body, bytes | Path):
            await build.objects.put(key, body, size=size, sha256=sha256)
        elif size <= WHOLE_BYTES:
            await build.objects.put(key, await asyncio.to_thread(_read, root, body.local), size=size, sha256=sha256)
        else:
            # A store that gives up leaves the rest unread, and the file is to be closed then, too.
            async with aclosing(_stream(root, body.local)) as pieces:
                await build.objects.put(key, pieces, size=size, sha256=sha256)
    except (Invalid, OSError) as error:
        # The hash was made a moment ago: these are not the bytes that it was made of.
        name = body.path if isinstance(body, OutputFile) else sha256
        raise UploadFailed(what=f"{name} changed while it was stored", hint="Deploy again.") from error


def _read(root: int, local: str) -> bytes:
    with os.fdopen(open_beneath(root, local), "rb") as file:
        return file.read(WHOLE_BYTES + 1)


async def _stream(root: int, local: str) -> AsyncGenerator[bytes, None]:
    with os.fdopen(await asyncio.to_thread(open_beneath, root, local), "rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece
