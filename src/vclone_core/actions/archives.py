"""Takes in an archive as one request sends it: on disk first, then unpacked within the limits, then as blobs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from vclone_core.actions.deployments import request_deployment
from vclone_core.actions.platform import Platform
from vclone_core.actions.projects import missing_of, store_blob
from vclone_core.errors import Limited, TooLarge
from vclone_core.models import Actor, BuildLimits, Deployment, Project, Source, SourceFile, Target
from vclone_core.rules.access import require
from vclone_core.rules.uploads import is_left_out, is_secret
from vclone_core.stores.archives import unpack

ARCHIVE_LIMIT_BYTES: Final = 512 * 1024**2
# In one process: each takes the disk that its archive needs while it comes, and one that is unpacked a core as well.
RECEIVED_AT_ONCE: Final = 8
UNPACKED_AT_ONCE: Final = 2
# What a process that was killed has left behind.
LEFTOVER_S: Final = 24 * 3600.0
_receiving = asyncio.Semaphore(RECEIVED_AT_ONCE)
_unpacking = asyncio.Semaphore(UNPACKED_AT_ONCE)


async def deploy_archive(
    platform: Platform,
    actor: Actor,
    project: Project,
    pieces: AsyncIterator[bytes],
    *,
    target: Target | None = None,
    is_prebuilt: bool = False,
) -> Deployment:
    """Queue a deployment of the files in an archive; raise `ArchiveRefused`, `TooLarge` or `EmptySource`.

    What a folder's upload leaves out is left out here too. Raises `Limited` while too many others are coming in.
    """
    require(actor, "deploy")
    if _receiving.locked():
        raise Limited(what=f"{RECEIVED_AT_ONCE} archives at once", hint="Send it again shortly.")
    with _own_folder(platform.settings.data_dir / "uploads") as folder:
        async with _receiving:
            await _receive(pieces, folder / "archive")
        async with _unpacking:
            root, found = await asyncio.to_thread(unpack, folder / "archive", folder / "files", BuildLimits())
            files = [file for file in found if _travels(file.path, is_output=is_prebuilt)]
            await _store(platform, project, root, files)
    source = Source("prebuilt" if is_prebuilt else "upload")
    return await request_deployment(platform, actor, project, source, target=target, files=files)


@contextlib.contextmanager
def _own_folder(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another request is over
            if old.stat().st_mtime < time.time() - LEFTOVER_S:
                shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=parent))
    (folder / "files").mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _receive(pieces: AsyncIterator[bytes], target: Path) -> None:
    size = 0
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
        async for piece in pieces:
            size += len(piece)
            if size > ARCHIVE_LIMIT_BYTES:
                raise TooLarge(what="This archive", limit=f"{ARCHIVE_LIMIT_BYTES // 1024**2} MiB")
            await asyncio.to_thread(out.write, piece)


def _travels(path: str, *, is_output: bool) -> bool:
    return not any(is_left_out(part, is_output=is_output) or is_secret(part) for part in path.split("/"))


async def _store(platform: Platform, project: Project, root: Path, files: list[SourceFile]) -> None:
    by_hash = {file.sha256: file for file in files}
    for sha256 in await missing_of(platform, project.id, list(by_hash)):
        file = by_hash[sha256]
        await store_blob(platform, project.id, sha256, file.size, root / file.path)
