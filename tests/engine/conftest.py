"""An edge in its own processes, with the app of `trivial.py`, for one test."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.engine import probes
from tests.pairs import trusting, write_pair
from tests.ports import pick_port

RUN = Path(__file__).with_name("run_edge.py")
MIB = 1024 * 1024

BOTH_WAYS = pytest.mark.parametrize("is_tls", [False, True], ids=["clear", "tls"])


@dataclass
class Edge:
    """An edge and the way visitors take to it: in the clear, or over TLS where they have something to trust."""

    process: subprocess.Popen[bytes]
    port: int
    tls_port: int
    log: Path
    trusted: ssl.SSLContext | None = None

    def knock(self, source: str = "127.0.0.1") -> socket.socket:
        """Connect to the port that visitors take, and say nothing yet."""
        return probes.connect(self.port if self.trusted is None else self.tls_port, source=source)

    def connect(self, *, alpn: str = "http/1.1", source: str = "127.0.0.1") -> socket.socket:
        sock = self.knock(source)
        return sock if self.trusted is None else probes.wrap(sock, self.trusted, alpn=[alpn])

    def connect_h2(self, *, window: int = MIB, source: str = "127.0.0.1") -> probes.H2Client:
        return probes.H2Client(self.connect(alpn="h2", source=source), window=window)

    def get(self, path: str, *, source: str = "127.0.0.1") -> probes.Answer:
        with self.connect(source=source) as sock:
            sock.sendall(probes.request(path))
            return probes.read_answer(sock)

    def is_served(self, source: str = "127.0.0.2") -> bool:
        """Say whether somebody is."""
        try:
            return self.get("/", source=source).status == 200
        except (OSError, EOFError):
            return False

    @contextmanager
    def unharmed(self, *, memory_bytes: int = 24 * MIB, lines: int = 5) -> Iterator[None]:
        """Fail unless a probe leaves the edge as it was.

        Others are served by it, no request goes on, memory and descriptors are what they were before, and it has
        logged a few lines at most. Whatever the probe has opened is closed first.
        """
        for _ in range(2):
            assert self.get("/stream/1000000", source="127.0.0.2").status == 200
            assert self.is_served()
        wait_until(lambda: self.running() == 0)
        rss_before, descriptors, logged = self.rss(), self.descriptors(), len(self.log_text().splitlines())
        yield
        assert self.is_served()
        probes.close_all()
        wait_until(lambda: self.running() == 0, 20)
        wait_until(lambda: self.descriptors() <= descriptors, 20)
        assert self.rss() - rss_before < memory_bytes
        assert len(self.log_text().splitlines()) - logged <= lines, self.log_text()
        assert self.is_served()

    @property
    def children(self) -> list[int]:
        return descendants(self.process.pid)

    @property
    def workers(self) -> list[int]:
        """The processes that run the app: of granian's workers the lower ones."""
        return [pid for pid in self.children if name_of(pid).startswith("edge-worker") and not children_of(pid)]

    @property
    def fronts(self) -> list[int]:
        return [pid for pid in self.children if name_of(pid).startswith("edge-front")]

    def rss(self) -> int:
        return sum(rss(pid) for pid in [self.process.pid, *self.children])

    def descriptors(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.children if is_alive(pid))

    def running(self) -> int:
        """Return how many requests the app is busy with."""
        return int(json.loads(probes.get(self.port, "/running", source="127.0.0.3").body)["requests"])

    def log_text(self) -> str:
        return self.log.read_text()

    def stop(self, timeout_s: float = 20) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    return [found for child in children_of(pid) for found in (child, *descendants(child))]


def rss(pid: int) -> int:
    """Private and shared resident bytes; 0 for a process that has gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> float:
    """Return how long it took until `condition` held; fail when it never does."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            raise AssertionError(f"not within {timeout_s} s")
        time.sleep(0.02)
    return time.monotonic() - began


StartEdge = Callable[..., Edge]


@pytest.fixture(params=["granian", pytest.param("hypercorn", marks=pytest.mark.hypercorn)])
def engine(request: pytest.FixtureRequest) -> str:
    """Every test that starts an edge runs on each engine."""
    return str(request.param)


@pytest.fixture
def is_tls() -> bool:
    """Whether visitors come over TLS; tests that are for both ways are marked `BOTH_WAYS`."""
    return False


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one pair, for site.localhost."""
    folder = tmp_path_factory.mktemp("certificates")
    write_pair(folder, "default", "site.localhost")
    return folder


@pytest.fixture
def start_edge(tmp_path: Path, engine: str, is_tls: bool, certificates: Path) -> Iterator[StartEdge]:
    started: list[Edge] = []

    def start(*, descriptors: int = 4096, app: str = "trivial:app", ready: bool = True, **settings: object) -> Edge:
        port, tls_port = pick_port(), pick_port()
        variables = {
            "VCLONE_EDGE_PORT": str(port),
            "VCLONE_EDGE_TLS_PORT": str(tls_port),
            "VCLONE_EDGE_SERVER": engine,
            "EDGE_TEST_APP": app,
            **({"VCLONE_EDGE_CERTIFICATES": str(certificates)} if is_tls else {}),
            **{f"VCLONE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        environ = {k: v for k, v in os.environ.items() if not k.startswith("VCLONE_")}
        log = tmp_path / f"edge-{port}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, str(RUN)],
                env={**environ, **variables},
                stdout=out,
                stderr=out,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors)),
            )
        edge = Edge(process, port, tls_port, log, trusting(certificates) if is_tls else None)
        started.append(edge)
        if ready:
            workers = int(settings.get("edge_workers", 1))
            wait_until(lambda: edge.log_text().count("worker.ready") >= workers or process.poll() is not None, 60)
            assert process.poll() is None, edge.log_text()
        return edge

    yield start
    probes.close_all()
    for edge in started:
        if edge.process.poll() is None:
            children = edge.children
            edge.process.kill()
            edge.process.wait()
            wait_until(lambda: not any(is_alive(pid) for pid in children))  # noqa: B023


# These start edges and wait out their limits.
LONG = {
    "test_abuse.py",
    "test_floods.py",
    "test_http3.py",
    "test_http3_limits.py",
    "test_lane.py",
    "test_life.py",
    "test_openings.py",
    "test_requests.py",
    "test_tls.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == RUN.parent and item.path.name in LONG:
            item.add_marker(pytest.mark.engine)
