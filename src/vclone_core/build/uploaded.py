"""An upload's files: checked against the store, and copied into the workspace as far as somebody reads them there.

A folder that nothing is built of is served as it was sent: its blobs are stored already, and the steps read a handful
of its files. Before a command runs, all of them are copied.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vclone_core.build.parallel import run_each
from vclone_core.errors import CloneFailed, EmptySource, NotFound
from vclone_core.models import SourceFile
from vclone_core.rules.objectkeys import blob_key
from vclone_core.rules.output import Tally, check_path

if TYPE_CHECKING:
    from vclone_core.build.context import Build

IN_FLIGHT: Final = 16


@dataclass(slots=True)
class Upload:
    """An upload's files by path, and those of them that lie in `folder` already."""

    build: Build
    folder: Path
    files: Mapping[str, SourceFile]
    placed: set[str] = field(default_factory=set)

    @property
    def is_placed(self) -> bool:
        return len(self.placed) == len(self.files)

    async def place(self, paths: Iterable[str]) -> None:
        """Copy these files into the folder; raises `CloneFailed`."""
        paths = [path for path in paths if path not in self.placed]
        await run_each(paths, self._place, in_flight=min(IN_FLIGHT, len(paths)))
        self.placed.update(paths)

    async def place_all(self) -> None:
        """Copy every file that is not there yet."""
        await self.place(self.files)

    async def _place(self, path: str) -> None:
        file = self.files[path]
        mode = 0o755 if file.is_executable else 0o644
        target = self.folder / path
        objects = self.build.objects
        try:
            async with AsyncExitStack() as stack:
                body = await stack.enter_async_context(objects.open(blob_key(self.build.claim.project.id, file.sha256)))
                if body.size != file.size:
                    raise CloneFailed(what=f"{path} has {body.size} bytes in the store, not {file.size}")
                if body.path is not None:
                    await asyncio.to_thread(_copy_file, body.path, target, mode)
                    return
                descriptor = await asyncio.to_thread(_create, target, mode)
                with os.fdopen(descriptor, "wb") as out:
                    async for chunk in body.chunks:
                        await asyncio.to_thread(out.write, chunk)
        except NotFound as error:
            raise CloneFailed(what=f"the bytes of {path} are gone from the store", hint="Deploy again.") from error


async def open_upload(build: Build, folder: Path) -> Upload:
    """Return an upload whose list is checked and whose blobs are all stored; make its folders.

    Raises `CloneFailed`, `OutputRefused` (a limit) or `EmptySource`.
    """
    listed = await build.source_files()
    if listed is None:
        raise CloneFailed(what="the list of uploaded files is gone", hint="Deploy the folder again.")
    if not listed:
        raise EmptySource()
    tally = Tally(build.limits)
    files: dict[str, SourceFile] = {}
    for file in listed:
        if problem := check_path(file.path) or ("appears twice" if file.path in files else None):
            raise CloneFailed(what=f"the uploaded path {file.path[:200]!r} {problem}")
        files[file.path] = file
        tally.add(file.path, file.size)
    folders = {path[:index] for path in files for index, letter in enumerate(path) if letter == "/"}
    if both := folders & files.keys():
        raise CloneFailed(what=f"the uploaded path {min(both)[:200]!r} is a file and a folder")
    sizes = await build.blobs.sizes([file.sha256 for file in listed])
    for file in listed:
        if file.sha256 not in sizes:
            raise CloneFailed(what=f"the bytes of {file.path} were never uploaded", hint="Deploy again.")
        if sizes[file.sha256] != file.size:
            raise CloneFailed(what=f"{file.path} has {sizes[file.sha256]} bytes in the store, not {file.size}")
    await asyncio.to_thread(_make_folders, folder, sorted(folders))
    return Upload(build, folder, files)


def _copy_file(origin: Path, target: Path, mode: int) -> None:
    with origin.open("rb") as source, os.fdopen(_create(target, mode), "wb") as out:
        shutil.copyfileobj(source, out, 1024**2)


def _create(target: Path, mode: int) -> int:
    return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def _make_folders(root: Path, folders: Iterable[str]) -> None:
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
