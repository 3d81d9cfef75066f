"""Brings a folder's files to the platform: asks which are missing, and sends only those (deploy flow, first arrow)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from vclone_core.cli.client import ApiClient
from vclone_core.cli.folder import FoundFile
from vclone_core.cli.progress import UploadProgress
from vclone_core.errors import SourceRefused, Unavailable
from vclone_core.models import SourceFile
from vclone_core.rules.blobframes import CONTENT_TYPE, HEADER_BYTES, encode_header
from vclone_core.rules.uploads import plan_requests

REQUESTS_AT_ONCE: Final = 3
# Sending a blob twice does no harm, so a request that broke is sent again.
ATTEMPTS: Final = 3
PIECE_BYTES: Final = 256 * 1024


async def send_missing(
    api: ApiClient, project: str, files: Sequence[SourceFile], found: Sequence[FoundFile]
) -> tuple[int, int]:
    """Send the blobs of `files` that the platform lacks; `found` says where they lie. Returns (files, bytes) sent."""
    by_hash = {file.sha256: file for file in files}
    answer = await api.post(f"/api/projects/{project}/blobs/missing", {"sha256": list(by_hash)})
    missing = [by_hash[sha256] for sha256 in answer["missing"]]
    if not missing:
        return 0, 0
    places = {file.path: Path(file.place) for file in found}
    progress = UploadProgress(len(missing), sum(file.size for file in missing))
    gate = asyncio.Semaphore(REQUESTS_AT_ONCE)

    async def send(batch: tuple[SourceFile, ...]) -> None:
        async with gate:
            await _send_batch(api, project, batch, places, progress)

    try:
        async with asyncio.TaskGroup() as tasks:
            for batch in plan_requests(missing):
                tasks.create_task(send(batch))
    except ExceptionGroup as group:
        # The first failure ended the others: it alone says what happened.
        raise group.exceptions[0] from group
    progress.finish()
    return len(missing), progress.size_bytes


async def _send_batch(
    api: ApiClient,
    project: str,
    batch: Sequence[SourceFile],
    places: Mapping[str, Path],
    progress: UploadProgress,
) -> None:
    size = sum(HEADER_BYTES + file.size for file in batch)
    for attempt in range(1, ATTEMPTS + 1):
        refused: list[SourceRefused] = []
        body = _frames(batch, places, progress if attempt == 1 else None, refused)
        try:
            await api.send(f"/api/projects/{project}/blobs", body, size=size, content_type=CONTENT_TYPE)
            return
        except Unavailable as error:
            if refused:
                raise refused[0] from error
            if attempt == ATTEMPTS:
                raise
            await asyncio.sleep(attempt)


async def _frames(
    batch: Sequence[SourceFile],
    places: Mapping[str, Path],
    progress: UploadProgress | None,
    refused: list[SourceRefused],
) -> AsyncIterator[bytes]:
    """Yield the body of one request, read in a thread. Why it had to stop is put into `refused` as well.

    The HTTP client turns whatever a body raises into a broken connection.
    """
    pieces = _read_frames(batch, places)
    try:
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece
            if progress is not None:
                progress.add(len(piece))
    except SourceRefused as error:
        refused.append(error)
        raise


def _read_frames(batch: Sequence[SourceFile], places: Mapping[str, Path]) -> Iterator[bytes]:
    piece = bytearray()
    for file in batch:
        piece += encode_header(file.sha256, file.size)
        left = file.size
        try:
            with places[file.path].open("rb") as opened:
                while left and (data := opened.read(min(left, PIECE_BYTES))):
                    left -= len(data)
                    piece += data
                    if len(piece) >= PIECE_BYTES:
                        yield bytes(piece)
                        piece.clear()
        except OSError as error:
            raise SourceRefused(what=f"{file.path} can't be read ({error.strerror})") from error
        if left:
            raise SourceRefused(what=f"{file.path} changed while it was uploaded", hint="Deploy again.")
    if piece:
        yield bytes(piece)
