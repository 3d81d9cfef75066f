"""The store itself: asyncio over the blocking half in `files`, which runs in threads."""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

from vclone_core import ObjectBody, ObjectInfo, Span, check_object_key, check_object_prefix, errors
from vclone_store_local import files
from vclone_store_local.batches import SMALL_BYTES, Batches, Outcome

THREADS: Final = 16  # syncs wait for the disk; many at once share its journal's commits
READ_BYTES: Final = 4 * files.CHUNK_BYTES  # per trip to a thread, and held per slow reader
WRITE_BYTES: Final = 256 * 1024
LIST_COUNT: Final = 500

T = TypeVar("T")


class FolderStore:
    """`ObjectStore` over a folder. Objects are files, so `ObjectBody.path` is set and `presign` has nothing to give."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._threads: ThreadPoolExecutor | None = None
        self._batches = Batches(self._put_batch)
        self._running: dict[Path, asyncio.Task[None]] = {}
        self._waiting: dict[Path, asyncio.Task[None]] = {}

    async def start(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="objects")
        await self._run(lambda: files.prepare(self.root))

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown)  # what is under way is finished, drafts are discarded

    async def put(
        self,
        key: str,
        body: bytes | Path | AsyncIterator[bytes],
        *,
        size: int,
        sha256: str | None = None,
        content_type: str = "application/octet-stream",
        overwrite: bool = False,
    ) -> bool:
        target = self._path(key)
        if isinstance(body, bytes) and len(body) <= SMALL_BYTES:
            return await self._batches.put(files.Put(target, body, size, sha256, overwrite))
        if isinstance(body, bytes | Path):
            is_new = await self._run(
                lambda: files.store(self.root, target, body, size=size, sha256=sha256, overwrite=overwrite)
            )
        else:
            is_new = await self._put_stream(target, body, size=size, sha256=sha256, overwrite=overwrite)
        if is_new:
            await self._settle(target.parent)
        return is_new

    async def _put_batch(self, puts: Sequence[files.Put]) -> list[Outcome]:
        outcomes = await self._run(lambda: files.store_batch(self.root, puts))
        folders = {put.target.parent for put, outcome in zip(puts, outcomes, strict=True) if outcome is True}
        await asyncio.gather(*map(self._settle, folders))
        return [_unavailable(outcome) if isinstance(outcome, OSError) else outcome for outcome in outcomes]

    async def _put_stream(
        self, target: Path, body: AsyncIterator[bytes], *, size: int, sha256: str | None, overwrite: bool
    ) -> bool:
        if not overwrite and await self._run(target.is_file):
            return False
        draft = await self._run(lambda: files.Draft(self.root, size=size, sha256=sha256), undo=files.Draft.discard)
        try:
            held: list[bytes] = []
            async for chunk in body:
                held.append(chunk)
                if sum(map(len, held)) >= WRITE_BYTES:
                    await self._write(draft, held)
                    held = []
            await self._write(draft, held)
            return await self._run(lambda: draft.publish(target, overwrite=overwrite))
        finally:
            self._later(draft.discard)

    async def _write(self, draft: files.Draft, chunks: Sequence[bytes]) -> None:
        await self._run(lambda: draft.write(chunks))

    async def head(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        return await self._run(lambda: files.head(path, key))

    def open(
        self, key: str, span: Span | None = None, *, etag: str | None = None
    ) -> AbstractAsyncContextManager[ObjectBody]:
        return self._open(key, self._path(key), span, etag)

    @asynccontextmanager
    async def _open(self, key: str, path: Path, span: Span | None, etag: str | None) -> AsyncGenerator[ObjectBody]:
        reader = await self._run(lambda: files.open_object(path, key, span), undo=_close)
        if reader is None:
            raise errors.NotFound(what="object")
        chunks = self._chunks(reader)
        try:
            if etag not in (None, reader.info.etag):
                raise errors.StoreUnavailable(why=f"{key} is another object by now", is_passing=False)
            yield ObjectBody(reader.info, reader.size, chunks, path)
        finally:
            await chunks.aclose()
            # Closing waits for a read under way, which only a cancelled caller leaves behind.
            if reader.is_busy:
                self._later(reader.close)
            else:
                reader.close()

    async def _chunks(self, reader: files.Reader) -> AsyncGenerator[bytes]:
        pieces = reader.first
        missing = reader.size
        while missing > 0:
            if not pieces:
                pieces = await self._run(lambda: reader.read(READ_BYTES))
            if not pieces:
                raise errors.StoreUnavailable(why=f"{reader.info.key} ends {missing} bytes early")
            for piece in pieces:
                missing -= len(piece)
                yield piece
            pieces = []

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        objects = files.walk(self.root, check_object_prefix(prefix))
        while page := await self._run(lambda: [*itertools.islice(objects, LIST_COUNT)]):
            for info in page:
                yield info

    async def delete(self, keys: Sequence[str]) -> None:
        paths = [self._path(key) for key in keys]
        await self._run(lambda: files.delete(self.root, paths))

    def find_path(self, key: str) -> Path | None:
        return self._path(key)

    def presign(self, key: str, *, expires_s: int) -> str | None:
        return None

    def _path(self, key: str) -> Path:
        return self.root / check_object_key(key)

    async def _run(self, work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """Return what `work` returns in a thread; when the caller is cancelled meanwhile, `undo` gets that result."""
        if self._threads is None:
            raise errors.StoreUnavailable(why="it is closed")
        future = self._threads.submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if undo is not None:
                future.add_done_callback(lambda done: _undo(done, undo))
            raise
        except OSError as error:
            raise _unavailable(error) from error

    def _later(self, work: Callable[[], object]) -> None:
        if self._threads is not None:
            self._threads.submit(work)
        else:
            work()

    async def _settle(self, folder: Path) -> None:
        """Return once the folder was synced by a sync that began after this call; one sync serves all who wait."""
        if folder not in self._waiting:
            self._waiting[folder] = asyncio.create_task(self._sync(folder, self._running.get(folder)))
        await asyncio.shield(self._waiting[folder])

    async def _sync(self, folder: Path, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        task = self._running[folder] = self._waiting.pop(folder)
        try:
            await self._run(lambda: files.sync_folder(folder))
        finally:
            if self._running.get(folder) is task:
                del self._running[folder]


def _undo(done: Future[T], undo: Callable[[T], object]) -> None:
    if not done.cancelled() and done.exception() is None:
        undo(done.result())


def _close(reader: files.Reader | None) -> None:
    if reader is not None:
        reader.close()


def _unavailable(error: OSError) -> errors.StoreUnavailable:
    failure = errors.StoreUnavailable(why=_reason(error))
    failure.__cause__ = error
    return failure


def _reason(error: OSError) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "its disk is full"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"its folder can't be written or read ({error.strerror})"
        case errno.EMFILE | errno.ENFILE:
            return "too many files are open"
        case _:
            return f"{error.strerror or error}"
