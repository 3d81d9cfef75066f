"""The databases we start ourselves: as root and not, in closed folders, with long names, after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from vclone_core.embedded.children import Service
from vclone_core.embedded.postgres import start_postgres
from vclone_core.embedded.rundirs import make_run_dir, remove_run_dir
from vclone_core.embedded.valkey import start_valkey


@pytest.fixture
def run_dir() -> Iterator[Path]:
    path = make_run_dir(os.environ)
    yield path
    remove_run_dir(path)


@pytest.fixture
def closed_dir() -> Iterator[Path]:
    """A folder only its owner can pass, with a name of 100 characters."""
    with tempfile.TemporaryDirectory() as parent:
        path = Path(parent) / ("d" * 100)
        path.mkdir(mode=0o700)
        yield path


async def ask(service: Service, sql: str) -> object:
    connection = await asyncpg.connect(service.url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_postgres_answers_in_a_closed_folder_with_a_long_name(closed_dir: Path, run_dir: Path) -> None:
    service = start_postgres(closed_dir / "postgres", run_dir, is_durable=False)
    try:
        assert await ask(service, "select 41 + 1") == 42
        assert (closed_dir.stat().st_mode & 0o777, closed_dir.parent.stat().st_mode & 0o777) == (0o700, 0o700)
        assert (run_dir / "pg").stat().st_mode & 0o777 == 0o700
    finally:
        service.stop()
    assert service.process.returncode == 0
    assert not (run_dir / "pg").exists()


async def test_postgres_keeps_its_rows_when_killed(closed_dir: Path, run_dir: Path) -> None:
    service = start_postgres(closed_dir / "postgres", run_dir)
    await ask(service, "create table kept as select 7 as n")
    service.process.kill()
    service.process.wait()
    again = start_postgres(closed_dir / "postgres", run_dir)
    try:
        assert await ask(again, "select n from kept") == 7
    finally:
        again.stop()


async def test_two_servers_run_side_by_side(tmp_path: Path) -> None:
    runs = [make_run_dir(os.environ), make_run_dir(os.environ)]
    services = [start_postgres(tmp_path / f"pg{n}", run, is_durable=False) for n, run in enumerate(runs)]
    try:
        assert await ask(services[0], "select 1") == await ask(services[1], "select 1") == 1
    finally:
        for service, run in zip(services, runs, strict=True):
            service.stop()
            remove_run_dir(run)


async def test_valkey_keeps_a_list_when_killed(closed_dir: Path, run_dir: Path) -> None:
    service = start_valkey(closed_dir / "valkey", run_dir)
    client = redis.asyncio.from_url(service.url)
    await client.lpush("deployment:queue", "one")
    service.process.kill()
    service.process.wait()
    await client.aclose()
    again = start_valkey(closed_dir / "valkey", run_dir)
    client = redis.asyncio.from_url(again.url)
    try:
        assert await client.lrange("deployment:queue", 0, -1) == [b"one"]
    finally:
        await client.aclose()
        again.stop()


def test_killed_parent_leaves_no_server_and_a_clean_cluster(closed_dir: Path, run_dir: Path) -> None:
    program = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        from vclone_core.embedded.postgres import start_postgres
        from vclone_core.embedded.valkey import start_valkey
        run, data = Path({str(run_dir)!r}), Path({str(closed_dir)!r})
        services = [start_postgres(data / "pg", run), start_valkey(data / "vk", run)]
        print(*(service.pid for service in services), flush=True)
        time.sleep(60)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    parent.stdout.close()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a server outlived its parent"
        time.sleep(0.02)
    assert "database system is shut down" in (run_dir / "postgres.log").read_text()
