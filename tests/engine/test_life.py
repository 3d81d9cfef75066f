"""Processes of the edge start, die and stop, and visitors don't notice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest
from tests.engine import probes
from tests.engine.conftest import RUN, StartEdge, is_alive, wait_until
from tests.ports import pick_port

MIB = 1024 * 1024


class Load:
    """Visitors with a connection each per request, in threads, until stopped; keeps what went wrong."""

    def __init__(self, port: int, *, threads: int = 4) -> None:
        self._port = port
        self._stop = threading.Event()
        self.served = 0
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._visit) for _ in range(threads)]

    def _visit(self) -> None:
        while not self._stop.is_set():
            try:
                assert probes.get(self._port, "/").status == 200
                self.served += 1
            except (OSError, EOFError) as error:
                self.failures.append(repr(error))
            time.sleep(0.002)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_is_replaced_unnoticed(start_edge: StartEdge, workers: int) -> None:
    edge = start_edge(edge_workers=workers, edge_connections_per_address=1000)
    with Load(edge.port) as load:
        time.sleep(0.3)
        for _ in range(2):
            os.kill(edge.workers[0], signal.SIGKILL)
            ready = edge.log_text().count("worker.ready")
            # A tenth of a second on an idle machine; this suite also has to pass on a busy one.
            wait_until(lambda ready=ready: edge.log_text().count("worker.ready") > ready, 10)
            time.sleep(0.5)
    assert load.served > 50
    assert load.failures == []


def test_a_request_in_hand_is_taken_over_if_it_may_be_run_twice(start_edge: StartEdge) -> None:
    edge = start_edge()
    with probes.connect(edge.port) as sock:
        sock.sendall(probes.request("/sleep/0.5"))
        time.sleep(0.2)
        os.kill(edge.workers[0], signal.SIGKILL)
        assert probes.read_answer(sock).body == b"slept"
    with probes.connect(edge.port) as sock:
        sock.sendall(probes.request("/sleep/0.5", method="POST", extra="content-length: 0\r\n"))
        time.sleep(0.2)
        os.kill(edge.workers[0], signal.SIGKILL)
        with pytest.raises((EOFError, ConnectionError)):
            probes.read_answer(sock)


def test_a_killed_front_is_replaced(start_edge: StartEdge) -> None:
    edge = start_edge(edge_fronts=1)
    (front,) = edge.fronts
    os.kill(front, signal.SIGKILL)
    began = time.monotonic()
    # The listener outlives its front, so that this connection waits and isn't refused.
    assert probes.get(edge.port, "/").status == 200
    assert time.monotonic() - began < 3
    assert edge.fronts != [front]


def test_two_fronts_share_the_work_and_the_count(start_edge: StartEdge) -> None:
    edge = start_edge(edge_fronts=2, edge_workers=2, edge_connections_per_address=30)
    crowd = [probes.connect(edge.port) for _ in range(40)]
    time.sleep(0.3)
    served = 0
    for sock in crowd:
        with suppress(OSError, EOFError):
            sock.sendall(probes.request("/"))
            served += probes.read_answer(sock).status == 200
    assert 30 <= served <= 31
    assert probes.get(edge.port, "/", source="127.0.0.2").status == 200


def test_a_killed_supervisor_takes_all_along(start_edge: StartEdge, engine: str) -> None:
    edge = start_edge(edge_workers=2, edge_fronts=2)
    children = edge.children
    assert len(children) >= (6 if engine == "granian" else 4)
    edge.process.kill()
    edge.process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in children), 3)
    with pytest.raises(ConnectionRefusedError):
        probes.connect(edge.port)
    left = {path.name for path in Path("/dev/shm").glob("vclone-edge-*")}
    again = start_edge()
    assert left - {path.name for path in Path("/dev/shm").glob("vclone-edge-*")}, "the next edge clears up"
    assert again.stop() == 0


def test_a_stop_lets_downloads_finish(start_edge: StartEdge) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True, edge_drain_s=15)
    size = 2 * MIB
    download = probes.connect(edge.port)
    download.sendall(probes.request(f"/stream/{size}/0.05"))
    other = probes.H2Client(probes.connect(edge.port))
    stream = other.start(f"/stream/{size}/0.05")
    idle = probes.connect(edge.port)
    idle.sendall(probes.request("/"))
    assert probes.read_answer(idle).status == 200
    silent = probes.connect(edge.port)
    time.sleep(0.3)
    folders = set(Path("/dev/shm").glob("vclone-edge-*"))
    edge.process.send_signal(signal.SIGTERM)
    time.sleep(0.6)
    with pytest.raises(ConnectionRefusedError):
        probes.connect(edge.port)
    assert probes.read_until_end(idle, 1) == b""
    assert probes.read_until_end(silent, 1) == b""
    assert edge.process.poll() is None
    assert len(probes.read_answer(download).body) == size
    other.pump(10, until=stream)
    assert len(other.streams[stream].body) == size
    assert edge.process.wait(10) == 0
    assert folders - set(Path("/dev/shm").glob("vclone-edge-*"))


def test_a_stop_does_not_wait_for_those_who_never_finish(start_edge: StartEdge) -> None:
    edge = start_edge(edge_h2_prior_knowledge=True, edge_drain_s=2)
    stuck = probes.H2Client(probes.connect(edge.port), window=0)
    stuck.start("/stream/10000000")
    stuck.pump(0.3)
    asleep = probes.connect(edge.port)
    asleep.sendall(probes.request("/stream/300000000"))
    time.sleep(0.3)
    children = edge.children
    began = time.monotonic()
    edge.stop(timeout_s=30)
    assert time.monotonic() - began > 1.5
    assert not any(is_alive(pid) for pid in children)


def test_a_second_signal_is_obeyed_at_once(start_edge: StartEdge) -> None:
    edge = start_edge(edge_drain_s=30)
    asleep = probes.connect(edge.port)
    asleep.sendall(probes.request("/stream/300000000"))
    time.sleep(0.3)
    edge.process.send_signal(signal.SIGINT)
    time.sleep(0.6)
    assert edge.process.poll() is None
    edge.process.send_signal(signal.SIGINT)
    edge.process.wait(15)


def test_a_restart_on_inherited_sockets_drops_nothing(tmp_path: Path) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    port = listener.getsockname()[1]
    code = (
        "import os, runpy; os.dup2(int(os.environ['KEEP']), 3); os.set_inheritable(3, True);"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
        "runpy.run_path(os.environ['RUN'], run_name='__main__')"
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith("VCLONE_")}
    environ |= {"KEEP": str(listener.fileno()), "RUN": str(RUN), "VCLONE_EDGE_PORT": str(pick_port())}
    environ["VCLONE_EDGE_CONNECTIONS_PER_ADDRESS"] = "1000"

    def start(name: str) -> subprocess.Popen[bytes]:
        with (tmp_path / name).open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", code], env=environ, pass_fds=[listener.fileno()], stdout=out, stderr=out
            )
        wait_until(lambda: "worker.ready" in (tmp_path / name).read_text(), 60)
        return process

    old = start("old.log")
    with Load(port) as load:
        time.sleep(0.3)
        new = start("new.log")
        old.send_signal(signal.SIGTERM)
        assert old.wait(20) == 0
        time.sleep(0.3)
    new.send_signal(signal.SIGTERM)
    assert new.wait(20) == 0
    listener.close()
    assert load.served > 50
    assert load.failures == []


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"app": "no_such_module:app"}, "edge.given_up"), ({"app": "trivial:broken_start"}, "edge.given_up")],
    ids=["not_importable", "refuses_to_start"],
)
def test_an_app_that_never_starts_ends_the_edge(start_edge: StartEdge, settings: dict[str, str], word: str) -> None:
    edge = start_edge(ready=False, **settings)
    assert edge.process.wait(45) == 1
    assert word in edge.log_text()


def test_a_taken_port_is_said_so(start_edge: StartEdge, tmp_path: Path) -> None:
    edge = start_edge()
    other = start_edge(ready=False, edge_port=edge.port)
    assert other.process.wait(10) != 0
    assert f"Port {edge.port} is taken" in other.log_text()
    empty = start_edge(ready=False, edge_certificates=tmp_path)
    assert empty.process.wait(10) != 0
    assert "VCLONE_EDGE_CERTIFICATES" in empty.log_text()
