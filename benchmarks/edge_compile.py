"""How long the edge's event loop stands still while a manifest of 100,000 redirects is made ready beside it.

    python benchmarks/edge_compile.py

A clock ticks every millisecond in the loop; printed is the longest wait between two ticks, without and during the load,
and once more with the manifest read in one step, as it would be without `rules/jsonpieces.py`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from machine import keep_result, print_table

from vclone_core.models import AliasKind, Manifest, Route, Site
from vclone_core.rules.manifests import encode_manifest
from vclone_edge.manifests import decode_and_compile

REDIRECTS = 100_000
SITE = Site("shop.localhost", "prj_1", "dep_1", "prj_1/dep_1/manifest.json", AliasKind.PRODUCTION, 1)


def make_manifest() -> bytes:
    routes = tuple(
        Route(src=f"^/old/{n}$", status=308, headers={"Location": f"/new/{n}"}, origin=f"vercel.json redirects[{n}]")
        for n in range(REDIRECTS)
    )
    return encode_manifest(Manifest("dep_1", "prj_1", None, {}, routes))


async def time_ticks(work: Callable[[], Any]) -> tuple[float, float, float]:
    """Return the longest and the 99th percentile wait between two ticks in ms, and how long the work took in s."""
    waits: list[float] = []
    running = asyncio.create_task(asyncio.to_thread(work))
    started = last = time.perf_counter()
    while not running.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        waits.append((now - last) * 1000)
        last = now
    await running
    waits.sort()
    return waits[-1], waits[int(len(waits) * 0.99)], last - started


def main() -> None:
    content = make_manifest()
    steps = {
        "nothing": lambda: time.sleep(2),
        "manifest, in pieces": lambda: decode_and_compile(content, SITE),
        "its JSON in one step": lambda: json.loads(content),
    }
    rows = []
    for name, work in steps.items():
        longest_ms, p99_ms, took_s = asyncio.run(time_ticks(work))
        rows.append((name, f"{longest_ms:.1f}", f"{p99_ms:.1f}", f"{took_s:.2f}"))
    head = ("beside the loop", "longest wait, ms", "p99, ms", "took, s")
    print_table(f"The edge's loop while {REDIRECTS:,} redirects are made ready", head, rows)
    keep_result("edge_compile", {name: dict(zip(head[1:], figures, strict=True)) for name, *figures in rows})


if __name__ == "__main__":
    main()
