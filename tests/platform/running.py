"""A whole `vclone up` as a test drives it: through its command line and its ports."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ports import pick_port

VCLONE = [sys.executable, "-P", "-m", "vclone_core.cli"]
START_S = 60.0


@dataclass
class RunningUp:
    """One `up` on a data folder and two ports. `prefix` starts commands as another user."""

    data_dir: Path
    home: Path
    prefix: Sequence[str] = ()
    edge_port: int = field(default_factory=pick_port)
    api_port: int = field(default_factory=pick_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VCLONE_", "XDG_"))}
        return {**kept, "HOME": str(self.home), "VCLONE_DATA_DIR": str(self.data_dir)}

    @property
    def output(self) -> str:
        return (self.home / "up.log").read_text()

    def argv(self, *words: str) -> list[str]:
        return [*self.prefix, *VCLONE, *words]

    def begin(self, *options: str, below: Sequence[str] = ()) -> None:
        ports = ("--port", str(self.edge_port), "--api-port", str(self.api_port))
        with (self.home / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*below, *self.argv("up", *ports, *options)], env=self.environ, cwd="/", stdout=log, stderr=log
            )

    def start(self, *options: str, below: Sequence[str] = ()) -> float:
        """Start it; return the seconds until it was ready."""
        began = time.monotonic()
        self.begin(*options, below=below)
        wait_until(lambda: self.status()["state"] == "running" or self.has_ended, START_S)
        assert not self.has_ended, self.output
        return time.monotonic() - began

    @property
    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*words), env=self.environ, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )

    def status(self) -> dict[str, Any]:
        answer = self.run("status", "--json")
        assert answer.returncode == 0, answer.stderr
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def tree(self) -> set[int]:
        """Return the ids of `up` and of everything below it."""
        assert self.process is not None
        return descendants(self.process.pid)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(40)

    def get(self, host: str, path: str = "/") -> tuple[int, bytes]:
        """Ask the edge for a page of `host`."""
        return ask(self.edge_port, host, path)


def ask(port: int, host: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait_until(is_so: Callable[[], object], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)


def descendants(root: int) -> set[int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
    found, fresh = {root}, {root}
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that ended and was not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
