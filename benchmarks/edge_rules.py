"""What one request costs the edge's own code, in this process: no server, no socket, no store.

Microseconds per request for a warm resolve + route + headers (`flow.settle`) and for the whole ASGI exchange, by kind
of answer; routing as the redirects grow to 100,000 and resolving as the hosts do; patterns by engine; and what
manifests and 10,000 sites take in memory.
"""

from __future__ import annotations

import hashlib
import json
import random
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop
from figures import Figure, Part
from machine import print_table
from plots import draw_bars

from vclone_core.models import AliasKind, FileEntry, Manifest, Route, Site, Variant
from vclone_core.plugins import load_plugins
from vclone_core.rules.answers import compile_manifest
from vclone_core.rules.manifests import decode_manifest, encode_manifest
from vclone_core.rules.requests import Request
from vclone_core.rules.routes import match
from vclone_core.rules.sites import decode_site, encode_site
from vclone_core.rules.tables import compile_table
from vclone_core.settings import load_settings
from vclone_edge.app import build_app
from vclone_edge.cache import DomainCache
from vclone_edge.flow import read_request, settle
from vclone_edge.parts import EdgeParts, build_parts

ROUNDS, REPEATS = 5_000, 9
PAIRS = 25  # of few and many, measured in turns
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


async def mean_us(work: Callable[[], Awaitable[Any]]) -> float:
    """Microseconds of this thread's CPU time."""
    started = time.thread_time()
    for _ in range(ROUNDS):
        await work()
    return (time.thread_time() - started) / ROUNDS * 1e6


async def measure_requests(parts: EdgeParts) -> dict[str, tuple[float, float]]:
    """Microseconds to settle, and for the whole exchange, by kind of answer."""
    app = build_app(parts)
    etag = dict((await _settle(parts, scope_of("/"))).answer.headers)[b"etag"]
    found: dict[str, tuple[float, float]] = {}
    kinds = {
        "200, 1 KiB from memory": scope_of("/"),
        "HEAD": scope_of("/", method="HEAD"),
        "304": scope_of("/", (b"if-none-match", etag)),
        "206": scope_of("/", (b"range", b"bytes=0-99")),
        "308 redirect": scope_of("/old"),
        "404, the edge's page": scope_of("/none.js"),
    }
    for _ in range(REPEATS):
        # In turns, so that whatever else runs falls on all of them; the best mean is the one that it missed.
        for kind, scope in kinds.items():
            await app(scope, receive, send)
            settled = await mean_us(lambda scope=scope: _settle(parts, scope))
            whole = await mean_us(lambda scope=scope: app(scope, receive, send))
            before = found.get(kind, (settled, whole))
            found[kind] = min(before[0], settled), min(before[1], whole)
    return found


async def _settle(parts: EdgeParts, scope: dict[str, Any]) -> Any:
    return await settle(parts, read_request(scope))


REDIRECTS = (10, 1_000, 100_000)
Costs = dict[tuple[int, str], list[float]]
"""Microseconds of CPU of every round, by how many there were and by what was measured."""


def sample_redirects(count: int) -> tuple[Route, ...]:
    return tuple(Route(src=f"^/old/{n}$", status=308, headers={"location": f"/new/{n}"}) for n in range(count))


async def measure_redirects(parts: EdgeParts) -> tuple[Costs, dict[int, float]]:
    """By count of redirects, nothing remembered: microseconds of the whole exchange and of the routing alone for one of
    them ("whole", "hit") and of the routing for a path that is none ("miss"); and milliseconds to compile."""
    app = build_app(parts)
    tables, scopes, compiled_ms = {}, {}, {}
    for count in REDIRECTS:
        site = Site(f"redirects-{count}.localhost", "prj_1", f"dep_{count}", f"dep_{count}", AliasKind.PRODUCTION, 1)
        manifest = replace(sample_manifest(1, sample_redirects(count)), deployment_id=site.deployment_id)
        started = time.thread_time()
        compile_manifest(manifest)
        compiled_ms[count] = (time.thread_time() - started) * 1000
        content = encode_manifest(manifest)
        await parts.objects.store.put(site.manifest_key, content, size=len(content))
        parts.cache.put(site)
        tables[count] = (await parts.manifests.load(site)).table
        paths = [f"/old/{n}" for n in random.Random(1).choices(range(count), k=ROUNDS)]
        fields = [(b"host", site.host.encode()), *BROWSER[1:]]
        scopes[count] = [{**scope_of(path), "headers": fields} for path in paths]
    costs: Costs = {}
    for _ in range(PAIRS):
        for count, table in tables.items():
            started = time.thread_time()
            for scope in scopes[count]:
                table.memo.clear()
                await app(scope, receive, send)
            costs.setdefault((count, "whole"), []).append((time.thread_time() - started) / ROUNDS * 1e6)
            for kind, paths in (("hit", [scope["path"] for scope in scopes[count]]), ("miss", ["/none"] * ROUNDS)):
                requests = [Request("GET", HOST, path) for path in paths]
                started = time.thread_time()
                for request in requests:
                    table.memo.clear()
                    match(table, request)
                costs.setdefault((count, kind), []).append((time.thread_time() - started) / ROUNDS * 1e6)
    return costs, compiled_ms


