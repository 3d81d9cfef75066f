"""The API's own cost, asked over HTTP as a process of its own: reads, a flood of sign-ins beside them, promotes.

    python benchmarks/api.py [--seconds 10]

Prints tables and keeps them in `results/api.json`. Limits: p99 of reads
below 20 ms, and below 500 ms beside the flood.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from machine import free_port, keep_result, percentile, print_table
from services import database, services

from vclone_core.actions import deployments, owners, projects, signing_in
from vclone_core.actions.platform import Platform, open_platform
from vclone_core.models import Actor, FileEntry, Manifest, Project, Source
from vclone_core.settings import Settings
from vclone_core.stores import queue

PROGRAM = """
import os
from vclone_api.serve import main
from vclone_core.log import configure_log
from vclone_core.settings import load_settings
configure_log(process="api", log_level="warning")
main(load_settings(os.environ))
"""
PROJECTS, DEPLOYMENTS, PROMOTES = 50, 8, 50
LIMIT_MS, FLOODED_LIMIT_MS = 20.0, 500.0
PASSWORD = "correct horse battery staple"


class Served:
    """The API's process and a client of it."""

    def __init__(self, url: str, http: aiohttp.ClientSession, pid: int) -> None:
        self.url, self.http, self.pid = url, http, pid

    async def ask(self, method: str, path: str, **more: Any) -> int:
        async with self.http.request(method, self.url + path, **more) as response:
            await response.read()
            return response.status

    def cpu_s(self) -> float:
        """Return what the process has used of the processor so far: user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each of the reads is measured")
    seconds = parser.parse_args().seconds
    with services() as (postgres, redis_url), tempfile.TemporaryDirectory() as folder:
        async with database(postgres) as database_url:
            settings = Settings(
                data_dir=Path(folder),
                database_url=database_url,
                redis_url=redis_url,
                store=f"file://{folder}/objects",
                secret_key="s" * 40,
                edge_token="e" * 40,
                sign_up="open",
                api_rate_factor=1000,
                api_port=free_port(),
            )
            async with open_platform(settings) as platform:
                return await measure(platform, seconds)


async def measure(platform: Platform, seconds: float) -> int:
    owner = await owners.ensure_owner(platform.db, wants_token=True)
    actor = Actor(owner.user.id, owner.team.id, "owner")
    made = [await projects.create_project(platform, actor, f"bench-{n}") for n in range(PROJECTS)]
    ready = [await build(platform, actor, made[0]) for _ in range(DEPLOYMENTS)]
    await signing_in.sign_up(
        platform, email="a@example.com", password=PASSWORD, name="", invitation=None, address="127.0.0.1"
    )
    async with serve(platform.settings, str(owner.token)) as served:
        reads = {
            "GET /api/health": "/api/health",
            "GET /api/me": "/api/me",
            "GET /api/projects/{project}": f"/api/projects/{made[0].name}",
            "GET /api/projects (50)": "/api/projects?limit=50",
            "GET /api/deployments/{deployment}": f"/api/deployments/{ready[0]}",
        }
        figures: dict[str, Any] = {}
        rows = []
        for title, path in reads.items():
            found = await time_reads(served, path, seconds)
            figures[title] = found
            rows.append([title, *found.values()])
        flooded, refused = await flood(served, reads["GET /api/me"], seconds)
        figures["GET /api/me beside a flood of sign-ins"] = flooded
        rows.append(["GET /api/me beside a flood of sign-ins", *flooded.values()])
        print_table("Reads of the API, one client", ["Read", "p50 ms", "p99 ms", "per second", "CPU ms each"], rows)
        print_table("The flood", ["Answer", "Sign-ins"], sorted(refused.items()))
        started = time.perf_counter()
        picked = [ready[n % DEPLOYMENTS] for n in range(PROMOTES)]
        asked = [served.ask("POST", f"/api/deployments/{one}/promote") for one in picked]
        statuses = Counter(await asyncio.gather(*asked))
        took_s = time.perf_counter() - started
        rows_of_promotes = [[PROMOTES, dict(statuses), f"{took_s * 1000:.0f}", f"{took_s / PROMOTES * 1000:.1f}"]]
        print_table("Promotes at once", ["Asked", "Answers", "all ms", "ms each"], rows_of_promotes)
        figures["promotes"] = {"count": PROMOTES, "all_ms": round(took_s * 1000)}
        keep_result("api", figures)
    slow = [title for title, one in figures.items() if "p99_ms" in one and one["p99_ms"] > limit_of(title)]
    sys.stdout.write(f"\nover their limit: {', '.join(slow) or 'none'}\n")
    return 1 if slow or statuses != {200: PROMOTES} else 0


def limit_of(title: str) -> float:
    return FLOODED_LIMIT_MS if "flood" in title else LIMIT_MS


async def time_reads(served: Served, path: str, seconds: float) -> dict[str, float]:
    """Ask for one address after the other; return milliseconds, the rate, and the server's CPU for each."""
    for _ in range(50):
        await served.ask("GET", path)
    times, cpu, started = [], served.cpu_s(), time.perf_counter()
    while time.perf_counter() - started < seconds:
        begun = time.perf_counter()
        assert await served.ask("GET", path) == 200
        times.append((time.perf_counter() - begun) * 1000)
    elapsed = time.perf_counter() - started
    return {
        "p50_ms": round(percentile(times, 0.5), 2),
        "p99_ms": round(percentile(times, 0.99), 2),
        "rate": round(len(times) / elapsed),
        "cpu_ms": round((served.cpu_s() - cpu) / len(times) * 1000, 2),
    }


