"""Fixtures of the contract suites."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.contracts import s3_servers
from tests.contracts.faults import FaultProxy
from tests.contracts.places import STORES, Place

from vclone_core import ObjectStore


def _make_server(name: str, folder: Path) -> s3_servers.Server:
    if name == "moto":
        return s3_servers.Moto()
    if name == "rclone":
        return s3_servers.rclone(folder)
    binary = s3_servers.find_minio()
    if binary is None:
        if os.environ.get("VCLONE_REQUIRE") == "1":
            pytest.fail("no MinIO: set VCLONE_MINIO, or `go install github.com/minio/minio@latest`")
        pytest.skip("no MinIO: set VCLONE_MINIO, or `go install github.com/minio/minio@latest`")
    return s3_servers.minio(folder, binary)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" in metafunc.fixturenames:
        is_wanted = metafunc.definition.get_closest_marker("remote") is None
        names = [name for name, traits in STORES.items() if is_wanted or traits.is_remote]
        # A folder for every change; S3's servers with what else starts processes.
        marks = {"minio": pytest.mark.minio, "moto": pytest.mark.processes, "rclone": pytest.mark.processes}
        marked = [pytest.param(name, marks=marks.get(name, ())) for name in names]
        metafunc.parametrize("place", marked, indirect=True, scope="session")


@pytest.fixture(scope="session")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    name: str = request.param
    folder = tmp_path_factory.mktemp(name) / "objects"
    if name == "folder":
        yield Place(name, STORES[name], f"file://{folder}", folder=folder)
        return
    server = _make_server(name, folder)
    server.start()
    yield Place(name, STORES[name], "s3://vclone-test", server=server)
    server.stop()


@pytest.fixture(scope="session")
async def store(place: Place) -> AsyncIterator[ObjectStore]:
    opened = place.new_store()
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
def prefix() -> str:
    """Start of a test's own keys, so that tests share a bucket."""
    return f"prj_{secrets.token_hex(6)}/"


@pytest.fixture(scope="session")
async def proxied_pair(place: Place) -> AsyncIterator[tuple[FaultProxy, ObjectStore]]:
    assert place.server is not None
    host, _, port = place.server.endpoint.removeprefix("http://").partition(":")
    passing = FaultProxy((host, int(port)))
    await passing.listen()
    opened = place.new_store(endpoint=passing.endpoint, connect_timeout_s=0.5, read_timeout_s=3)
    await opened.start()
    yield passing, opened
    await opened.close()
    await passing.refuse()


@pytest.fixture
async def proxy(proxied_pair: tuple[FaultProxy, ObjectStore]) -> FaultProxy:
    """A proxy in front of the place's server that lets everything through at first, and has no connection yet."""
    passing, _ = proxied_pair
    passing.mend()
    await passing.restart()
    passing.sent_bytes = 0
    return passing


@pytest.fixture
def proxied(proxied_pair: tuple[FaultProxy, ObjectStore], proxy: FaultProxy) -> ObjectStore:
    """A store that reaches its server through `proxy`, with short limits."""
    return proxied_pair[1]