ALIASES = (1_000, 10_000, 100_000)


async def measure_aliases(parts: EdgeParts, site: Site) -> Costs:
    """Microseconds of the whole exchange ("whole") for one of so many known hosts, asked for in no order."""
    app = build_app(parts)
    scopes, caches = {}, {}
    for count in ALIASES:
        caches[count] = DomainCache()
        for n in range(count):
            caches[count].put(decode_site({**encode_site(site), "host": f"site-{n}.of-{count}.localhost"}))
        # Names of its own for each size: what is remembered of a host holds in one domain cache only.
        chosen = random.Random(1).choices(range(count), k=4 * ROUNDS)
        hosts = [f"site-{n}.of-{count}.localhost".encode() for n in chosen]
        scopes[count] = [{**scope_of("/"), "headers": [(b"host", host), *BROWSER[1:]]} for host in hosts]
    costs: Costs = {}
    known = parts.cache
    try:
        for _ in range(PAIRS):
            for count in ALIASES:
                parts.cache = parts.resolver.cache = parts.remembered.cache = caches[count]
                started = time.thread_time()
                for scope in scopes[count]:
                    await app(scope, receive, send)
                took_us = (time.thread_time() - started) / len(scopes[count]) * 1e6
                costs.setdefault((count, "whole"), []).append(took_us)
    finally:
        parts.cache = parts.resolver.cache = parts.remembered.cache = known
    return costs


def growth(costs: Costs, kind: str, few: int, many: int) -> float:
    """The median of the rounds' ratios: what ran next to each other was slowed alike."""
    pairs = zip(costs[few, kind], costs[many, kind], strict=True)
    return statistics.median(dearer / cheaper for cheaper, dearer in pairs)


