"""Hot files at the edge, side by side with nginx and Caddy: what one answer costs the whole server in CPU time.

A site of 200 files and 20 rules, everything in memory after the first round, asked for in turn; the others serve the
same files from a folder. `engine` is the edge's own engine with an app that answers a constant 1 KiB: the floor.

CPU time is user + system of the server's process tree, from /proc, divided by the answers that came back right. All
servers run from the start and take turns, so that whatever else the machine does falls on all of them. Load comes from
wrk (HTTP/1.1) and h2load (HTTP/2), on the same machine: rates are comparable with each other only.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import re
import shutil
import statistics
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_servers import (
    DEPLOYMENT,
    HOST,
    PROJECT,
    Server,
    caddy,
    cpu_seconds,
    edge,
    find_caddy,
    nginx,
    open_store,
    store_manifest,
    write_certificate,
)
from figures import Figure, Part
from machine import print_table
from plots import draw_bars

from vclone_core.models import FileEntry, Manifest
from vclone_core.rules.objectkeys import blob_key
from vclone_core.rules.route_sources import Sources, plan_routes
from vclone_core.rules.vercel_config import parse_vercel_config

KIB = 1024
SMALL, LARGE = [f"/asset-{n:03}.css" for n in range(180)], [f"/large-{n:02}.css" for n in range(20)]
LARGE_BYTES = 100 * KIB
CONNECTIONS, STREAMS = {"wrk": 16, "h2load": 4}, 50

# 20 rules as a site of some age has them. Every file is dressed by two of the headers' rules.
CONFIG = {
    "redirects": [
        {"source": "/old", "destination": "/"},
        {"source": "/team", "destination": "/about"},
        {"source": "/jobs", "destination": "/careers"},
        {"source": "/press", "destination": "/media"},
        {"source": "/blog/:year/:slug", "destination": "/posts/:slug"},
        {"source": "/docs/v1/:path*", "destination": "/docs/:path*"},
        {"source": "/u/:name", "destination": "/people/:name"},
        {"source": "/shop/(.*)", "destination": "https://shop.example.com/$1"},
    ],
    "rewrites": [
        {"source": "/about", "destination": "/asset-001.css"},
        {"source": "/people/:name", "destination": "/asset-002.css"},
        {"source": "/posts/:slug", "destination": "/asset-003.css"},
        {"source": "/docs/:path*", "destination": "/asset-004.css"},
        {"source": "/media", "destination": "/asset-005.css"},
        {"source": "/careers/:job", "destination": "/asset-006.css"},
    ],
    "headers": [
        {"source": "/(.*)", "headers": [{"key": "X-Frame-Options", "value": "DENY"}]},
        {"source": "/(.*).css", "headers": [{"key": "Cache-Control", "value": "public, max-age=600"}]},
        {"source": "/fonts/(.*)", "headers": [{"key": "Access-Control-Allow-Origin", "value": "*"}]},
        {"source": "/feed.xml", "headers": [{"key": "Content-Type", "value": "application/atom+xml"}]},
        {"source": "/docs/(.*)", "headers": [{"key": "X-Robots-Tag", "value": "all"}]},
        {"source": "/api/:path*", "headers": [{"key": "Cache-Control", "value": "no-store"}]},
    ],
}


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load."""

    protocol: str
    paths: tuple[str, ...]
    status: int = 200
    header: str = ""


KINDS = ("1 KiB, HTTP/1.1", "1 KiB, HTTP/2", "1 KiB, HTTP/2 + TLS", "100 KiB, HTTP/2 + TLS")
OTHERS = ("200, one file", "304", "404")


@dataclass(frozen=True, slots=True)
class Cost:
    per_second: float
    cpu_us: float


