"""An edge in its own processes, with the app of `trivial.py`, for one test."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.engine import probes
from tests.ports import pick_port

RUN = Path(__file__).with_name("run_edge.py")


@dataclass
class Edge:
    process: subprocess.Popen[bytes]
    port: int
    tls_port: int
    log: Path
    settings: dict[str, str] = field(default_factory=dict)

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
        return int(json.loads(probes.get(self.port, "/running").body)["streams"])

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
def start_edge(tmp_path: Path, engine: str) -> Iterator[StartEdge]:
    started: list[Edge] = []

    def start(*, descriptors: int = 4096, app: str = "trivial:app", ready: bool = True, **settings: object) -> Edge:
        port, tls_port = pick_port(), pick_port()
        variables = {
            "VCLONE_EDGE_PORT": str(port),
            "VCLONE_EDGE_TLS_PORT": str(tls_port),
            "VCLONE_EDGE_SERVER": engine,
            "EDGE_TEST_APP": app,
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
        edge = Edge(process, port, tls_port, log)
        started.append(edge)
        if ready:
            wait_until(lambda: "worker.ready" in edge.log_text() or process.poll() is not None, 60)
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
LONG = {"test_abuse.py", "test_http3.py", "test_lane.py", "test_life.py", "test_requests.py", "test_tls.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == RUN.parent and item.path.name in LONG:
            item.add_marker(pytest.mark.engine)