async def flood(served: Served, path: str, seconds: float) -> tuple[dict[str, float], Counter[str]]:
    """Read beside 16 clients that sign in with wrong passwords as fast as they are answered."""
    answers: Counter[str] = Counter()
    stop = asyncio.Event()

    async def attack(number: int) -> None:
        async with aiohttp.ClientSession() as http:
            count = 0
            while not stop.is_set():
                count += 1
                body = {"email": f"{number}-{count}@example.com", "password": "wrong password here"}
                async with http.post(f"{served.url}/api/auth/login", json=body) as response:
                    answers[str(response.status)] += 1
                    await response.read()

    attackers = [asyncio.create_task(attack(number)) for number in range(16)]
    try:
        return await time_reads(served, path, seconds), answers
    finally:
        stop.set()
        await asyncio.wait(attackers)


async def build(platform: Platform, actor: Actor, project: Project) -> str:
    source = Source("git", url="https://git.example/x.git", ref="main")
    await deployments.request_deployment(platform, actor, project, source)
    claim = await queue.claim(platform.db, "bench", lease_s=60, project_slots=64)
    assert claim is not None
    files = {"/index.html": FileEntry(sha256="0" * 64, size=5, type="text/html")}
    manifest = Manifest(claim.deployment.id, project.id, "static", files, routes=())
    return (await deployments.publish(platform, claim, manifest)).deployment.id


@asynccontextmanager
async def serve(settings: Settings, token: str) -> AsyncIterator[Served]:
    url = f"http://127.0.0.1:{settings.api_port}"
    names = ("database_url", "redis_url", "secret_key", "edge_token")
    told = {f"VCLONE_{name.upper()}": getattr(settings, name).get_secret_value() for name in names}
    told |= {"VCLONE_STORE": settings.store, "VCLONE_API_PORT": str(settings.api_port), "VCLONE_API_URL": url}
    told |= {"VCLONE_API_RATE_FACTOR": str(settings.api_rate_factor), "VCLONE_SIGN_UP": "open"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, env={**os.environ, **told})
    try:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:
            served = Served(url, http, process.pid)
            async with asyncio.timeout(30):
                while True:
                    with contextlib.suppress(aiohttp.ClientConnectionError):
                        if await served.ask("GET", "/api/health") == 200:
                            break
                    await asyncio.sleep(0.05)
            yield served
    finally:
        process.terminate()
        await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
