"""How much faster a second build is: `python benchmarks/build_cached.py [FOLDER]`, a Vite and React app by default.

Builds a folder, changes a line, and builds it again, with a local object store and the runner that VCLONE_RUNNER and
VCLONE_RUNNER_OPTIONS name; prints seconds and CPU seconds of both. The first build's seconds have the network in them,
its CPU seconds have not; what containers use is in neither of the latter.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from bare_builds import format_steps, open_bench

APP = Path(__file__).parent.parent / "tests/build/projects/vite-react"


async def main(origin: Path) -> None:
    files = {path.relative_to(origin).as_posix(): path.read_bytes() for path in origin.rglob("*") if path.is_file()}
    took: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="vclone-bench-") as folder:
        async with open_bench(Path(folder)) as bench:
            for what in ("first", "second"):
                ended = await bench.deploy(files)
                took.append((ended.seconds, ended.cpu_seconds))
                print(f"{what} build: {took[-1][0]:.2f} s, {took[-1][1]:.2f} s of CPU")
                print(f"  {format_steps(ended.step_seconds)}")
                print("\n".join(f"  {line.text}" for _, line in ended.sink.lines if line.text.startswith("Caches: ")))
                files["index.html"] += b"<!-- changed -->"
    first, second = took
    print(f"the second: {first[0] / second[0]:.1f} times as fast, {first[1] / second[1]:.1f} times less CPU")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else APP))
