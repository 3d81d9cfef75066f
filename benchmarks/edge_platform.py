"""The edge with the platform behind it: API, PostgreSQL, Valkey, and ten edge processes of its own.

How long a host takes that an edge has never heard of, as the platform's aliases grow; and how long a publish takes
until the last of ten edges shows it to a visitor.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

import asyncpg
from edge_servers import cpu_seconds
from figures import Figure, Part
from machine import free_port, percentile, print_table
from plots import draw_bars, draw_shares
from whole_platform import Platform

from vclone_core.embedded.postgres import PORT, USER
from vclone_edge.cache import DomainCache
from vclone_edge.control_api import ControlApi
from vclone_edge.resolve import Resolver

EDGES: Final = 10
LOOK_UPS: Final = 100  # of each kind, in each round
ROUNDS: Final = 7
ALIASES: Final = (1_000, 100_000)
PAGES: Final = (b"<!doctype html><title>one</title>first", b"<!doctype html><title>two</title>second")
HOST: Final = "bench.localhost"

# Rows as `move_alias` leaves them, many at once: nobody has to wait for 100,000 deploys.
_ADD = """
insert into aliases (host, project_id, deployment_id, kind, version)
select 'host-' || n || '-' || $3::text, a.project_id, a.deployment_id, 'custom', a.version
from aliases a, generate_series(1, $1::int) n where a.host = $2
"""


def measure(*, publishes: int, work: Path) -> Part:
    """Measure on a platform that is started for this."""
    platform = Platform(work)
    with platform.running(), ExitStack() as stack:
        deployments = [deploy(platform, work / "site", page) for page in PAGES]
        edges = [stack.enter_context(edge(platform, work / f"edge-{number}")) for number in range(EDGES)]
        # The first publishes fill what is empty: manifests, connections, plans.
        time_publishes(platform, edges, deployments, 10)
        visible_ms, first_ms = time_publishes(platform, edges, deployments, publishes)
        cold = asyncio.run(time_look_ups(platform, edges[0]))
    return report(visible_ms, first_ms, cold)


def report(visible_ms: list[float], first_ms: list[float], cold: dict[int, Cold]) -> Part:
    resolves = {f"resolve, {count:,} aliases": found.resolved_ms for count, found in cold.items()}
    visits = {f"first visit, {count:,} aliases": found.visited_ms for count, found in cold.items()}
    series = {"first edge": first_ms, f"all {EDGES} edges": visible_ms, **resolves, **visits}
    print_table(
        "With the platform behind it, ms",
        ("what", "p50", "p90", "p99", "most", "count"),
        [
            (name, *(f"{percentile(values, share):.1f}" for share in (0.5, 0.9, 0.99, 1)), len(values))
            for name, values in series.items()
        ],
    )
    cpu_us = {count: statistics.median(found.cpu_us) for count, found in cold.items()}
    pairs = zip(*(cold[count].cpu_us for count in ALIASES), strict=True)
    all_resolves = [ms for values in resolves.values() for ms in values]
    all_visits = [ms for values in visits.values() for ms in values]
    figures = [
        Figure("cold host resolve, p99 (API and PostgreSQL behind it)", percentile(all_resolves, 0.99), "ms", most=15),
        Figure("cold host, a visitor's whole first answer, p99", percentile(all_visits, 0.99), "ms"),
        Figure(
            "1,000 → 100,000 aliases in PostgreSQL: CPU of a cold resolve",
            statistics.median(many / few for few, many in pairs),
            "×",
            most=1.2,
        ),
        Figure(f"publish to visible at all of {EDGES} edges, p99", percentile(visible_ms, 0.99), "ms", most=250),
        Figure(f"publish to visible at all of {EDGES} edges, p50", percentile(visible_ms, 0.5), "ms"),
    ]
    shares = {
        name: {f"p{round(share * 100)}": round(percentile(values, share), 2) for share in (0.5, 0.9, 0.99, 1)}
        for name, values in series.items()
    }
    publishes = {"first edge": first_ms, f"all {EDGES} edges": visible_ms}
    title = f"Publish to visible, {len(visible_ms)} publishes, share within"
    plots = {
        "edge_publish": draw_shares(title, "ms", publishes, 250),
        "edge_cold": draw_shares("Cold host, share within", "ms", {**resolves, **visits}, 15),
        "edge_aliases": draw_bars(
            "CPU of API and PostgreSQL for a cold resolve",
            "µs",
            {"aliases of the platform": {f"{count:,}": cost for count, cost in cpu_us.items()}},
        ),
    }
    details = {"ms": shares, "cpu_us": cpu_us, "load_average": os.getloadavg()[0]}
    return Part(figures, details, plots)


def deploy(platform: Platform, folder: Path, page: bytes) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "index.html").write_bytes(page)
    _, answer = platform.run("deploy", str(folder), "--project", "bench", "--prod")
    return str(answer["deployment_id"])


@contextmanager
def edge(platform: Platform, data_dir: Path) -> Iterator[int]:
    """`vclone edge` beside the platform, as on a machine of its own; its port."""
    port = free_port()
    secrets = json.loads((platform.data_dir / "secrets.json").read_text())
    environ = {
        **platform.environ,
        "VCLONE_DATA_DIR": str(data_dir),
        "VCLONE_API_URL": f"http://127.0.0.1:{platform.api_port}",
        "VCLONE_EDGE_TOKEN": secrets["edge_token"],
        "VCLONE_EDGE_PORT": str(port),
        "VCLONE_STORE": f"file://{platform.data_dir / 'objects'}",
        "VCLONE_LOG_LEVEL": "warning",
    }
    data_dir.mkdir()
    with (data_dir / "edge.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "vclone_edge.serve"], env=environ, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not _shows(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"an edge did not start:\n{(data_dir / 'edge.log').read_text()}")
            time.sleep(0.05)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(40)


def _shows(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/", headers={"Host": HOST})
        return connection.getresponse().read() in PAGES
    except OSError:
        return False
    finally:
        connection.close()


# Publish to visible


class Visitor:
    """Asks one edge for the page again and again, over one connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def ask(self) -> None:
        self.socket.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())

    def read(self) -> bytes:
        answer = b""
        while b"</title>first" not in answer and b"</title>second" not in answer:
            piece = self.socket.recv(8192)
            if not piece:
                raise SystemExit(f"an edge closed: {answer!r}")
            answer += piece
        return answer


