"""client, upload, follow: what the CLI makes of servers and networks that misbehave.

The server here stands for no part of vclone: it is the proxy, the crash and the cut cable between CLI and API.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from vclone_core.cli import follow
from vclone_core.cli.client import ApiClient, open_api
from vclone_core.cli.context import PlatformAddress
from vclone_core.cli.folder import hash_files, list_folder
from vclone_core.cli.follow import follow_deployment
from vclone_core.cli.upload import send_missing
from vclone_core.errors import NameTaken, SourceRefused, Unavailable
from vclone_core.renderings import render_problem
from vclone_core.rules.blobframes import FrameDecoder, FramePiece, FrameStart

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[ApiClient]:
    """A server that answers everything with `answer`, and a client for it."""

    async def call(request: web.Request) -> web.StreamResponse:
        return await answer(request)

    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", call)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with open_api(PlatformAddress(f"http://127.0.0.1:{port}", "secret")) as api:
            yield api
    finally:
        await runner.cleanup()


def answering(status: int, body: str, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=body, headers=headers)

    return answer


async def test_nobody_listening_says_how_to_start() -> None:
    async with open_api(PlatformAddress("http://127.0.0.1:1", "")) as api:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1") as caught:
            await api.get("/api/me")
    assert "vclone up" in caught.value.advice


@pytest.mark.parametrize(
    ("status", "body"),
    [(502, "<html>Bad gateway</html>"), (500, ""), (404, "[]"), (400, "null"), (302, ""), (200, "<html>")],
)
async def test_an_answer_that_is_not_the_apis_is_no_crash(status: int, body: str) -> None:
    async with serving(answering(status, body, location="http://127.0.0.1:1/")) as api:
        with pytest.raises(Unavailable, match="The API at") as caught:
            await api.get("/api/me")
    assert "address of a vclone API" in caught.value.advice


async def test_a_problem_is_raised_as_the_error_it_was() -> None:
    problem = render_problem(NameTaken(name="shop"), "req_1")
    async with serving(answering(409, json.dumps(problem))) as api:
        with pytest.raises(NameTaken, match="The name shop is taken") as caught:
            await api.post("/api/projects", {"name": "shop"})
    assert caught.value.exit_code == 5


async def test_the_token_travels_in_the_header_only() -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        return web.json_response({"path": request.path_qs, "authorization": request.headers["authorization"]})

    async with serving(echo) as api:
        assert await api.get("/x", a=1, b=None) == {"path": "/x?a=1", "authorization": "Bearer secret"}


async def test_a_connection_cut_in_an_answer_is_unavailable() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": "100"})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport
        request.transport.abort()
        return response

    async with serving(cut) as api:
        with pytest.raises(Unavailable):
            await api.get("/api/me")


# Following


def line(number: int) -> dict[str, Any]:
    return {"number": number, "step": "build", "stream": "stdout", "text": str(number), "at": ""}


class Builder:
    """A deployment with five lines: its stream is cut after each line, or never says anything."""

    def __init__(self, *, is_mute: bool) -> None:
        self.is_mute = is_mute
        self.streams: list[str] = []
        self.reads = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        after = int(request.headers.get("last-event-id") or request.query.get("after") or 0)
        if request.headers["accept"] == "text/event-stream":
            self.streams.append(request.headers.get("last-event-id", ""))
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            if not self.is_mute and after < 5:
                number = after + 1
                await response.write(
                    f"id: {number}\nevent: line\ndata: {json.dumps(line(number))}\n\nevent: l".encode()
                )
            assert request.transport
            request.transport.abort()
            return response
        if request.path.endswith("/logs"):
            self.reads += 1
            # What is stored runs behind the stream: polling must not skip a line.
            return web.json_response({"items": [line(n) for n in range(after + 1, min(self.reads, 6))]})
        return web.json_response({"id": "dep_1", "state": "ready" if self.reads >= 6 else "building"})


@pytest.mark.parametrize("is_mute", [False, True], ids=["cut streams", "no streams"])
async def test_every_line_is_heard_once_over_bad_connections(is_mute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "POLL_S", 0.01)
    builder = Builder(is_mute=is_mute)
    lines: list[int] = []
    states: list[str] = []
    async with serving(builder) as api:
        final = await follow_deployment(
            api,
            "dep_1",
            on_line=lambda one: lines.append(one["number"]),
            on_state=lambda one: states.append(one["state"]),
        )
    assert final["state"] == "ready"
    assert lines == [1, 2, 3, 4, 5]
    assert states == ["building", "ready"]
    if is_mute:
        assert len(builder.streams) == follow.STREAMS_TRIED
    else:
        assert builder.streams[:3] == ["", "1", "2"]


async def test_an_api_that_stays_silent_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "POLL_S", 0.01)
    monkeypatch.setattr(follow, "PATIENCE_S", 0.2)
    async with open_api(PlatformAddress("http://127.0.0.1:1", "")) as api:
        with pytest.raises(Unavailable):
            await follow_deployment(api, "dep_1", on_line=print, on_state=print)


# Uploading


class Store:
    """Takes uploads; the first `cuts` requests are cut in the middle."""

    def __init__(self, *, has: set[str], cuts: int = 0) -> None:
        self.blobs: dict[str, bytes] = {}
        self.has = has
        self.cuts = cuts
        self.at_once = self.requests = 0
        self.has_two = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/missing"):
            asked = (await request.json())["sha256"]
            return web.json_response({"missing": [one for one in asked if one not in self.has]})
        self.at_once += 1
        self.requests += 1
        if self.at_once == 2:
            self.has_two.set()
        # The first request is answered only when a second is under way.
        await asyncio.wait_for(self.has_two.wait(), 10)
        decoder, name = FrameDecoder(), ""
        try:
            async for piece in request.content.iter_any():
                for event in decoder.feed(piece):
                    if isinstance(event, FrameStart):
                        name = event.sha256
                        self.blobs[name] = b""
                    elif isinstance(event, FramePiece):
                        self.blobs[name] += event.data
                if self.cuts:
                    self.cuts -= 1
                    assert request.transport
                    request.transport.abort()
            decoder.finish()
        finally:
            self.at_once -= 1
        return web.json_response({"stored": 0})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(1200):
        (tmp_path / f"{index:04}.txt").write_text(f"file {index}")
    (tmp_path / "copy.txt").write_text("file 7")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "large.bin").write_bytes(b"x" * 5_000_000)
    return tmp_path


async def send(store: Store, folder: Path) -> tuple[int, int]:
    listing = list_folder(folder)
    async with serving(store) as api:
        return await send_missing(api, "shop", hash_files(listing.files), listing.files)


@pytest.mark.parametrize("cuts", [0, 2], ids=["good line", "cut twice"])
async def test_only_missing_blobs_travel_each_once(folder: Path, cuts: int) -> None:
    known = {hashlib.sha256(f"file {index}".encode()).hexdigest() for index in range(100)}
    store = Store(has=known, cuts=cuts)
    # 1,200 numbered files less the 100 known ones (and the copy of one of them), the empty and the large file.
    assert (await send(store, folder))[0] == 1102
    assert store.requests >= 3
    assert {hashlib.sha256(body).hexdigest() for body in store.blobs.values()} == set(store.blobs)
    assert len(store.blobs) == 1102


async def test_nothing_is_sent_when_nothing_is_missing(folder: Path) -> None:
    everything = {file.sha256 for file in hash_files(list_folder(folder).files)}
    store = Store(has=everything)
    assert await send(store, folder) == (0, 0)
    assert store.requests == 0


async def test_a_file_that_shrinks_meanwhile_is_named(folder: Path) -> None:
    listing = list_folder(folder)
    files = await asyncio.to_thread(hash_files, listing.files)
    (folder / "0042.txt").write_text("")
    async with serving(Store(has=set())) as api:
        with pytest.raises(SourceRefused, match=r"0042\.txt changed"):
            await send_missing(api, "shop", files, listing.files)