def measure(*, rounds: int, seconds: int, work: Path) -> Part:
    """Measure all; raises SystemExit where a program is missing."""
    for program in ("wrk", "h2load", "openssl", "nginx"):
        if shutil.which(program) is None:
            raise SystemExit(f"This needs {program} (Debian: wrk, nghttp2-client, openssl, nginx).")
    for folder in ("files", "certificates", "objects"):
        (work / folder).mkdir()
    work.chmod(0o755)
    write_files(work / "files")
    write_certificate(work / "certificates")
    store_url = f"file://{work}/objects"
    site = asyncio.run(store_site(store_url, work / "files"))
    costs: dict[tuple[str, str], list[Cost]] = {}
    with ExitStack() as stack:
        servers = {
            "edge": stack.enter_context(edge(work, site, store_url)),
            "engine": stack.enter_context(edge(work, site, store_url, target="edge_constant:app")),
            "nginx": stack.enter_context(nginx(work)),
        }
        if find_caddy():
            servers["caddy"] = stack.enter_context(caddy(work))
        etag = read_etag(servers["edge"], SMALL[0])
        cases = {
            "1 KiB, HTTP/1.1": Case("HTTP/1.1", tuple(SMALL)),
            "1 KiB, HTTP/2": Case("HTTP/2", tuple(SMALL)),
            "1 KiB, HTTP/2 + TLS": Case("HTTP/2 + TLS", tuple(SMALL)),
            "100 KiB, HTTP/2 + TLS": Case("HTTP/2 + TLS", tuple(LARGE)),
            "200, one file": Case("HTTP/2 + TLS", (SMALL[0],)),
            "304": Case("HTTP/2 + TLS", (SMALL[0],), 304, f"if-none-match: {etag}"),
            "404": Case("HTTP/2 + TLS", ("/none.js",), 404),
        }
        plan = [
            (kind, label)
            for kind in cases
            for label in servers
            if not (label == "engine" and not kind.startswith("1 KiB")) and not (label != "edge" and kind in OTHERS)
        ]
        for kind, label in plan:
            load(servers[label], cases[kind], work, 1)
        for _ in range(rounds):
            for kind, label in plan:
                costs.setdefault((kind, label), []).append(weigh(servers[label], cases[kind], work, seconds))
    return report(costs, rounds, seconds)


def report(costs: dict[tuple[str, str], list[Cost]], rounds: int, seconds: int) -> Part:
    middle = {
        place: Cost(
            statistics.median(cost.per_second for cost in found), statistics.median(cost.cpu_us for cost in found)
        )
        for place, found in costs.items()
    }
    labels = list(dict.fromkeys(label for _, label in middle))

    def cell(kind: str, label: str) -> str:
        cost = middle.get((kind, label))
        return "" if cost is None else f"{cost.cpu_us:.1f} µs, {cost.per_second:,.0f}/s"

    rows = [[kind, *(cell(kind, label) for label in labels)] for kind in (*KINDS, *OTHERS)]
    print_table(
        f"Hot files: CPU an answer, and answers a second (median of {rounds} rounds of {seconds} s)",
        ["load", *labels],
        rows,
    )

    def ratio(kind: str, other: str, other_kind: str = "") -> float:
        # Of each round's pair, which ran next to each other: a busy machine slows both.
        pairs = zip(costs[kind, "edge"], costs[other_kind or kind, other], strict=True)
        return statistics.median(ours.cpu_us / theirs.cpu_us for ours, theirs in pairs)

    figures = []
    for kind, most in (("1 KiB, HTTP/2 + TLS", 4.5), ("1 KiB, HTTP/1.1", 4.5), ("100 KiB, HTTP/2 + TLS", 2.5)):
        figures.append(Figure(f"{kind}: CPU against nginx", ratio(kind, "nginx"), "×", most=most))
        if "caddy" in labels and kind.startswith("1 KiB"):
            figures.append(Figure(f"{kind}: CPU against Caddy", ratio(kind, "caddy"), "×", most=0.5))
    for kind in ("304", "404"):
        figures.append(Figure(f"{kind}: CPU against 200", ratio(kind, "edge", "200, one file"), "×", most=1.0))
    bars = {kind: {label: middle[kind, label].cpu_us for label in labels if (kind, label) in middle} for kind in KINDS}
    limits = {kind: 4.5 * bars[kind]["nginx"] for kind in KINDS[:3]} | {KINDS[3]: 2.5 * bars[KINDS[3]]["nginx"]}
    details = {
        f"{kind}, {label}": {"cpu_us": round(c.cpu_us, 1), "per_second": round(c.per_second)}
        for (kind, label), c in middle.items()
    }
    plot = draw_bars("CPU of the whole server for one hot answer; limits against nginx", "µs", bars, limits)
    return Part(figures, details, {"edge_hot": plot})


