"""HTTP/3: a real client and a real edge, beside either engine."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from aioquic.h3.connection import H3_ALPN, ErrorCode
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from tests.edge.conftest import Platform
from tests.edge.conftest import peer as peer
from tests.edge.conftest import platform as platform
from tests.edge.peer import TOKEN
from tests.engine import probes
from tests.engine.conftest import Edge, StartEdge, name_of, rss
from tests.engine.h3client import Http3Client, open_http3, until
from tests.needs import need_chromium
from tests.ports import pick_port

BASE = "apps.example"
HOST = f"shop.{BASE}"
MIB = 1024 * 1024

# For what the process for HTTP/3 does alone: it is the same beside either engine.
BESIDE_ONE_ENGINE = pytest.mark.parametrize("engine", ["granian"])


def authority(folder: Path) -> str:
    return subprocess.run(
        [sys.executable, "-m", "vclone_core.cli", "tls", "ca", "--data-dir", folder, "--base-domain", BASE],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


async def start(start_edge: StartEdge, folder: Path, *, says: str = "http3.listening", **settings: object) -> Edge:
    edge = await asyncio.to_thread(
        start_edge,
        edge_http3="true",
        edge_certificate_issuer="internal",
        base_domain=BASE,
        data_dir=folder / "data",
        **settings,
    )
    await until(lambda: says in edge.log_text())
    return edge


async def start_platform(start_edge: StartEdge, platform: Platform, **settings: object) -> Edge:
    return await start(
        start_edge,
        platform.folder,
        app="vclone_edge.serve:app",
        api_url=platform.peer.url,
        edge_token=TOKEN,
        store=platform.store_settings["store"],
        **settings,
    )


def quic_process(edge: Edge) -> int:
    (found,) = [pid for pid in edge.children if name_of(pid).startswith("edge-quic")]
    return found


async def running(client: Http3Client) -> int:
    """How many requests the app of `trivial.py` is busy with, in the process for HTTP/3."""
    return int(json.loads((await client.fetch(HOST, "/running")).body)["requests"])


async def until_running(client: Http3Client, count: int) -> None:
    deadline = time.monotonic() + 20
    while await running(client) != count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.product("B12.6")
async def test_sites_are_served_by_http3(start_edge: StartEdge, platform: Platform) -> None:
    large = bytes(range(256)) * 4096
    await platform.publish(HOST, {"/index.html": b"<p>shop", "/large.bin": large})
    await platform.publish(f"blog.{BASE}", {"/index.html": b"<p>blog"})
    edge = await start_platform(start_edge, platform)
    async with open_http3(edge.tls_port, HOST, authority=authority(platform.folder / "data")) as client:
        assert client.leaf() == [BASE, f"*.{BASE}"]
        index = await client.fetch(HOST, "/")
        assert (index.status, bytes(index.body)) == (200, b"<p>shop")
        assert bytes((await client.fetch(f"blog.{BASE}", "/")).body) == b"<p>blog"
        head = await client.fetch(HOST, "/large.bin", method="HEAD")
        assert (head.status, head.headers["content-length"], bytes(head.body)) == (200, str(MIB), b"")
        part = await client.fetch(HOST, "/large.bin", extra=[("range", "bytes=1000-1999")])
        assert (part.status, bytes(part.body)) == (206, large[1000:2000])
        assert bytes((await client.fetch(HOST, "/large.bin")).body) == large
        etag = [("if-none-match", index.headers["etag"])]
        assert (await client.fetch(HOST, "/", extra=etag)).status == 304
        assert (await client.fetch(HOST, "/none")).status == 404
        unknown = await client.fetch(f"nobody.{BASE}", "/")
        assert unknown.status == 404
        assert b"nobody" not in unknown.body
        assert (await client.fetch(HOST, "/", extra=[("host", HOST)])).status == 200
        other = await client.fetch(HOST, "/", extra=[("host", f"blog.{BASE}")])
        assert other.status == 400
        assert (await client.fetch("shop.elsewhere.example", "/")).status == 421
        posted = client.start(HOST, "/", method="POST", end=False)
        client.http.send_data(posted, b"x" * 1000, end_stream=True)
        client.transmit()
        assert (await client.finish(posted)).status == 405


@BESIDE_ONE_ENGINE
@pytest.mark.browser
async def test_chromium_speaks_http3(start_edge: StartEdge, platform: Platform) -> None:
    chromium = need_chromium()
    from playwright.async_api import async_playwright

    large = b"const large = 1; //" + b"x" * (3 * MIB)
    page_of = b"<title>shop</title><link rel=icon href=data:,><script src=/large.js></script>"
    await platform.publish(HOST, {"/index.html": page_of, "/large.js": large})
    edge = await start_platform(start_edge, platform)
    async with open_http3(edge.tls_port, HOST) as client:
        trusted = client.key_digest()
    arguments = [
        "--no-sandbox",
        f"--host-resolver-rules=MAP {HOST} 127.0.0.1",
        f"--origin-to-force-quic-on={HOST}:{edge.tls_port}",
        f"--ignore-certificate-errors-spki-list={trusted}",
    ]
    async with async_playwright() as playwright:
        # The list of trusted keys counts only with a folder of its own.
        browser = await playwright.chromium.launch_persistent_context(
            platform.folder / "chromium", executable_path=chromium, args=arguments
        )
        page = await browser.new_page()
        await page.goto(f"https://{HOST}:{edge.tls_port}/", wait_until="load")
        seen = await page.evaluate(
            "performance.getEntries().filter(e => e.nextHopProtocol).map(e => [e.nextHopProtocol, e.decodedBodySize])"
        )
        assert seen == [["h3", len(page_of)], ["h3", len(large)]]
        assert await page.evaluate("large") == 1
        await browser.close()


async def test_answers_over_tcp_say_where_http3_is(start_edge: StartEdge, platform: Platform) -> None:
    await platform.publish(HOST, {"/index.html": b"<p>shop"})
    edge = await start_platform(start_edge, platform)
    context = ssl.create_default_context(cadata=authority(platform.folder / "data"))

    def ask() -> probes.Answer:
        with probes.connect_tls(edge.tls_port, context, alpn=["http/1.1"], name=HOST) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
            return probes.read_answer(sock)

    said = f'h3=":{edge.tls_port}"; ma=86400'
    for _ in range(2):  # the second is answered from memory
        assert (await asyncio.to_thread(ask)).headers["alt-svc"] == said
    async with open_http3(edge.tls_port, HOST) as client:
        assert (await client.fetch(HOST, "/")).headers["alt-svc"] == said
    assert "alt-svc" not in (await asyncio.to_thread(probes.get, edge.port, "/")).headers


@BESIDE_ONE_ENGINE
async def test_certificates_follow_the_name_a_client_asks_for(start_edge: StartEdge, tmp_path: Path) -> None:
    edge = await start(start_edge, tmp_path)
    for name, served in ((HOST, [BASE, f"*.{BASE}"]), (f"a.b.{BASE}", [f"a.b.{BASE}"]), ("x.example", None)):
        async with open_http3(edge.tls_port, name) as client:
            scope = json.loads((await client.fetch(HOST, "/scope")).body)
            assert client.leaf() == (served or [BASE, f"*.{BASE}"])
        assert (scope["client"], scope["is_tls"], scope["version"]) == ("127.0.0.1", True, "3")


@BESIDE_ONE_ENGINE
async def test_heads_that_are_too_large_are_refused(start_edge: StartEdge, tmp_path: Path) -> None:
    edge = await start(start_edge, tmp_path)
    async with open_http3(edge.tls_port, HOST) as client:
        assert (await client.fetch(HOST, "/", extra=[("x-a", "~" * 40_000)])).status == 431
        assert (await client.fetch(HOST, "/", extra=[(f"x-{number}", "") for number in range(1000)])).status == 431
        assert (await client.fetch(HOST, "/")).status == 200
        answer = await client.fetch(HOST, "/", extra=[(f"x-{letter}", "~" * 40_000) for letter in "abcd"])
        assert answer.status == 0
        await until(lambda: client.closed is not None)
        assert client.closed is not None
        assert client.closed.error_code == ErrorCode.H3_EXCESSIVE_LOAD
    async with open_http3(edge.tls_port, HOST) as client:
        assert (await client.fetch(HOST, "/")).status == 200


@BESIDE_ONE_ENGINE
async def test_nonsense_ends_its_own_connection(start_edge: StartEdge, tmp_path: Path) -> None:
    edge = await start(start_edge, tmp_path)
    chance = random.Random(7)
    async with open_http3(edge.tls_port, HOST) as watcher:
        for _ in range(20):
            async with open_http3(edge.tls_port, HOST) as client:
                for _ in range(10):
                    is_one_way = chance.random() < 0.5
                    kind = chance.choice((0, 1, 3, 4, 5, 7, 13, 0x21))
                    client.send_raw(bytes((kind, chance.randrange(64))) + chance.randbytes(40), one_way=is_one_way)
                with suppress(ConnectionError):  # most are closed by now
                    await client.ping()
        assert (await watcher.fetch(HOST, "/")).status == 200
    assert len(edge.log_text().splitlines()) < 20
    assert "Traceback" not in edge.log_text()


@BESIDE_ONE_ENGINE
async def test_requests_that_no_app_should_see_are_reset(start_edge: StartEdge, tmp_path: Path) -> None:
    edge = await start(start_edge, tmp_path)
    async with open_http3(edge.tls_port, HOST) as client:
        for method, path in (("CONNECT", "/"), ("GET", "/\xff")):
            assert (await client.fetch(HOST, path, method=method)).reset == ErrorCode.H3_MESSAGE_ERROR
        assert (await client.fetch(HOST, "/break")).reset == ErrorCode.H3_INTERNAL_ERROR
        assert (await client.fetch(HOST, "/")).status == 200


@BESIDE_ONE_ENGINE
async def test_readers_that_stop_cost_little_and_end(start_edge: StartEdge, tmp_path: Path) -> None:
    edge = await start(start_edge, tmp_path, edge_stall_s=3)
    async with open_http3(edge.tls_port, HOST) as watcher:
        assert (await watcher.fetch(HOST, "/stream/1048576")).status == 200
        before = rss(quic_process(edge))
        async with open_http3(edge.tls_port, HOST, max_data=65536, max_stream_data=65536) as client:
            client.stop_reading()
            for _ in range(8):
                client.start(HOST, f"/stream/{64 * MIB}")
            await until_running(watcher, 8)
            await asyncio.sleep(1)
            assert rss(quic_process(edge)) - before < 16 * MIB
            await until(lambda: client.closed is not None)
        await until_running(watcher, 0)


@BESIDE_ONE_ENGINE
async def test_downloads_that_are_given_up_are_freed(start_edge: StartEdge, tmp_path: Path) -> None:
    edge = await start(start_edge, tmp_path)
    async with open_http3(edge.tls_port, HOST) as watcher:
        async with open_http3(edge.tls_port, HOST, max_stream_data=65536) as client:
            client.stop_reading()
            numbers = [client.start(HOST, f"/stream/{64 * MIB}") for _ in range(8)]
            await until_running(watcher, 8)
            for number in numbers:
                client.leave(number)
            await until_running(watcher, 0)
            for _ in range(20):
                client.leave_early(HOST, "/")
            client.start(HOST, f"/stream/{64 * MIB}")
            await until_running(watcher, 1)
        await until_running(watcher, 0)
    assert len(edge.log_text().splitlines()) < 20


@BESIDE_ONE_ENGINE
async def test_unread_bodies_stop_their_sender(start_edge: StartEdge, tmp_path: Path) -> None:
    edge = await start(start_edge, tmp_path)
    async with open_http3(edge.tls_port, HOST) as client:
        before = rss(quic_process(edge))
        number = client.start(HOST, "/sleep/3", method="POST", end=False)
        client.http.send_data(number, bytes(32 * MIB), end_stream=True)
        client.transmit()
        assert (await client.fetch(HOST, "/")).status == 200
        assert rss(quic_process(edge)) - before < 8 * MIB
        assert bytes((await client.finish(number)).body) == b"slept"
        read = client.start(HOST, "/read", method="POST", end=False)
        client.http.send_data(read, bytes(4 * MIB), end_stream=True)
        client.transmit()
        assert bytes((await client.finish(read, 60)).body) == str(4 * MIB).encode()


async def test_connections_count_with_those_over_tcp(start_edge: StartEdge, tmp_path: Path) -> None:
    edge = await start(start_edge, tmp_path, edge_connections_per_address=3)
    held = [await asyncio.to_thread(probes.connect, edge.port) for _ in range(2)]
    async with open_http3(edge.tls_port, HOST) as client:
        assert (await client.fetch(HOST, "/")).status == 200
        async with open_http3(edge.tls_port, HOST) as second:
            await until(lambda: second.closed is not None)
        for sock in held:
            sock.close()
    await until(lambda: probes.get(edge.port, "/").status == 200)


@BESIDE_ONE_ENGINE
async def test_many_handshakes_make_clients_show_their_address(start_edge: StartEdge, tmp_path: Path) -> None:
    edge = await start(start_edge, tmp_path)
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, server_name=HOST)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", edge.tls_port))
        for _ in range(100):
            half = QuicConnection(configuration=configuration)
            half.connect(("127.0.0.1", edge.tls_port), now=0)
            for data, _address in half.datagrams_to_send(now=0):
                sock.send(data)
        async with open_http3(edge.tls_port, HOST) as client:
            assert client.retries == 1
            assert (await client.fetch(HOST, "/")).status == 200
    for junk in (b"", b"\xc0", b"\x40" + bytes(50), b"\xc0\x00\x00\x00\x01" + bytes(1400), bytes(1400)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(junk, ("127.0.0.1", edge.tls_port))
    async with open_http3(edge.tls_port, HOST) as client:
        assert (await client.fetch(HOST, "/")).status == 200
    assert len(edge.log_text().splitlines()) < 20


@BESIDE_ONE_ENGINE
async def test_idle_connections_end(start_edge: StartEdge, tmp_path: Path) -> None:
    edge = await start(start_edge, tmp_path, edge_idle_s=2, edge_header_s=1)
    async with open_http3(edge.tls_port, HOST) as client:
        number = client.start(HOST, "/sleep/5")
        assert bytes((await client.finish(number)).body) == b"slept"
        headless = client.begin_head()
        await asyncio.wait_for(client.answers[headless].ended.wait(), 20)
        assert client.answers[headless].reset == ErrorCode.H3_REQUEST_INCOMPLETE
        await until(lambda: client.closed is not None)


async def test_a_stopping_edge_lets_downloads_finish(start_edge: StartEdge, tmp_path: Path) -> None:
    edge = await start(start_edge, tmp_path, edge_drain_s=20)
    async with open_http3(edge.tls_port, HOST) as client:
        number = client.start(HOST, f"/stream/{20 * 65536}/0.1")
        await until(lambda: client.answers[number].status == 200)
        edge.process.terminate()
        answer = await client.finish(number)
        assert len(answer.body) == 20 * 65536
        assert await asyncio.to_thread(edge.process.wait, 20) == 0


@BESIDE_ONE_ENGINE
async def test_a_drain_has_an_end(start_edge: StartEdge, tmp_path: Path) -> None:
    edge = await start(start_edge, tmp_path, edge_drain_s=1)
    async with open_http3(edge.tls_port, HOST) as client:
        number = client.start(HOST, "/stream/655360000/0.1")
        await until(lambda: client.answers[number].status == 200)
        edge.process.terminate()
        assert await asyncio.to_thread(edge.process.wait, 15) == 0
        await until(lambda: client.closed is not None)


@BESIDE_ONE_ENGINE
async def test_a_port_that_is_taken_is_waited_for(start_edge: StartEdge, tmp_path: Path) -> None:
    tls_port = pick_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", tls_port))
        edge = await start(start_edge, tmp_path, says="http3.port_taken", edge_tls_port=tls_port)
        assert (await asyncio.to_thread(probes.get, edge.port, "/")).status == 200
    await until(lambda: "http3.listening" in edge.log_text())
    async with open_http3(tls_port, HOST) as client:
        assert (await client.fetch(HOST, "/")).status == 200


async def test_a_process_that_dies_is_replaced(start_edge: StartEdge, tmp_path: Path) -> None:
    edge = await start(start_edge, tmp_path)
    old = quic_process(edge)
    # The alarm that it puts off every second: so one that doesn't get round to it is replaced, too.
    os.kill(old, signal.SIGALRM)
    await until(lambda: len(re.findall("http3.listening", edge.log_text())) == 2)
    assert quic_process(edge) != old
    async with open_http3(edge.tls_port, HOST) as client:
        assert (await client.fetch(HOST, "/")).status == 200


@BESIDE_ONE_ENGINE
def test_http3_without_tls_is_refused(start_edge: StartEdge) -> None:
    edge = start_edge(edge_http3="true", ready=False)
    assert edge.process.wait(20) != 0
    assert "VCLONE_EDGE_HTTP3: HTTP/3 needs TLS" in edge.log_text()
