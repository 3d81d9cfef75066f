"""The API as a process of its own, behind hypercorn: event streams, outages, large bodies, and a clean stop."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
import pytest
from pydantic import SecretStr

from vclone_core.models import Failure
from vclone_core.rules.blobframes import CONTENT_TYPE, encode_frame, encode_header
from vclone_core.rules.lifecycle import Event as Happening
from vclone_core.settings import Settings
from vclone_core.stores import buildlogs, queue
from vclone_core.stores.buildlogs import NewLine

from .conftest import EDGE_TOKEN, Api
from .served import PROGRAM, Served, environment, serve

pytestmark = pytest.mark.processes

EDGE = {"Authorization": f"Bearer {EDGE_TOKEN}"}


async def test_a_move_reaches_ten_edges_at_once(api: Api, served: Served) -> None:
    project = await api.project()
    versions: list[int] = []

    async def listen(number: int, ready: asyncio.Queue[None]) -> None:
        async with served.events(f"/internal/v1/events?edge=edge-{number}", **EDGE) as stream:
            hello = await stream.next()
            assert hello is not None and hello.name == "hello"
            ready.put_nowait(None)
            for _ in range(3):  # deployment, branch and production aliases
                move = await stream.next()
                assert move is not None and move.name == "move"
                versions.append(int(move.id))

    ready: asyncio.Queue[None] = asyncio.Queue()
    async with asyncio.timeout(30), asyncio.TaskGroup() as edges:
        for number in range(10):
            edges.create_task(listen(number, ready))
        for _ in range(10):
            await ready.get()
        await api.live(project)
    assert len(set(versions)) == 3 and len(versions) == 30


async def test_what_an_edge_is_told_depends_on_what_it_has_seen(api: Api, served: Served) -> None:
    project = await api.project()
    await api.live(project)
    newest = (await api.platform.db.fetch_one("fetch_versions") or {})["newest"]
    table: list[tuple[str, bool, list[int]]] = [
        ("", False, []),
        ("&after=", False, []),
        (f"&after={newest}", True, []),
        (f"&after={newest - 2}", True, [newest - 1, newest]),
        (f"&after={newest + 5}", False, []),
    ]
    for query, is_complete, replayed in table:
        async with served.events(f"/internal/v1/events?edge=e{query}", **EDGE) as stream:
            hello = await stream.next()
            assert hello is not None
            assert hello.data == f'{{"version":{newest},"complete":{str(is_complete).lower()}}}', query
            for version in replayed:
                move = await stream.next()
                assert move is not None and int(move.id) == version
    async with served.events("/internal/v1/events?edge=e", **EDGE, **{"Last-Event-ID": str(newest - 1)}) as stream:
        await stream.next()
        move = await stream.next()
        assert move is not None and int(move.id) == newest


@pytest.mark.product("B3.2", "B3.3")
async def test_a_promote_comes_back_with_the_edges_receipts(api: Api, served: Served) -> None:
    project = await api.project()
    first = await api.live(project)
    await api.live(project)
    async with served.events("/internal/v1/events?edge=quick", **EDGE) as quick:
        await quick.next()
        async with served.events("/internal/v1/events?edge=dead", **EDGE) as dead:
            await dead.next()
        promoted = asyncio.create_task(api.ask("POST", f"/api/deployments/{first.id}/promote"))
        move = await quick.next()
        assert move is not None
        path = f"{served.url}/internal/v1/edges/quick/acks"
        async with served.http.post(path, json={"version": int(move.id)}, headers=EDGE) as response:
            assert response.status == 204
        _, switch = await promoted
        receipts = {receipt["edge_id"]: receipt["after_ms"] for receipt in switch["receipts"]}
        assert receipts["dead"] is None and receipts["quick"] < 1000


async def test_moves_arrive_without_redis(api: Api) -> None:
    nowhere = api.platform.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    async with serve(nowhere) as served, served.events("/internal/v1/events?edge=e", **EDGE) as stream:
        await stream.next()
        await api.live(await api.project())
        move = await stream.next(timeout_s=5)
        assert move is not None and move.name == "move"


async def test_a_log_is_followed_to_its_end_and_resumed(api: Api, served: Served) -> None:
    token = {"Authorization": f"Bearer {api.callers['owner']}"}
    await api.queued(await api.project())
    claim = await api.claim()
    path = f"/api/deployments/{claim.deployment.id}/logs"

    async def write(*texts: str) -> None:
        lines = [NewLine("build", "stdout", text, datetime.now(UTC)) for text in texts]
        await buildlogs.append(api.platform.db, claim.fence, lines, cap_bytes=10**6)

    await write("one", "two")
    async with served.events(path, **token) as stream:
        events = [await stream.next() for _ in range(3)]
        assert [event and event.name for event in events] == ["state", "line", "line"]
        await write("three <b>\n\x1b[31m")
        line = await stream.next()
        assert line is not None and line.id == "3" and "three" in line.data
        failure = Failure("build_failed", "It broke.", "", "build")
        await queue.finish(api.platform.db, claim, Happening.FAIL, failure=failure)
        rest = await stream.rest()
        assert [event.name for event in rest] == ["state"] and '"state":"failed"' in rest[0].data
    async with served.events(path, **token, **{"Last-Event-ID": "2"}) as stream:
        assert [(event.name, event.id) for event in await stream.rest()] == [("line", "3"), ("state", "3")]


async def test_a_teams_events_are_followed_and_resumed(api: Api, served: Served) -> None:
    token = {"Authorization": f"Bearer {api.callers['owner']}"}
    project = await api.project()
    async with served.events("/api/events", **token) as stream:
        first = await api.live(project)
        events = [await stream.next() for _ in range(3)]
        names = [event.name for event in events if event]
        assert names == ["deployment.created", "deployment.building", "deployment.ready"]
        assert all(event and first.id in event.data for event in events)
    assert events[0] is not None
    await api.live(project)
    async with served.events("/api/events", **token, **{"Last-Event-ID": events[0].id}) as stream:
        rest = [await stream.next() for _ in range(5)]
        assert [event.name for event in rest if event] == [*names[1:], *names]
        ids = [int(event.id) for event in rest if event]
        assert ids == sorted(ids) and ids[0] > int(events[0].id)
    async with served.events("/api/events", Authorization=f"Bearer {api.callers['stranger']}") as stream:
        await api.live(project)
        with pytest.raises(TimeoutError):
            await stream.next(timeout_s=2.5)  # another team's


async def test_a_stop_ends_streams_at_once_and_answers_what_is_under_way(api: Api, served: Served) -> None:
    token = {"Authorization": f"Bearer {api.callers['owner']}"}
    deployment = await api.queued(await api.project())
    async with (
        served.events("/internal/v1/events?edge=e", **EDGE) as moves,
        served.events(f"/api/deployments/{deployment.id}/logs", **token) as log,
    ):
        assert await moves.next() and await log.next()
        started = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert await moves.rest() == [] and await log.rest() == []
        assert await asyncio.wait_for(served.process.wait(), 10) == 0
        assert time.monotonic() - started < 3


async def test_a_taken_port_is_one_sentence(api: Api, served: Served) -> None:
    port = int(served.url.rpartition(":")[2])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        env=environment(api.platform.settings, port),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 5
    assert errors.decode().splitlines()[0] == f"error: Port {port} is taken by another program."


class Wire:
    """A TCP line to the database that can be cut, or go silent."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return urlunsplit(self._target._replace(netloc=f"{self._target.username}@127.0.0.1:{self.port}"))

    def silence(self) -> None:
        self._flows.clear()

    async def cut(self) -> None:
        assert self._server is not None
        self._flows.set()
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = unquote(self._target.hostname or ""), self._target.port
        if host.startswith("/"):
            far_reader, far_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._flows.wait()
                writer.write(data)
        writer.close()


