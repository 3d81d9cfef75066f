"""What a store on another machine does when the connection or the server fails: errors in time, never a short body."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiobotocore.session import AioSession
from tests.contracts import s3_servers
from tests.contracts.faults import FaultProxy
from tests.contracts.places import Place

from vclone_core import ObjectStore, Span
from vclone_core.errors import Invalid, StoreUnavailable
from vclone_core.testing.object_stores import read

pytestmark = [pytest.mark.remote, pytest.mark.processes]

MIB = 1024**2
DATA = hashlib.shake_256(b"vclone").digest(3 * MIB)


LARGE = DATA * 6


@pytest.fixture(scope="session")
async def key(store: ObjectStore) -> str:
    """Where `DATA` lies."""
    await store.put("prj_faults/data", DATA, size=len(DATA))
    return "prj_faults/data"


@pytest.fixture(scope="session")
async def large_key(store: ObjectStore) -> str:
    """Where `LARGE` lies."""
    await store.put("prj_faults/large", LARGE, size=len(LARGE))
    return "prj_faults/large"


async def list_keys(store: ObjectStore, prefix: str) -> list[str]:
    return [info.key async for info in store.list(prefix)]


async def expect_unavailable_everywhere(store: ObjectStore, key: str, *, within_s: float) -> None:
    """Call every method at once; each must raise `StoreUnavailable` in time."""
    began = time.monotonic()
    outcomes = await asyncio.gather(
        read(store, key),
        read(store, key, Span(5, 10)),
        store.head(key),
        store.put(f"{key}2", b"x", size=1),
        store.put(f"{key}3", b"x", size=1, overwrite=True),
        store.put(f"{key}4", LARGE, size=len(LARGE), overwrite=True),
        store.delete([key]),
        list_keys(store, ""),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * len(outcomes)
    assert time.monotonic() - began < within_s


async def test_refused_connections(proxied: ObjectStore, proxy: FaultProxy, key: str) -> None:
    await proxy.refuse()
    await expect_unavailable_everywhere(proxied, key, within_s=6)
    await proxy.listen()
    assert await read(proxied, key) == DATA


async def test_a_server_that_stops_and_comes_back(place: Place, prefix: str, key: str) -> None:
    assert place.server is not None
    store = place.new_store()
    await store.start()
    try:
        place.server.stop()
        try:
            await expect_unavailable_everywhere(store, key, within_s=8)
        finally:
            place.server.start()
        assert await store.put(f"{prefix}b", b"x", size=1) is True
        assert await read(store, f"{prefix}b") == b"x"
    finally:
        await store.close()


async def test_a_start_without_a_server(place: Place, proxy: FaultProxy) -> None:
    await proxy.refuse()
    store = place.new_store(endpoint=proxy.endpoint, connect_timeout_s=0.5, read_timeout_s=3)
    with pytest.raises(StoreUnavailable, match="no connection could be made"):
        await store.start()
    await store.close()


@pytest.mark.parametrize("span", [None, Span(1000, 2_900_000)], ids=["whole", "span"])
@pytest.mark.parametrize("cut_by", ["fin", "rst"])
@pytest.mark.parametrize("cut_after", [0, 20, 700, 70_000, 2 * MIB])
async def test_a_cut_never_looks_whole(
    proxied: ObjectStore, proxy: FaultProxy, key: str, cut_after: int, cut_by: str, span: Span | None
) -> None:
    await proxy.restart()
    proxy.cut_after, proxy.cut_by = cut_after, "fin" if cut_by == "fin" else "rst"
    received = bytearray()
    with pytest.raises(StoreUnavailable):
        async with proxied.open(key, span) as body:
            async for chunk in body.chunks:
                received += chunk
    wanted = DATA if span is None else DATA[span.start : span.end + 1]
    assert len(received) < len(wanted)
    assert wanted.startswith(received)
    proxy.mend()
    assert await read(proxied, key, span) == wanted


async def test_a_cut_before_the_answer_is_tried_again(proxied: ObjectStore, proxy: FaultProxy, key: str) -> None:
    await proxy.restart()
    proxy.cut_after, proxy.cuts_left = 0, 2
    assert await read(proxied, key) == DATA
    assert proxy.cuts_left == 0


async def test_silence(proxied: ObjectStore, proxy: FaultProxy, key: str) -> None:
    await proxy.restart()
    proxy.is_silent = True
    # A put larger than one part gets time for its size on top.
    await expect_unavailable_everywhere(proxied, key, within_s=12)


async def test_silence_in_the_middle_of_a_body(proxied: ObjectStore, proxy: FaultProxy, key: str) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="silent"):
        async with proxied.open(key) as body:
            async for _ in body.chunks:
                proxy.is_silent = True
    assert time.monotonic() - began < 6


async def test_a_slow_server_is_waited_for(proxied: ObjectStore, proxy: FaultProxy, key: str) -> None:
    proxy.delay_s = 0.02
    span = Span(0, MIB - 1)
    assert await read(proxied, key, span) == DATA[:MIB]


async def test_a_reader_slower_than_every_limit(proxied: ObjectStore, proxy: FaultProxy, large_key: str) -> None:
    """A client that takes its time is no fault of the server, and holds no more than buffers."""
    sent_before = proxy.sent_bytes
    received = bytearray()
    async with proxied.open(large_key) as body:
        async for chunk in body.chunks:
            if not received:
                await asyncio.sleep(3.5)
                assert proxy.sent_bytes - sent_before < 12 * MIB
            received += chunk
    assert received == LARGE


@pytest.mark.parametrize("how", ["leave", "cancel"])
async def test_leaving_early_ends_the_upstream_read(
    proxied: ObjectStore, proxy: FaultProxy, large_key: str, how: str
) -> None:
    await proxy.restart()
    proxy.sent_bytes = 0
    started = asyncio.Event()

    async def read_some() -> None:
        async with proxied.open(large_key) as body:
            async for _ in body.chunks:
                started.set()
                if how == "leave":
                    return
                await asyncio.sleep(60)

    task = asyncio.create_task(read_some())
    await started.wait()
    if how == "cancel":
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for _ in range(100):
        if proxy.open_now == 0:
            break
        await asyncio.sleep(0.02)
    assert proxy.open_now == 0
    assert proxy.sent_bytes < len(LARGE) / 2


@pytest.mark.parametrize("size", [1000, 17 * MIB], ids=["small", "large"])
async def test_a_put_whose_answer_is_lost_is_whole_or_absent(
    store: ObjectStore, proxied: ObjectStore, proxy: FaultProxy, prefix: str, size: int
) -> None:
    data = LARGE[:size]
    proxy.cut_after = 0
    await proxy.restart()
    with pytest.raises(StoreUnavailable):
        await proxied.put(f"{prefix}a", data, size=size, overwrite=True)
    if await store.head(f"{prefix}a") is not None:
        assert await read(store, f"{prefix}a") == data


async def test_a_put_cut_in_the_middle_of_its_body_stores_nothing(
    store: ObjectStore, place: Place, proxied: ObjectStore, proxy: FaultProxy, prefix: str, tmp_path: Path
) -> None:
    async def body() -> AsyncIterator[bytes]:
        for start in range(0, 17 * MIB, MIB):
            if start == 12 * MIB:
                await proxy.refuse()
            yield DATA[:MIB]

    with pytest.raises(StoreUnavailable):
        await proxied.put(f"{prefix}a", body(), size=17 * MIB)
    assert await store.head(f"{prefix}a") is None
    assert await list_keys(store, prefix) == []


async def test_no_failed_upload_is_left_behind(place: Place, store: ObjectStore, prefix: str) -> None:
    """Parts of an upload that was neither completed nor aborted are kept, and paid for, without being seen."""
    assert place.server is not None
    size = 17 * MIB

    async def broken() -> AsyncIterator[bytes]:
        yield LARGE[: 12 * MIB]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.put(f"{prefix}a", broken(), size=size)
    with pytest.raises(Invalid):
        await store.put(f"{prefix}b", LARGE[:size], size=size, sha256="0" * 64)
    async with AioSession().create_client(
        "s3",
        endpoint_url=place.server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=s3_servers.ACCESS_KEY,
        aws_secret_access_key=s3_servers.SECRET_KEY,
    ) as client:
        # MinIO lists uploads only by their whole key.
        for key in (f"{prefix}a", f"{prefix}b"):
            listing = await client.list_multipart_uploads(Bucket="vclone-test", Prefix=key)
            assert listing.get("Uploads", []) == []


async def test_a_wrong_secret_is_named(place: Place, prefix: str) -> None:
    if not place.traits.checks_signatures:
        return
    store = place.new_store(secret_key="wrong")
    with pytest.raises(StoreUnavailable, match="VCLONE_STORE_SECRET_KEY"):
        await store.start()
    await store.close()
