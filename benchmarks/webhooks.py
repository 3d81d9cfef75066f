"""How long a git host waits for the answer to a webhook, from a real API process that handles deliveries meanwhile.

    python benchmarks/webhooks.py [--sent 1000]

Prints milliseconds and keeps them in `results/webhooks.json`;
ends with 1 when a p99 is 200 ms or more.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from machine import free_port, keep_result, percentile, print_table
from services import database, services

from vclone_core.actions import gitconnections, owners, projects
from vclone_core.actions.platform import open_platform
from vclone_core.models import Actor
from vclone_core.settings import Settings

LIMIT_MS = 200.0
PROJECTS = 20
# Requests at once, seconds between two such bursts, bytes of the body, part of the requests that are sent. 8 KiB is a
# usual push; 20 a second are 72,000 an hour.
CASES = ((1, 0.05, 8 * 1024, 1.0), (10, 1.0, 8 * 1024, 0.4), (1, 0.5, 1024**2, 0.05))


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sent", type=int, default=1000)
    sent = parser.parse_args().sent
    with services() as (postgres, redis_url), tempfile.TemporaryDirectory() as folder:
        async with database(postgres) as database_url:
            rows = await measure(database_url, redis_url, Path(folder), sent)
    print_table("Answers to webhooks", ("at once", "a second", "body", "sent", "p50 ms", "p99 ms", "worst ms"), rows)
    keep_result("webhooks", {"rows": rows, "limit_p99_ms": LIMIT_MS})
    return int(any(row[5] >= LIMIT_MS for row in rows))


async def measure(database_url: str, redis_url: str, folder: Path, sent: int) -> list[tuple[object, ...]]:
    port = free_port()
    settings = {
        "database_url": database_url,
        "redis_url": redis_url,
        "store": f"file://{folder}/objects",
        "data_dir": str(folder),
        "secret_key": "s" * 40,
        "api_port": str(port),
        "api_url": f"http://127.0.0.1:{port}",
        "log_level": "warning",
    }
    targets = await connect(Settings(**settings))
    env = {**os.environ, **{f"VCLONE_{key.upper()}": value for key, value in settings.items()}}
    api = await asyncio.create_subprocess_exec(sys.executable, "-m", "vclone_core.cli", "api", env=env)
    try:
        async with aiohttp.ClientSession() as session:
            await wait_ready(session, settings["api_url"])
            rows = []
            for at_once, pause_s, size, part in CASES:
                took = await send_all(session, targets, int(sent * part), at_once, pause_s, size)
                values = (percentile(took, 0.5), percentile(took, 0.99), max(took))
                rows.append(
                    (
                        at_once,
                        f"{at_once / pause_s:.0f}",
                        f"{size // 1024} KiB",
                        len(took),
                        *(round(one, 1) for one in values),
                    )
                )
            return rows
    finally:
        api.terminate()
        await api.wait()


async def connect(settings: Settings) -> list[tuple[str, str, str]]:
    """Return the webhooks of some projects: address, secret and repository."""
    async with open_platform(settings) as platform:
        owner = await owners.ensure_owner(platform.db)
        actor = Actor(owner.user.id, owner.team.id, "owner")
        found = []
        for number in range(PROJECTS):
            project = await projects.create_project(platform, actor, f"p{number}")
            git_url = f"https://github.com/acme/p{number}.git"
            made = await gitconnections.connect(platform, actor, project, host="github", git_url=git_url)
            assert made.secret is not None
            found.append((made.webhook_url, made.secret, f"acme/p{number}"))
        return found


async def wait_ready(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                async with session.get(f"{url}/api/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


async def send_all(
    session: aiohttp.ClientSession,
    targets: list[tuple[str, str, str]],
    count: int,
    at_once: int,
    pause_s: float,
    size: int,
) -> list[float]:
    """Send pushes in bursts, whether or not the ones before are answered; return how many ms each answer took."""
    took: list[float] = []

    async def send(number: int) -> None:
        url, secret, repository = targets[number % len(targets)]
        body, headers = make_push(secret, repository, size)
        started = time.perf_counter()
        async with session.post(url, data=body, headers=headers) as answer:
            assert answer.status == 202, await answer.text()
            await answer.read()
        took.append((time.perf_counter() - started) * 1000)

    async with asyncio.TaskGroup() as tasks:
        for first in range(0, count, at_once):
            for number in range(first, first + at_once):
                tasks.create_task(send(number))
            await asyncio.sleep(pause_s)
    return took


def make_push(secret: str, repository: str, size: int) -> tuple[bytes, dict[str, str]]:
    payload = {
        "ref": f"refs/heads/b{secrets.randbelow(10)}",
        "before": secrets.token_hex(20),
        "after": secrets.token_hex(20),
        "head_commit": {"message": "Change it", "author": {"name": "Ada"}},
        "repository": {"full_name": repository},
        "commits": ["x" * 100] * (size // 104),
    }
    body = json.dumps(payload).encode()
    return body, {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": secrets.token_hex(16),
        "X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}",
    }


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