@pytest.fixture
async def wire(api: Api) -> AsyncIterator[tuple[Wire, Settings]]:
    wire = Wire(api.platform.settings.database_url.get_secret_value())
    await wire.open()
    yield wire, api.platform.settings.model_copy(update={"database_url": SecretStr(wire.url)})
    await wire.cut()


async def timed(served: Served, path: str, **headers: str) -> tuple[int, dict[str, Any], float]:
    started = time.monotonic()
    async with served.http.get(served.url + path, headers=headers) as response:
        return response.status, await response.json(content_type=None), time.monotonic() - started


async def test_with_the_database_away_everything_says_so_at_once(api: Api, wire: tuple[Wire, Settings]) -> None:
    line, settings = wire
    token = {"Authorization": f"Bearer {api.callers['owner']}"}
    project = await api.project()
    async with serve(settings) as served, served.events("/internal/v1/events?edge=e", **EDGE) as stream:
        await stream.next()
        assert (await timed(served, "/api/me", **token))[0] == 200
        await line.cut()
        for path, headers in (("/api/me", token), (f"/internal/v1/sites/{project.name}.localhost", EDGE)):
            status, problem, seconds = await timed(served, path, **headers)
            assert (status, problem["code"]) == (503, "unavailable")
            assert seconds < 2
        status, answer, seconds = await timed(served, "/api/ready")
        assert (status, answer["status"], answer["parts"]["database"]["is_up"]) == (503, "unavailable", False)
        assert answer["parts"]["object_store"]["is_up"] and seconds < 2
        assert (await timed(served, "/api/health"))[0] == 200
        await line.open()
        await api.live(project)
        move = await stream.next(timeout_s=10)  # the same stream goes on
        assert move is not None and move.name == "move"
        assert (await timed(served, "/api/me", **token))[0] == 200


