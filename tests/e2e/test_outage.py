"""R1, R2: everything but the edge goes down under load, by `kill -9`, and no visitor of a known site notices.

The edge runs beside the platform on a listener that is handed to it, as a service manager does: so it can be restarted
without a connection refused. Its objects lie in a real S3 server.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.contracts import s3_servers
from tests.e2e.whole_platform import Answer, Visitors, WholePlatform, WriteSite, fetch, is_alive, running_platform

PARTS = ("api", "worker", "postgres", "valkey")
ASSET = "assets/app.11111a11.js"
READ_LATER = "assets/app.22222b22.js"


class Edge:
    """`vclone edge` on a listener that outlives it."""

    def __init__(self, platform: WholePlatform, home: Path) -> None:
        self.home = home
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        data = platform.home / "data"
        api_url = json.loads((data / "cli.json").read_text())["api_url"]
        token = json.loads((data / "secrets.json").read_text())["edge_token"]
        self.environ = {
            **platform.environ,
            "VCLONE_DATA_DIR": str(home / "data"),
            "VCLONE_API_URL": api_url,
            "VCLONE_EDGE_TOKEN": token,
            "VCLONE_EDGE_PORT": str(self.port),
            "VCLONE_EDGE_DOMAIN_TTL_S": "2",  # So that the outage outlasts it.
            "VCLONE_EDGE_WORKERS": "2",
            "LISTEN_FDS": "1",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # The protocol of service managers: the socket is descriptor 3, and the variable names the process it is for.
        code = (
            f"import os, sys; os.dup2({self.listener.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid());"
            "os.execv(sys.executable, [sys.executable, '-m', 'vclone_edge.serve'])"
        )
        with (self.home / "edge.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                env=self.environ,
                stdout=log,
                stderr=log,
                pass_fds=(self.listener.fileno(),),
            )

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(40)

    def fetch(self, url: str) -> Answer:
        """GET a URL of a deployment, whatever its host resolves to."""
        host, _, path = url.removeprefix("http://").partition("/")
        return fetch(self.port, host, f"/{path}")

    def get(self, host: str, path: str = "/") -> tuple[int, str]:
        answer = fetch(self.port, host, path)
        return answer.status, answer.text

    def try_get(self, host: str, path: str = "/") -> tuple[int, str]:
        try:
            return self.get(host, path)
        except OSError as error:
            return 0, str(error)

    def wait_for(self, host: str, text: str, *, path: str = "/", within_s: float = 30.0) -> None:
        until = time.monotonic() + within_s
        while (found := self.try_get(host, path)) != (200, text):
            assert time.monotonic() < until, (found, self.log)
            time.sleep(0.1)

    @property
    def log(self) -> str:
        return (self.home / "edge.log").read_text()[-8000:]

    @property
    def snapshots(self) -> list[Path]:
        return list((self.home / "data/edge").glob("sites-[0-9]"))

    @property
    def known(self) -> set[str]:
        """The hosts in the snapshots."""
        return {host for path in self.snapshots for host in re.findall(r'"host": "([^"]+)"', path.read_text())}

    @property
    def kept(self) -> int:
        """How many objects are on the edge's disk."""
        return len(list((self.home / "data/edge/objects").glob("[0-9a-f]*")))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.Program]:
    folder = tmp_path_factory.mktemp("store") / "objects"
    binary = s3_servers.find_minio()
    server = s3_servers.minio(folder, binary) if binary else s3_servers.rclone(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, store: s3_servers.Program) -> Iterator[WholePlatform]:
    with running_platform(
        tmp_path_factory.mktemp("platform"),
        store=f"s3://outage?endpoint={store.endpoint}",
        store_access_key=s3_servers.ACCESS_KEY,
        store_secret_key=s3_servers.SECRET_KEY,
    ) as platform:
        yield platform
        assert platform.process is not None
        platform.process.send_signal(signal.SIGCONT)  # Also where a test ended in the middle of the outage.


@pytest.fixture
def edge(platform: WholePlatform, tmp_path: Path) -> Iterator[Edge]:
    edge = Edge(platform, tmp_path)
    edge.start()
    yield edge
    if edge.process is not None and edge.process.poll() is None:
        edge.stop(signal.SIGKILL)
    edge.listener.close()


@pytest.mark.timeout(300)
def test_no_visitor_of_a_known_site_notices_that_all_else_is_down(
    platform: WholePlatform, store: s3_servers.Program, edge: Edge, site: WriteSite
) -> None:
    pages = {}
    for n in range(3):
        host = f"site-{n}.localhost"
        pages[host] = f"page of {host}"
        files = {"index.html": pages[host], ASSET: f"js of {host}", READ_LATER: f"never asked for on {host}"}
        platform.ask("deploy", str(site(f"site-{n}", files)), "--project", f"site-{n}")
        edge.wait_for(host, pages[host])
        edge.wait_for(host, f"js of {host}", path=f"/{ASSET}")
    # Manifest, page and script of each are on disk, and each host in the snapshot of one worker or another.
    until = time.monotonic() + 30
    while edge.kept < 9 or edge.known != set(pages):
        assert time.monotonic() < until, (edge.kept, edge.log)
        time.sleep(0.2)

    visitors = [Visitors(edge, f"http://{host}/", text) for host, text in pages.items()]
    visitors += [Visitors(edge, f"http://{host}/{ASSET}", f"js of {host}") for host in pages]
    pids = platform.service_pids()
    assert platform.process is not None
    with ExitStack() as visiting:
        for visitor in visitors:
            visiting.enter_context(visitor)
        time.sleep(1)
        platform.process.send_signal(signal.SIGSTOP)  # Nobody starts again what is killed now.
        for part in PARTS:
            os.kill(pids[part], signal.SIGKILL)
            time.sleep(0.5)
        store.stop()
        assert not any(is_alive(pids[part]) for part in PARTS)
        time.sleep(4)
        # A restart in the middle of it: what it knows and what is hot comes from its disk.
        edge.stop()
        edge.start()
        time.sleep(6)
    assert [visitor.disappointed[:3] for visitor in visitors] == [[]] * 6, edge.log
    assert sum(visitor.answered for visitor in visitors) > 500
    assert fetch(edge.port, "site-0.localhost", "/").headers["x-vclone-cache"] == "STALE"
    # What is not known, or was never asked for, is an honest error.
    assert edge.get("site-0.localhost", f"/{READ_LATER}")[0] in (503, 504)
    assert edge.get("nobody.localhost")[0] == 503

    # Also after a death without a word, and with a snapshot that was damaged by it.
    edge.stop(signal.SIGKILL)
    edge.start()
    for host, text in pages.items():
        edge.wait_for(host, text)
    edge.stop()
    for snapshot in edge.snapshots:
        snapshot.write_bytes(snapshot.read_bytes()[:-30])
    edge.start()
    assert edge.get("site-0.localhost")[0] == 503
    assert "disk_file.ignored" in edge.log

    # And when all of it is back, everything goes on by itself.
    store.start()
    platform.process.send_signal(signal.SIGCONT)
    edge.wait_for("site-0.localhost", pages["site-0.localhost"], within_s=60)
    folder = site("site-0", {"index.html": "after"})
    until = time.monotonic() + 60
    while platform.run("deploy", str(folder), "--project", "site-0", "--prod").code:
        assert time.monotonic() < until, platform.all_logs()
        time.sleep(1)
    edge.wait_for("site-0.localhost", "after")
