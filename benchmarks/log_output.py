"""How many megabytes of output a second a build's log takes: `python benchmarks/log_output.py`.

Feeds 4 MB of a bundler's words to a `BuildLog` whose sink keeps nothing, in chunks of 16 KiB, with no, some and many
secrets to look for (random values of 48 characters); then the worst case of the masker alone: output that is nearly a
secret all the time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence

from vclone_core.build.buildlog import BuildLog
from vclone_core.models import Source
from vclone_core.rules.masking import Mask, Masker
from vclone_core.stores.buildlogs import NewLine

LINE = (
    b"dist/assets/index-1a2b3c4d.js  \x1b[36m12.34 kB\x1b[39m gzip:  4.56 kB, transforming (1234) src/pages/index.tsx\n"
)
CHUNK = (LINE * 200)[: 16 * 1024]
CHUNKS = 256


class Nowhere:
    """A sink that keeps nothing."""

    async def append(self, lines: Sequence[NewLine]) -> None:
        pass

    async def record_step(self, *, step: str | None = None, step_seconds: Mapping[str, float] | None = None) -> None:
        pass

    async def record_findings(self, *, framework: str | None = None, source: Source | None = None) -> None:
        pass


async def time_log(secrets: Sequence[str]) -> float:
    """Return megabytes a second."""
    log = BuildLog(Nowhere(), limit_bytes=10**9)
    await log.hide(secrets)
    started = time.perf_counter()
    for _ in range(CHUNKS):
        await log.output("stdout", CHUNK)
    await log.close()
    return CHUNKS * len(CHUNK) / (time.perf_counter() - started) / 1e6


def time_masker(secrets: Sequence[str], chunk: bytes, count: int) -> float:
    """Return megabytes a second."""
    masker = Masker(Mask(secrets))
    started = time.perf_counter()
    for _ in range(count):
        masker.feed(chunk)
    return count * len(chunk) / (time.perf_counter() - started) / 1e6


async def main() -> None:
    """Print a table."""
    random.seed(1)
    secrets = [random.randbytes(24).hex() for _ in range(1000)]
    for count in (0, 1, 20, 1000):
        log_rate, mask_rate = await time_log(secrets[:count]), time_masker(secrets[:count], CHUNK, CHUNKS)
        print(f"{count:5} secrets  whole log {log_rate:6.1f} MB/s   masker alone {mask_rate:8.1f} MB/s")
    worst = time_masker(["a" * 60_000], b"a" * 4096, 50)
    print(f"worst case of the masker: {worst:.1f} MB/s")


if __name__ == "__main__":
    asyncio.run(main())
