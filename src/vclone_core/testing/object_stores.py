"""What every object store does: a suite to run on your own. It needs pytest and pytest-asyncio.

class TestMyStore(ObjectStoreSuite):
    @pytest.fixture
    def new_store(self) -> Callable[[], ObjectStore]:
        return lambda: MyStore("my://bucket")
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import pytest
import pytest_asyncio

from vclone_core.errors import Invalid, NotFound, StoreUnavailable
from vclone_core.protocols import ObjectStore, Span

MIB: Final = 1024**2
SIZES: Final = [0, 1, 64 * 1024 - 1, 64 * 1024 + 1, 5 * MIB + 1]
BAD_KEYS: Final = [
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/../b",
    "../a",
    "a/.",
    "a\\b",
    "a b",
    "a%2e",
    "é",
    "a\n",
    "a\0",
    "x" * 513,
]


@dataclass(frozen=True)
class StoreTraits:
    """What differs between stores, and why.

    `is_remote`: it gives URLs that plain HTTP reads. `has_one_winner`: of several processes that put one key, one
    stores it; S3 has no put-if-missing that every server honours. `checks_signatures`: a URL that was changed is
    refused. `is_in_process`: its memory counts as the test's own.
    """

    is_remote: bool = True
    has_one_winner: bool = False
    checks_signatures: bool = True
    is_in_process: bool = False


def make_bytes(size: int, seed: int = 1) -> bytes:
    """Return bytes that don't compress, the same for the same seed."""
    return hashlib.shake_256(b"%d" % seed).digest(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def stream(data: bytes, piece: int = 50_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), piece):
        yield data[start : start + piece]


def as_body(kind: str, data: bytes, folder: Path) -> bytes | Path | AsyncIterator[bytes]:
    """Return `data` in one of the three forms a put takes."""
    if kind == "bytes":
        return data
    if kind == "stream":
        return stream(data)
    path = folder / "source"
    path.write_bytes(data)
    return path


async def keys(store: ObjectStore, prefix: str) -> list[str]:
    return [info.key async for info in store.list(prefix)]


async def read(store: ObjectStore, key: str, span: Span | None = None) -> bytes:
    """Return an object's bytes, having checked that they are as many as were said."""
    async with store.open(key, span) as body:
        chunks = [chunk async for chunk in body.chunks]
    assert all(0 < len(chunk) <= 256 * 1024 for chunk in chunks)
    data = b"".join(chunks)
    assert len(data) == body.size
    return data


