"""What one request costs the edge's own code, in this process: no server, no socket, no store.

    python benchmarks/edge_rules.py

Prints microseconds per request for a warm resolve + route + headers (`flow.settle`) and for the whole ASGI exchange, by
kind of answer; routing as the table grows, and by pattern engine; and what a manifest of 25,000 files costs to decode,
compile and keep.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop
from machine import keep_result, print_table

from vclone_core.models import AliasKind, FileEntry, Manifest, Route, Site, Variant
from vclone_core.plugins import load_plugins
from vclone_core.rules.answers import compile_manifest
from vclone_core.rules.manifests import decode_manifest, encode_manifest
from vclone_core.rules.requests import Request
from vclone_core.rules.routes import match
from vclone_core.rules.tables import compile_table
from vclone_core.settings import load_settings
from vclone_edge.app import build_app
from vclone_edge.flow import read_request, settle
from vclone_edge.parts import EdgeParts, build_parts

ROUNDS, REPEATS = 20_000, 5
HOST = "shop.localhost"
BODY = b"x" * 1024
# What Chrome sends with a navigation.
BROWSER = [
    (b"host", b"shop.localhost:8080"),
    (
        b"user-agent",
        b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36",
    ),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"accept-language", b"en-GB,en;q=0.9"),
    (b"cache-control", b"max-age=0"),
    (b"sec-fetch-dest", b"document"),
    (b"sec-fetch-mode", b"navigate"),
    (b"sec-fetch-site", b"none"),
    (b"sec-fetch-user", b"?1"),
    (b"upgrade-insecure-requests", b"1"),
]


def scope_of(path: str, *fields: tuple[bytes, bytes], method: str = "GET") -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [*BROWSER, *fields],
        "client": ("127.0.0.1", 50000),
        "extensions": {},
    }


async def receive() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def send(_message: Any) -> None:
    return None


def sample_manifest(files: int, routes: tuple[Route, ...] = ()) -> Manifest:
    def sha(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    entries = {"/index.html": FileEntry(hashlib.sha256(BODY).hexdigest(), len(BODY), "text/html; charset=utf-8")}
    for n in range(files - 1):
        path = f"/assets/section-{n % 50}/chunk-{n}.{sha(str(n))[:8]}.js"
        variants = {"br": Variant(sha(path + "b"), 300), "gzip": Variant(sha(path + "g"), 400)}
        entries[path] = FileEntry(sha(path), 1000, "text/javascript; charset=utf-8", immutable=True, variants=variants)
    return Manifest("dep_1", "prj_1", "vite", entries, routes)


async def best_us(work: Callable[[], Awaitable[Any]]) -> float:
    """The best of several means: the others are what else ran on the machine."""
    means = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        for _ in range(ROUNDS):
            await work()
        means.append((time.perf_counter() - started) / ROUNDS * 1e6)
    return min(means)


async def measure_requests(parts: EdgeParts) -> list[Sequence[object]]:
    app = build_app(parts)
    etag = dict((await _settle(parts, scope_of("/"))).answer.headers)[b"etag"]
    rows = []
    kinds = {
        "200, 1 KiB from memory": scope_of("/"),
        "HEAD": scope_of("/", method="HEAD"),
        "304": scope_of("/", (b"if-none-match", etag)),
        "206": scope_of("/", (b"range", b"bytes=0-99")),
        "308 redirect": scope_of("/old"),
        "404, the edge's page": scope_of("/none.js"),
    }
    for kind, scope in kinds.items():
        await app(scope, receive, send)
        settled = await best_us(lambda scope=scope: _settle(parts, scope))
        whole = await best_us(lambda scope=scope: app(scope, receive, send))
        rows.append((kind, f"{settled:.1f}", f"{whole:.1f}"))
    return rows


async def _settle(parts: EdgeParts, scope: dict[str, Any]) -> Any:
    return await settle(parts, read_request(scope))


def measure_routing() -> list[Sequence[object]]:
    rows = []
    for count in (10, 1_000, 100_000):
        routes = tuple(Route(src=f"^/old/{n}$", status=308, headers={"location": f"/new/{n}"}) for n in range(count))
        started = time.perf_counter()
        table = compile_table(sample_manifest(1, routes))
        compiled_ms = (time.perf_counter() - started) * 1000
        costs = []
        for path in (f"/old/{count - 1}", "/none"):
            request = Request("GET", HOST, path)
            started = time.perf_counter()
            for _ in range(ROUNDS):
                table.memo.clear()
                match(table, request)
            costs.append((time.perf_counter() - started) / ROUNDS * 1e6)
        rows.append((f"{count:,}", f"{costs[0]:.1f}", f"{costs[1]:.1f}", f"{compiled_ms:.0f}"))
    return rows


# (kind, its source by number, the path that its last one matches)
ENGINES = [
    ("template, re", "/t{n}/([^/]+?)/(.*)", "/t{n}/a/b"),
    ("expression, RE2", "/t{n}/([0-9]+)-([a-z]+)", "/t{n}/42-abc"),
    ("look-ahead, RE2 twice", "/t{n}/((?!api).*)", "/t{n}/shop"),
]


def measure_engines() -> list[Sequence[object]]:
    rows = []
    for kind, source, path in ENGINES:
        costs = []
        for count in (1, 10, 100):
            routes = tuple(Route(src=source.format(n=n), dest="/index.html") for n in range(count))
            table = compile_table(sample_manifest(1, routes))
            request = Request("GET", HOST, path.format(n=count - 1))
            best = []
            for _ in range(REPEATS):
                started = time.perf_counter()
                for _ in range(ROUNDS // 10):
                    table.memo.clear()
                    match(table, request)
                best.append((time.perf_counter() - started) / (ROUNDS // 10) * 1e6)
            costs.append(f"{min(best):.1f}")
        rows.append((kind, *costs))
    return rows


def measure_manifests() -> list[Sequence[object]]:
    rows = []
    for files in (100, 1_000, 25_000):
        content = encode_manifest(sample_manifest(files))
        started = time.perf_counter()
        manifest = decode_manifest(content)
        decoded_ms = (time.perf_counter() - started) * 1000
        started = time.perf_counter()
        compile_manifest(manifest)
        compiled_ms = (time.perf_counter() - started) * 1000
        del manifest
        tracemalloc.start()
        kept = compile_manifest(decode_manifest(content))
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(kept.manifest.files) == files
        rows.append(
            (f"{files:,}", f"{len(content) / 1e6:.2f}", f"{decoded_ms:.1f}", f"{compiled_ms:.1f}",
             f"{size / 1e6:.1f}", f"{size / len(content):.1f}")
        )  # fmt: skip
    return rows


async def measure() -> None:
    with tempfile.TemporaryDirectory() as folder:
        parts = build_parts(
            load_settings({}, data_dir=Path(folder) / "data", store=f"file://{folder}/objects"), load_plugins()
        )
        await parts.objects.start()
        routes = (Route(src="/old", status=308, headers={"location": "/new"}),)
        manifest = sample_manifest(1_000, routes)
        key = "prj_1/dep_1/manifest.json"
        content = encode_manifest(manifest)
        await parts.objects.store.put(key, content, size=len(content))
        blob = hashlib.sha256(BODY).hexdigest()
        await parts.objects.store.put(f"prj_1/blobs/{blob}", BODY, size=len(BODY))
        parts.cache.put(Site(HOST, "prj_1", "dep_1", key, AliasKind.PRODUCTION, 1))
        await parts.manifests.load(parts.cache.find(HOST).site)  # type: ignore[union-attr]
        requests = await measure_requests(parts)
        await parts.objects.close()
    head = ("answer", "resolve+route+headers, µs", "whole exchange, µs")
    print_table("One request with a browser's 11 header fields", head, requests)
    routing = measure_routing()
    print_table("Routing, nothing remembered", ("literal redirects", "hit, µs", "miss, µs", "compile, ms"), routing)
    engines = measure_engines()
    print_table("Patterns, the last one matches, nothing remembered", ("engine", "1, µs", "10, µs", "100, µs"), engines)
    manifests = measure_manifests()
    print_table(
        "Manifests", ("files", "JSON, MB", "decode, ms", "compile, ms", "in memory, MB", "memory/JSON"), manifests
    )
    keep_result("edge_rules", {"requests": requests, "routing": routing, "engines": engines, "manifests": manifests})


if __name__ == "__main__":
    uvloop.run(measure())