async def test_with_the_database_silent_an_edge_is_not_kept_waiting(api: Api, wire: tuple[Wire, Settings]) -> None:
    line, settings = wire
    async with serve(settings) as served:
        line.silence()
        status, problem, seconds = await timed(served, "/internal/v1/sites/x.localhost", **EDGE)
        assert (status, problem["code"]) == (503, "unavailable") and seconds < 3
        status, _, seconds = await timed(served, "/api/ready")
        assert status == 503 and seconds < 3


def memory_bytes(pid: int, name: str) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


async def test_a_large_upload_does_not_pass_through_memory(api: Api, served: Served) -> None:
    project = await api.project()
    block = secrets.token_bytes(1024**2)
    size = 64 * len(block)
    digest = hashlib.sha256()
    for _ in range(64):
        digest.update(block)

    async def body() -> AsyncIterator[bytes]:
        yield encode_header(digest.hexdigest(), size)
        for _ in range(64):
            yield block

    before = memory_bytes(served.process.pid, "VmRSS")
    headers = {"Authorization": f"Bearer {api.callers['owner']}", "content-type": CONTENT_TYPE}
    path = f"{served.url}/api/projects/{project.id}/blobs"
    async with served.http.post(path, data=body(), headers=headers) as response:
        assert (response.status, await response.json()) == (200, {"stored": 1})
    grown = memory_bytes(served.process.pid, "VmHWM") - before
    print(f"64 MiB in one blob: the API's memory grew by {grown / 1024**2:.1f} MiB at most")
    assert grown < 24 * 1024**2


async def test_a_refused_upload_is_answered_and_leaves_nothing_open(api: Api, served: Served) -> None:
    """The client sends 8 MiB that nobody reads: it gets its 401, and the connection does not stay behind."""
    body = encode_frame(secrets.token_bytes(8 * 1024**2))
    path = f"{served.url}/api/projects/x/blobs"
    for _ in range(5):
        async with aiohttp.ClientSession() as http, http.post(path, data=io.BytesIO(body)) as response:
            assert response.status == 401
    async with asyncio.timeout(10):
        while (open_files := len(os.listdir(f"/proc/{served.process.pid}/fd"))) > 40:
            await asyncio.sleep(0.1)
    assert open_files <= 40