class ObjectStoreSuite:
    """The contract of `ObjectStore` as tests. A subclass gives the fixture `new_store`, and `traits` where they differ.

    `new_store` returns a function that makes a store which isn't started; all that it makes are of one place.
    """

    @pytest.fixture
    def traits(self) -> StoreTraits:
        return StoreTraits()

    @pytest_asyncio.fixture
    async def store(self, new_store: Callable[[], ObjectStore]) -> AsyncIterator[ObjectStore]:
        opened = new_store()
        await opened.start()
        yield opened
        await opened.close()

    @pytest.fixture
    def prefix(self) -> str:
        """Start of a test's own keys, so that tests share a place."""
        return f"prj_{secrets.token_hex(6)}/"

    @pytest.mark.parametrize("kind", ["bytes", "path", "stream"])
    @pytest.mark.parametrize("size", SIZES)
    async def test_what_is_put_is_read(
        self, store: ObjectStore, prefix: str, tmp_path: Path, kind: str, size: int
    ) -> None:
        data, key = make_bytes(size), f"{prefix}blobs/a"
        assert await store.put(key, as_body(kind, data, tmp_path), size=size, sha256=sha256(data)) is True
        assert await read(store, key) == data
        info = await store.head(key)
        assert info is not None
        assert (info.key, info.size) == (key, size)
        assert info.etag.startswith('"') and info.etag.endswith('"') and len(info.etag) > 2
        assert info.modified_s > 1_600_000_000
        assert [(found.key, found.size) async for found in store.list(prefix)] == [(key, size)]
        async with store.open(key) as body:
            assert body.info == info
            assert body.path is None or body.path.read_bytes() == data

    async def test_put_leaves_what_is_there(self, store: ObjectStore, prefix: str) -> None:
        key = f"{prefix}a"
        assert await store.put(key, b"first", size=5) is True
        assert await store.put(key, b"second", size=6) is False
        assert await store.put(key, stream(b"second"), size=6) is False
        assert await read(store, key) == b"first"

    async def test_overwrite_replaces(self, store: ObjectStore, prefix: str) -> None:
        key = f"{prefix}a"
        assert await store.put(key, b"first", size=5, overwrite=True) is True
        before = await store.head(key)
        assert await store.put(key, b"other", size=5, overwrite=True) is True
        after = await store.head(key)
        assert await read(store, key) == b"other"
        assert before is not None and after is not None and before.etag != after.etag

    async def test_one_of_twenty_writers_wins(self, store: ObjectStore, prefix: str) -> None:
        bodies = [make_bytes(100_000, seed) for seed in range(20)]
        wins = await asyncio.gather(*(store.put(f"{prefix}a", stream(data), size=len(data)) for data in bodies))
        assert wins.count(True) == 1
        assert await read(store, f"{prefix}a") == bodies[wins.index(True)]

    async def test_writers_of_several_stores_leave_one_whole_object(
        self, new_store: Callable[[], ObjectStore], traits: StoreTraits, prefix: str
    ) -> None:
        stores = [new_store() for _ in range(4)]
        for opened in stores:
            await opened.start()
        try:
            bodies = [make_bytes(100_000, seed) for seed in range(20)]
            wins = await asyncio.gather(
                *(stores[n % 4].put(f"{prefix}a", data, size=len(data)) for n, data in enumerate(bodies))
            )
            winners = [data for data, has_won in zip(bodies, wins, strict=True) if has_won]
            assert await read(stores[0], f"{prefix}a") in winners
            assert len(winners) == 1 or not traits.has_one_winner
        finally:
            for opened in stores:
                await opened.close()

    @pytest.mark.parametrize("kind", ["bytes", "path", "stream"])
    @pytest.mark.parametrize("size", [1000, 17 * MIB], ids=["small", "large"])
    @pytest.mark.parametrize("wrong", ["short", "long", "sha256"])
    async def test_wrong_content_is_not_stored(
        self, store: ObjectStore, prefix: str, tmp_path: Path, kind: str, size: int, wrong: str
    ) -> None:
        data = make_bytes(size)
        announced = size + {"short": 1, "long": -1, "sha256": 0}[wrong]
        digest = sha256(b"other") if wrong == "sha256" else sha256(data)
        with pytest.raises(Invalid):
            await store.put(f"{prefix}a", as_body(kind, data, tmp_path), size=announced, sha256=digest)
        assert await store.head(f"{prefix}a") is None
        assert await keys(store, prefix) == []

    async def test_wrong_content_does_not_replace(self, store: ObjectStore, prefix: str) -> None:
        await store.put(f"{prefix}a", b"first", size=5)
        with pytest.raises(Invalid):
            await store.put(f"{prefix}a", b"other", size=5, sha256=sha256(b"else"), overwrite=True)
        assert await read(store, f"{prefix}a") == b"first"

    @pytest.mark.parametrize("size", [1000, 17 * MIB], ids=["small", "large"])
    async def test_a_body_that_fails_stores_nothing(self, store: ObjectStore, prefix: str, size: int) -> None:
        async def broken() -> AsyncIterator[bytes]:
            async for chunk in stream(make_bytes(size - 100)):
                yield chunk
            raise ConnectionResetError("the client left")

        with pytest.raises(ConnectionResetError, match="the client left"):
            await store.put(f"{prefix}a", broken(), size=size)
        assert await keys(store, prefix) == []

    async def test_a_source_file_that_is_missing_is_the_callers_fault(self, store: ObjectStore, prefix: str) -> None:
        with pytest.raises(Invalid, match=r"missing\.bin can't be read"):
            await store.put(f"{prefix}a", Path("/nowhere/missing.bin"), size=1)

    @pytest.mark.parametrize("size", [1000, 17 * MIB], ids=["small", "large"])
    async def test_a_cancelled_put_stores_nothing(self, store: ObjectStore, prefix: str, size: int) -> None:
        reached = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield make_bytes(size - 100)
            reached.set()
            await asyncio.sleep(60)

        putting = asyncio.create_task(store.put(f"{prefix}a", endless(), size=size))
        await reached.wait()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert await keys(store, prefix) == []
        assert await store.put(f"{prefix}a", b"x", size=1) is True

    @pytest.mark.parametrize("kind", ["path", "stream"])
    async def test_large_objects_pass_in_bounded_memory(
        self, store: ObjectStore, traits: StoreTraits, prefix: str, tmp_path: Path, kind: str
    ) -> None:
        pattern, count = make_bytes(MIB), 40
        digest = hashlib.sha256(pattern * count).hexdigest()
        source = tmp_path / "large"
        with source.open("wb") as file:
            for _ in range(count):
                file.write(pattern)

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(count):
                yield pattern

        tracemalloc.start()
        try:
            body = source if kind == "path" else chunks()
            assert await store.put(f"{prefix}a", body, size=count * MIB, sha256=digest)
            _, put_peak = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            seen = hashlib.sha256()
            async with store.open(f"{prefix}a") as opened:
                async for chunk in opened.chunks:
                    seen.update(chunk)
            _, read_peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert seen.hexdigest() == digest
        if not traits.is_in_process:
            assert put_peak < 24 * MIB
            assert read_peak < 4 * MIB

    @pytest.mark.parametrize(
        ("start", "end"), [(0, 0), (199_999, 199_999), (70_000, 140_000), (65_536, 131_071), (0, 199_999)]
    )
    async def test_spans(self, store: ObjectStore, prefix: str, start: int, end: int) -> None:
        data = make_bytes(200_000)
        await store.put(f"{prefix}a", data, size=len(data))
        assert await read(store, f"{prefix}a", Span(start, end)) == data[start : end + 1]
        async with store.open(f"{prefix}a", Span(start, end)) as body:
            assert (body.info.size, body.size) == (200_000, end - start + 1)
            assert body.info == await store.head(f"{prefix}a")

    @pytest.mark.parametrize("size", [0, 100])
    @pytest.mark.parametrize(("start", "end"), [(100, 100), (99, 100), (1000, 2000)])
    async def test_spans_outside_the_object(
        self, store: ObjectStore, prefix: str, size: int, start: int, end: int
    ) -> None:
        await store.put(f"{prefix}a", make_bytes(size), size=size)
        with pytest.raises(Invalid):
            async with store.open(f"{prefix}a", Span(start, end)):
                pass

    async def test_a_read_bound_to_one_version(self, store: ObjectStore, prefix: str) -> None:
        """What was cut is gone on with only while it is the same object."""
        key, data = f"{prefix}a", make_bytes(100_000)
        await store.put(key, data, size=len(data))
        info = await store.head(key)
        assert info is not None
        for span in (None, Span(70_000, 99_999)):
            async with store.open(key, span, etag=info.etag) as body:
                assert (body.info.etag, body.size) == (info.etag, 100_000 if span is None else 30_000)
        other = make_bytes(100_001)[1:]
        await store.put(key, other, size=len(other), overwrite=True)
        for span in (None, Span(70_000, 99_999)):
            with pytest.raises(StoreUnavailable, match="another object"):
                async with store.open(key, span, etag=info.etag):
                    pass

    async def test_missing_objects(self, store: ObjectStore, prefix: str) -> None:
        assert await store.head(f"{prefix}a") is None
        for span in (None, Span(0, 0)):
            with pytest.raises(NotFound):
                async with store.open(f"{prefix}a", span):
                    pass
        await store.put(f"{prefix}a/b", b"x", size=1)
        assert await store.head(f"{prefix}a") is None
        assert await keys(store, f"{prefix}nothing/") == []
        await store.delete([f"{prefix}missing", f"{prefix}no/such/folder"])
        await store.delete([])

    async def test_list_is_in_key_order(self, store: ObjectStore, prefix: str) -> None:
        names = [f"blobs/{n:04}" for n in range(1190)]
        names += ["b", "b-c", "b.c", "b/c", "b0", "bl", "blobs-x", "blobs.x", "Z", "_"]
        names.remove("b")  # a key that is another's folder: not every store has that
        stored = [prefix + name for name in names]
        limit = asyncio.Semaphore(16)

        async def put(key: str) -> None:
            async with limit:
                await store.put(key, key.encode(), size=len(key))

        await asyncio.gather(*map(put, stored))
        assert await keys(store, prefix) == sorted(stored)
        assert await keys(store, f"{prefix}blobs/") == sorted(
            key for key in stored if key.startswith(f"{prefix}blobs/")
        )
        assert await keys(store, f"{prefix}blobs/011") == [f"{prefix}blobs/{n:04}" for n in range(110, 120)]
        assert await keys(store, f"{prefix}blobs") == sorted(key for key in stored if key.startswith(f"{prefix}blobs"))
        assert await keys(store, prefix[:-1]) == sorted(stored)
        await store.delete(stored)
        assert await keys(store, prefix) == []

    async def test_delete_removes_only_what_it_is_told(self, store: ObjectStore, prefix: str) -> None:
        for name in ("a/b", "a/c", "ab"):
            await store.put(prefix + name, b"x", size=1)
        await store.delete([f"{prefix}a/b", f"{prefix}a/missing"])
        assert await keys(store, prefix) == [f"{prefix}a/c", f"{prefix}ab"]
        await store.delete([f"{prefix}a/c"])
        assert await store.put(f"{prefix}a/c", b"y", size=1) is True
        assert await read(store, f"{prefix}a/c") == b"y"

    @pytest.mark.parametrize("key", BAD_KEYS)
    async def test_bad_keys_reach_no_store(self, store: ObjectStore, prefix: str, key: str) -> None:
        with pytest.raises(Invalid):
            await store.put(key, b"x", size=1)
        with pytest.raises(Invalid):
            await store.head(key)
        with pytest.raises(Invalid):
            async with store.open(key):
                pass
        with pytest.raises(Invalid):
            await store.delete([key])

    @pytest.mark.parametrize("bad", ["/", "../", "a/../", "a//", "é", "a b"])
    async def test_bad_prefixes_reach_no_store(self, store: ObjectStore, bad: str) -> None:
        with pytest.raises(Invalid):
            await keys(store, bad)

    async def test_readers_may_leave_early(self, store: ObjectStore, prefix: str) -> None:
        data = make_bytes(3 * MIB)
        await store.put(f"{prefix}a", data, size=len(data))
        for _ in range(100):  # more than there are connections
            async with store.open(f"{prefix}a") as body:
                async for chunk in body.chunks:
                    assert data.startswith(chunk)
                    break
        assert await read(store, f"{prefix}a") == data

    async def test_a_presigned_url_is_read_by_plain_http(
        self, store: ObjectStore, traits: StoreTraits, prefix: str
    ) -> None:
        data, key = make_bytes(1000), f"{prefix}a"
        await store.put(key, data, size=len(data))
        url = store.presign(key, expires_s=60)
        if not traits.is_remote:
            assert url is None
            return
        assert url is not None
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as answer:
                assert (answer.status, await answer.read()) == (200, data)
            async with session.get(url, headers={"Range": "bytes=10-19"}) as answer:
                assert answer.headers["Content-Range"] == "bytes 10-19/1000"
                assert await answer.read() == data[10:20]
            if traits.checks_signatures:
                last = "0" if url[-1] != "0" else "1"
                async with session.get(url[:-1] + last) as answer:
                    assert answer.status == 403
                short = store.presign(key, expires_s=1)
                assert short is not None
                await asyncio.sleep(2.1)
                async with session.get(short) as answer:
                    assert answer.status in (400, 403)