def measure_sites() -> dict[str, float]:
    """Megabytes of 10,000 known hosts with a deployment each; and with a manifest of ten files for each."""
    documents = [
        json.dumps(
            encode_site(
                Site(f"site-{n}.example.com", f"prj_{n:026}", f"dep_{n:026}", f"prj_{n:026}/dep_{n:026}/manifest.json",
                     AliasKind.PRODUCTION, n + 1)
            )
        )
        for n in range(10_000)
    ]  # fmt: skip
    contents = [encode_manifest(sample_manifest(10)) for _ in range(100)]
    tracemalloc.start()
    cache = DomainCache()
    for document in documents:
        cache.put(decode_site(json.loads(document)))
    sites_mb = tracemalloc.get_traced_memory()[0] / 1e6
    kept = [compile_manifest(decode_manifest(content)) for content in contents]
    manifests_mb = (tracemalloc.get_traced_memory()[0] / 1e6 - sites_mb) * len(documents) / len(kept)
    tracemalloc.stop()
    return {"sites_mb": sites_mb, "manifests_of_10_files_mb": manifests_mb}


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
                started = time.thread_time()
                for _ in range(ROUNDS // 10):
                    table.memo.clear()
                    match(table, request)
                best.append((time.thread_time() - started) / (ROUNDS // 10) * 1e6)
            costs.append(f"{min(best):.1f}")
        rows.append((kind, *costs))
    return rows


def measure_manifests() -> list[Sequence[object]]:
    rows = []
    for files in (100, 1_000, 25_000):
        content = encode_manifest(sample_manifest(files))
        started = time.thread_time()
        manifest = decode_manifest(content)
        decoded_ms = (time.thread_time() - started) * 1000
        started = time.thread_time()
        compile_manifest(manifest)
        compiled_ms = (time.thread_time() - started) * 1000
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


def measure(*, work: Path) -> Part:
    """Measure all of it in this process."""
    return uvloop.run(_measure(work))


async def _measure(work: Path) -> Part:
    parts = build_parts(load_settings({}, data_dir=work / "data", store=f"file://{work}/objects"), load_plugins())
    await parts.objects.start()
    routes = (Route(src="/old", status=308, headers={"location": "/new"}),)
    content = encode_manifest(sample_manifest(1_000, routes))
    site = Site(HOST, "prj_1", "dep_1", "prj_1/dep_1/manifest.json", AliasKind.PRODUCTION, 1)
    await parts.objects.store.put(site.manifest_key, content, size=len(content))
    await parts.objects.store.put(f"prj_1/blobs/{hashlib.sha256(BODY).hexdigest()}", BODY, size=len(BODY))
    parts.cache.put(site)
    await parts.manifests.load(site)
    requests = await measure_requests(parts)
    alias_costs = await measure_aliases(parts, site)
    redirect_costs, compiled_ms = await measure_redirects(parts)
    aliases = {n: min(alias_costs[n, "whole"]) for n in ALIASES}
    redirects = {
        n: (*(min(redirect_costs[n, kind]) for kind in ("whole", "hit", "miss")), compiled_ms[n]) for n in REDIRECTS
    }
    await parts.objects.close()
    head = ("answer", "resolve+route+headers, µs", "whole exchange, µs")
    rows = [(kind, f"{settled:.1f}", f"{whole:.1f}") for kind, (settled, whole) in requests.items()]
    print_table("One request with a browser's 11 header fields", head, rows)
    print_table(
        "Redirects, nothing remembered",
        ("literal redirects", "whole exchange, µs", "routing, µs", "routing of another path, µs", "compile, ms"),
        [(f"{n:,}", *(f"{cost:.1f}" for cost in costs)) for n, costs in redirects.items()],
    )
    print_table(
        "Known hosts",
        ("hosts", "whole exchange, µs"),
        [(f"{count:,}", f"{cost:.1f}") for count, cost in aliases.items()],
    )
    engines = measure_engines()
    print_table("Patterns, the last one matches, nothing remembered", ("engine", "1, µs", "10, µs", "100, µs"), engines)
    manifests = measure_manifests()
    print_table(
        "Manifests", ("files", "JSON, MB", "decode, ms", "compile, ms", "in memory, MB", "memory/JSON"), manifests
    )
    sites = measure_sites()
    plots = {
        "edge_growth": draw_bars(
            "Cost of a request as a platform grows",
            "µs",
            {
                "hosts an edge knows": {f"{count:,}": cost for count, cost in aliases.items()},
                "redirects of a site": {f"{count:,}": costs[0] for count, costs in redirects.items()},
                "its routing alone": {f"{count:,}": costs[1] for count, costs in redirects.items()},
                "its routing of another path": {f"{count:,}": costs[2] for count, costs in redirects.items()},
            },
        )
    }
    settled, whole = (max(requests[kind][n] for kind in ("304", "404, the edge's page")) for n in (0, 1))
    one_settled, one_whole = requests["200, 1 KiB from memory"]
    figures = [
        Figure("warm resolve + route + headers, in process", one_settled, "µs", most=25),
        Figure("304 and 404 in process, the dearer one: resolve + route + headers", settled, "µs", most=25),
        Figure("304 and 404 in process, the dearer one: whole exchange against 200", whole / one_whole, "×"),
        Figure(
            "1,000 → 100,000 aliases known to the edge: cost",
            growth(alias_costs, "whole", 1_000, 100_000),
            "×",
            most=1.2,
        ),
        Figure("10 → 100,000 redirects: cost of one", growth(redirect_costs, "whole", 10, 100_000), "×", most=1.2),
        Figure(
            "10 → 100,000 redirects: cost of another path",
            growth(redirect_costs, "miss", 10, 100_000),
            "×",
            most=1.2,
        ),
        Figure("memory of 10,000 cached sites", sites["sites_mb"], "MB", most=60),
    ]
    details = {
        "requests_us": requests,
        "redirects": redirects,
        "aliases_us": aliases,
        "engines": engines,
        "manifests": manifests,
        "memory": sites,
    }
    return Part(figures, details, plots)
