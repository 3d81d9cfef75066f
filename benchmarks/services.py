"""The PostgreSQL and the Valkey that a benchmark runs on: those named by the environment, or new ones of its own.

VCLONE_TEST_DATABASE_URL and VCLONE_TEST_REDIS_URL name them. Databases are made beside the named one, and dropped.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg

from vclone_core.embedded.postgres import start_postgres
from vclone_core.embedded.rundirs import make_run_dir, remove_run_dir
from vclone_core.embedded.valkey import start_valkey
from vclone_core.stores.postgres import migrate


@contextmanager
def services(*, is_durable: bool = False) -> Iterator[tuple[str, str]]:
    """Give the addresses of a PostgreSQL and a Valkey; `is_durable`: as durable as those of `vclone up`."""
    named = os.environ.get("VCLONE_TEST_DATABASE_URL"), os.environ.get("VCLONE_TEST_REDIS_URL")
    if named[0] and named[1]:
        yield named[0], named[1]
        return
    with tempfile.TemporaryDirectory(prefix="vclone-bench-") as folder:
        Path(folder).chmod(0o755)
        run_dirs = [make_run_dir(os.environ), make_run_dir(os.environ)]
        running = []
        try:
            for start, run_dir, below in zip((start_postgres, start_valkey), run_dirs, ("db", "redis"), strict=True):
                data_dir = Path(folder) / below
                data_dir.mkdir()
                running.append(start(data_dir / "data", run_dir, is_durable=is_durable))
            yield running[0].url, running[1].url
        finally:
            for service in reversed(running):
                service.stop()
            for run_dir in run_dirs:
                remove_run_dir(run_dir)


@asynccontextmanager
async def database(url: str) -> AsyncIterator[str]:
    """Give the address of a new, migrated database of the server at `url`, until it is dropped."""
    name = f"vclone_bench_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(url)
    try:
        await admin.execute(f"create database {name}")
        made = f"{url.rpartition('/')[0]}/{name}"
        try:
            await migrate(made)
            yield made
        finally:
            await admin.execute(f"drop database {name} with (force)")
    finally:
        await admin.close()
