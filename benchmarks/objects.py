"""What a read and a put of an object cost, by store: wall time, and CPU of this process alone.

    python benchmarks/objects.py

Reads 1 KiB and 10 MiB one after the other and 16 at once, puts 1,000 objects of 10 KiB with 1 and 16 in flight. The
last rows of an S3 server read the same objects through the SDK, to compare. moto is left out: it runs in this process.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from machine import keep_result, print_table

sys.path.append(str(Path(__file__).parent.parent))  # the contract suite's servers

from tests.contracts import s3_servers

from vclone_core import ObjectStore
from vclone_core.plugins import load_plugins
from vclone_core.settings import load_settings
from vclone_core.stores.objects import open_object_store

KIB, MIB = 1024, 1024**2
SIZES = {"1 KiB": (KIB, 1000), "10 MiB": (10 * MIB, 20)}


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(once: Callable[[int], Awaitable[Any]], count: int, at_once: int) -> tuple[float, float]:
    """Return wall and CPU microseconds per call of `count` calls, `at_once` in flight; the best of three rounds."""
    rounds = []
    for _ in range(3):
        numbers = iter(range(count))

        async def work(numbers: Any = numbers) -> None:
            for number in numbers:
                await once(number)

        wall, cpu = time.perf_counter(), cpu_s()
        await asyncio.gather(*(work() for _ in range(at_once)))
        rounds.append(((time.perf_counter() - wall) / count * 1e6, (cpu_s() - cpu) / count * 1e6))
    return min(rounds)


async def measure_store(name: str, store: ObjectStore) -> AsyncIterator[tuple[str, str, int, float, float]]:
    for label, (size, count) in SIZES.items():
        await store.put(f"bench/{size}", os.urandom(size), size=size, overwrite=True)

        async def read(_: int, key: str = f"bench/{size}") -> None:
            async with store.open(key) as body:
                async for _chunk in body.chunks:
                    pass

        for at_once in (1, 16):
            yield (name, f"read {label}", at_once, *await measure(read, count, at_once))
    data = os.urandom(10 * KIB)
    names = itertools.count()

    async def put(_: int) -> None:
        assert await store.put(f"puts/{next(names)}", data, size=len(data))

    for at_once in (1, 16):
        yield (name, "put 10 KiB", at_once, *await measure(put, 1000, at_once))


async def measure_sdk(name: str, endpoint: str) -> AsyncIterator[tuple[str, str, int, float, float]]:
    config = AioConfig(s3={"addressing_style": "path"}, response_checksum_validation="when_required")
    async with AioSession().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=s3_servers.ACCESS_KEY,
        aws_secret_access_key=s3_servers.SECRET_KEY,
        config=config,
    ) as client:
        for label, (size, count) in SIZES.items():

            async def read(_: int, size: int = size) -> None:
                answer = await client.get_object(Bucket="bench", Key=f"bench/{size}")
                async with answer["Body"] as body:
                    while await body.read(64 * KIB):
                        pass

            yield (f"{name}, SDK", f"read {label}", 1, *await measure(read, count, 1))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[ObjectStore]:
    keys = {"VCLONE_STORE_ACCESS_KEY": s3_servers.ACCESS_KEY, "VCLONE_STORE_SECRET_KEY": s3_servers.SECRET_KEY}
    store = open_object_store(load_settings({"VCLONE_STORE": url, **keys}), load_plugins())
    async with AsyncExitStack() as exits:
        exits.push_async_callback(store.close)
        await store.start()
        yield store


async def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        place = Path(folder).resolve()
        async with opened(f"file://{place}/objects") as store:
            rows += [row async for row in measure_store("folder", store)]
        servers = {"rclone": s3_servers.rclone(place / "rclone")}
        if binary := s3_servers.find_minio():
            servers["MinIO"] = s3_servers.minio(place / "minio", binary)
        for name, server in servers.items():
            await asyncio.to_thread(server.start)
            try:
                async with opened(f"s3://bench?endpoint={server.endpoint}") as store:
                    rows += [row async for row in measure_store(name, store)]
                rows += [row async for row in measure_sdk(name, server.endpoint)]
            finally:
                server.stop()
    head = ("store", "what", "in flight", "wall µs", "CPU µs")
    print_table("Objects: per call", head, [(*row[:3], f"{row[3]:,.0f}", f"{row[4]:,.0f}") for row in rows])
    keep_result("objects", {f"{row[0]}: {row[1]}, {row[2]} in flight": [round(row[3]), round(row[4])] for row in rows})


if __name__ == "__main__":
    uvloop.run(main())