def time_publishes(
    platform: Platform, edges: Sequence[int], deployments: Sequence[str], count: int
) -> tuple[list[float], list[float]]:
    """Publish the two deployments in turn: ms from the request until every edge shows it, and until the first does."""
    visitors = [Visitor(port) for port in edges]
    every, first = [], []
    for number in range(count):
        wanted = number % 2
        began = time.perf_counter()
        asking = threading.Thread(target=publish, args=(platform, deployments[wanted]))
        asking.start()
        seen: list[float] = []
        waiting = list(visitors)
        while waiting:
            for visitor in waiting:
                visitor.ask()
            left = dict.fromkeys(waiting)
            while left:
                ready, _, _ = select.select([visitor.socket for visitor in left], [], [], 10)
                for visitor in [visitor for visitor in left if visitor.socket in ready]:
                    del left[visitor]
                    if visitor.read().endswith(PAGES[wanted]):
                        seen.append((time.perf_counter() - began) * 1000)
                        waiting.remove(visitor)
            if time.perf_counter() - began > 10:
                raise SystemExit(f"publish {number} was not seen everywhere within 10 s")
            time.sleep(0.002)
        asking.join()
        first.append(min(seen))
        every.append(max(seen))
    return every, first


def publish(platform: Platform, deployment: str) -> None:
    """Promote: what every deploy to production ends with, and what a rollback does."""
    connection = http.client.HTTPConnection("127.0.0.1", platform.api_port, timeout=30)
    connection.request(
        "POST", f"/api/deployments/{deployment}/promote", headers={"Authorization": f"Bearer {platform.token}"}
    )
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"promote: {answer.status} {answer.read()[:300]!r}")
    answer.read()
    connection.close()


# Cold hosts


@dataclass
class Cold:
    """Milliseconds of the resolve step and of a visitor's whole first answer, and the control plane's CPU for each."""

    resolved_ms: list[float] = field(default_factory=list)
    visited_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


async def time_look_ups(platform: Platform, port: int) -> dict[int, Cold]:
    """Ask for hosts that an edge has never heard of, with few and with many aliases in turn."""
    run = json.loads((platform.data_dir / "run.json").read_text())
    folder = quote(str(Path(run["run_dir"]) / "pg"), safe="")
    database = await asyncpg.connect(f"postgresql://{USER}@{folder}:{PORT}/postgres")
    secrets = json.loads((platform.data_dir / "secrets.json").read_text())
    api = ControlApi(f"http://127.0.0.1:{platform.api_port}", secrets["edge_token"], "bench")
    await api.start()
    resolver = Resolver(DomainCache(), api)
    found = {count: Cold() for count in ALIASES}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        for number in range(ROUNDS):
            for count in ALIASES:
                # Other names every time: none may be known yet.
                await database.execute("delete from aliases where host like 'host-%'")
                await database.execute(_ADD, count, HOST, f"{number}.localhost")
                await database.execute("vacuum analyze aliases")
                # What so many new rows leave to be written is not the look-ups' work.
                await database.execute("checkpoint")
                await asyncio.sleep(1)
                hosts = [f"host-{1 + n * (count // (2 * LOOK_UPS))}-{number}.localhost" for n in range(2 * LOOK_UPS)]
                connection.close()  # It opens again by itself: the edge doesn't wait for as long as this took.
                before_s = cpu_seconds(run["pid"])
                for host in hosts[::2]:
                    began = time.perf_counter()
                    await resolver.resolve(host)
                    found[count].resolved_ms.append((time.perf_counter() - began) * 1000)
                found[count].cpu_us.append((cpu_seconds(run["pid"]) - before_s) / LOOK_UPS * 1e6)
                for host in hosts[1::2]:
                    began = time.perf_counter()
                    connection.request("GET", "/", headers={"Host": host})
                    if connection.getresponse().read() not in PAGES:
                        raise SystemExit(f"{host} does not show the site")
                    found[count].visited_ms.append((time.perf_counter() - began) * 1000)
    finally:
        connection.close()
        await api.close()
        await database.close()
    return found