# The site


def write_files(folder: Path) -> None:
    for path in (*SMALL, *LARGE):
        head = f"/* {path} */\n".encode()
        size = KIB if path in SMALL else LARGE_BYTES
        (folder / path[1:]).write_bytes(head + b"a" * (size - len(head)))


async def store_site(url: str, files: Path) -> dict[str, Any]:
    """Put the files, and their manifest with its rules, into the object store; return the site."""
    store = open_store(url, {})
    await store.start()
    entries = {}
    for path in sorted(files.iterdir()):
        body = path.read_bytes()
        sha256 = hashlib.sha256(body).hexdigest()
        await store.put(blob_key(PROJECT, sha256), body, size=len(body))
        entries[f"/{path.name}"] = FileEntry(sha256=sha256, size=len(body), type="text/css; charset=utf-8")
    routes = plan_routes(Sources(vercel=parse_vercel_config(json.dumps(CONFIG))), entries)
    site = await store_manifest(store, Manifest(DEPLOYMENT, PROJECT, None, entries, routes))
    await store.close()
    return site


def read_etag(server: Server, path: str) -> str:
    connection = http.client.HTTPConnection(HOST, server.plain, timeout=10)
    connection.request("GET", path)
    etag = connection.getresponse().headers["etag"]
    connection.close()
    return etag


# Load


def weigh(server: Server, case: Case, work: Path, seconds: int) -> Cost:
    before, began = cpu_seconds(server.pid), time.monotonic()
    answers = load(server, case, work, seconds)
    took = time.monotonic() - began
    return Cost(answers / took, (cpu_seconds(server.pid) - before) / answers * 1e6)


def load(server: Server, case: Case, work: Path, seconds: int) -> int:
    """Ask for so long; return how many answers had the right status, which all must have."""
    if case.protocol == "HTTP/1.1":
        return _load_h1(server.plain, case, work, seconds)
    scheme, port = ("http", server.clear_h2) if case.protocol == "HTTP/2" else ("https", server.secure)
    return _load_h2(f"{scheme}://{HOST}:{port}", case, work, seconds)


def _load_h1(port: int, case: Case, work: Path, seconds: int) -> int:
    script = work / "paths.lua"
    paths = ",".join(f'wrk.format("GET", "{path}")' for path in case.paths)
    script.write_text(
        f"local n, all = 0, nil\nfunction init() all = {{{paths}}} end\n"
        "function request() n = n % #all + 1 return all[n] end\n"
    )
    words = ["wrk", "-t1", f"-c{CONNECTIONS['wrk']}", f"-d{seconds}s", "-s", script, f"http://{HOST}:{port}/"]
    output = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True).stdout
    if failed := re.search(r"(Non-2xx.*|Socket errors.*)", output):
        raise SystemExit(f"wrk: {failed[0]}")
    return int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]


def _load_h2(base: str, case: Case, work: Path, seconds: int) -> int:
    addresses = work / "addresses"
    addresses.write_text("".join(f"{base}{path}\n" for path in case.paths))
    words = ["h2load", f"-c{CONNECTIONS['h2load']}", f"-m{STREAMS}", f"-D{seconds}", "-i", addresses]
    words += ["-H", case.header] if case.header else []
    output = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True).stdout
    counts = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
    found = [int(count) for count in counts.groups()] if counts else [0] * 4
    answers = found[case.status // 100 - 2]
    if not answers or answers != sum(found):
        raise SystemExit(f"h2load: {output}")
    return answers
