"""Fixtures of the whole suite: real PostgreSQL and Valkey, one database per test."""

from __future__ import annotations

import io
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import asyncpg
import pytest
import structlog
from hypothesis import HealthCheck, settings

from vclone_core.embedded.children import Service
from vclone_core.embedded.postgres import start_postgres
from vclone_core.embedded.rundirs import make_run_dir, remove_run_dir
from vclone_core.embedded.valkey import start_valkey
from vclone_core.log import configure_log
from vclone_core.stores.postgres import migrate

MEMORY: Final = Path("/dev/shm")
MEMORY_BYTES: Final = 2 * 1024**3

# How long an example takes says more of the machine than of the code: benchmarks/ measures, this suite doesn't.
settings.register_profile(
    "vclone",
    settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("vclone")


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Undo what a test that runs a command in this process does to logging, whose stream ends with that test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def logged(own_logging: None) -> Callable[[], str]:
    """What the program has logged in this test, whether or not an earlier one has configured its loggers."""
    configure_log(process="test")
    stream = io.StringIO()
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    return stream.getvalue


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the session's own, or the one named by VCLONE_TEST_DATABASE_URL."""
    if url := os.environ.get("VCLONE_TEST_DATABASE_URL"):
        yield url
        return
    # A database per test is some three hundred files: in memory, where there is room, they cost a fraction.
    has_room = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MEMORY_BYTES
    folder = MEMORY if has_room else tmp_path_factory.getbasetemp()
    with (
        tempfile.TemporaryDirectory(prefix="vclone-tests-", dir=folder) as parent,
        started(start_postgres, Path(parent) / "data") as service,
    ):
        yield service.url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey of the session's own, or the one named by VCLONE_TEST_REDIS_URL."""
    if url := os.environ.get("VCLONE_TEST_REDIS_URL"):
        yield url
        return
    with started(start_valkey, tmp_path_factory.mktemp("valkey")) as service:
        yield service.url


@contextmanager
def started(start: Callable[..., Service], data_dir: Path) -> Iterator[Service]:
    """Run a server for tests: nothing it keeps survives them, so nothing is forced to disk."""
    run_dir = make_run_dir(os.environ)
    service = start(data_dir, run_dir, is_durable=False)
    try:
        yield service
    finally:
        service.stop()
        remove_run_dir(run_dir)


@pytest.fixture(scope="session")
async def template_database(postgres_url: str) -> AsyncIterator[str]:
    """A migrated database that tests are copied from."""
    name = f"vclone_template_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(f"create database {name}")
    base, _, _ = postgres_url.rpartition("/")
    await migrate(f"{base}/{name}")
    yield name
    await admin.execute(f"drop database {name} with (force)")
    await admin.close()


@pytest.fixture
async def database_url(postgres_url: str, template_database: str) -> AsyncIterator[str]:
    """A fresh, migrated database for one test."""
    name = f"vclone_test_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(f"create database {name} template {template_database} strategy file_copy")
    base, _, _ = postgres_url.rpartition("/")
    yield f"{base}/{name}"
    await admin.execute(f"drop database {name} with (force)")
    await admin.close()
