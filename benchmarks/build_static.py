"""How long the platform's own steps take: `python benchmarks/build_static.py [FILES]`.

1. A folder of 10 KiB files (seven of ten are text), cold, unchanged, and with one file changed; no command is run.
2. A build with an install and a build command that do nothing: all but these two commands is the platform's overhead.
3. How old a log line is when it reaches its store, of a command that says 20 lines a second.
4. How much text a core precompresses in a second.

No database is asked: this is the time of the pipeline itself.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import platform
import random
import sys
import tempfile
import time
from pathlib import Path

import brotli
from bare_builds import Bench, Ended, format_steps, open_bench

FILE_BYTES = 10 * 1024
COMMANDS = {"framework": "static", "install_command": "true", "build_command": "true", "output_directory": "."}
# Each line is the moment it was written at.
TALK = "i=0; while [ $i -lt 200 ]; do date +at:%s.%N; sleep 0.05; i=$((i+1)); done"


def make_files(count: int) -> dict[str, bytes]:
    rnd = random.Random(1)
    words = ["".join(rnd.choices("abcdefghijklmnop", k=rnd.randint(2, 9))) for _ in range(2000)]
    return {
        f"d{n % 20}/{n}.{'html' if n % 10 < 7 else 'png'}": " ".join(rnd.choices(words, k=1800)).encode()[:FILE_BYTES]
        if n % 10 < 7
        else rnd.randbytes(FILE_BYTES)
        for n in range(count)
    }


async def time_files(bench: Bench, files: dict[str, bytes]) -> None:
    for what in ("cold", "unchanged", "one changed"):
        if what == "one changed":
            files[next(iter(files))] += b"!"
        ended = await bench.deploy(files)
        tell(what, ended)


def tell(what: str, ended: Ended) -> None:
    print(f"{what:12} {ended.seconds:5.2f} s, {ended.cpu_seconds:5.2f} s of CPU   {format_steps(ended.step_seconds)}")


async def time_overhead(bench: Bench, files: dict[str, bytes]) -> None:
    ended = await bench.deploy(files, **COMMANDS)
    tell("overhead", ended)


async def time_lines(bench: Bench) -> None:
    ended = await bench.deploy({"index.html": b"x"}, **{**COMMANDS, "build_command": TALK})
    ages = sorted(arrived - float(line.text[3:]) for arrived, line in ended.sink.lines if line.text.startswith("at:"))
    middle, late = ages[len(ages) // 2], ages[len(ages) * 99 // 100]
    print(f"log lines    {len(ages)} lines, age in the store: p50 {middle * 1000:.0f} ms, p99 {late * 1000:.0f} ms")


def time_precompression(files: dict[str, bytes]) -> None:
    text = b"".join(data for path, data in files.items() if path.endswith(".html"))[: 4 * 1024**2]
    pieces = [text[at : at + FILE_BYTES] for at in range(0, len(text), FILE_BYTES)]
    for name, compress in (
        ("br 5", lambda data: brotli.compress(data, quality=5)),
        ("gzip 6", lambda data: gzip.compress(data, 6, mtime=0)),
        ("both", lambda data: (brotli.compress(data, quality=5), gzip.compress(data, 6, mtime=0))),
    ):
        used = time.process_time()
        for piece in pieces:
            compress(piece)
        print(f"{name:12} {len(text) / (time.process_time() - used) / 1e6:5.1f} MB of text per second and core")


async def main(count: int) -> None:
    print(f"{platform.node()}: {os.cpu_count()} cores, Python {platform.python_version()}; {count:,} files")
    files = make_files(count)
    with tempfile.TemporaryDirectory(prefix="vclone-bench-") as folder:
        async with open_bench(Path(folder)) as bench:
            await time_files(bench, files)
            await time_overhead(bench, files)
            await time_lines(bench)
    time_precompression(files)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
