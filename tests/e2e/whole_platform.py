"""A whole `vclone up` for tests: asked and killed through its real doors, on free ports, in its own folders."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.ports import pick_port

READY_S = 90.0
WriteSite = Callable[..., Path]
VCLONE = (sys.executable, "-m", "vclone_core.cli")


@dataclass(frozen=True)
class Answer:
    """What an HTTP server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class WholePlatform:
    """One `vclone up`. `home` is the HOME of everything here; the data folder lies in it."""

    home: Path
    port: int
    api_port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    @property
    def log_path(self) -> Path:
        return self.home / "up.log"

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VCLONE_", "XDG_"))}
        told = {"HOME": str(self.home), "VCLONE_DATA_DIR": str(self.home / "data")}
        # Tests look more often than people do.
        return {**kept, **told, "VCLONE_API_RATE_FACTOR": "100", **self.settings}

    def start(self) -> float:
        """Run `vclone up` until it says that it is ready; return the seconds that took."""
        began = time.monotonic()
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [*VCLONE, "up", "--port", str(self.port), "--api-port", str(self.api_port)],
                cwd=self.home,
                env=self.environ,
                stdout=log,
                stderr=log,
                text=True,
            )
        while "ready in" not in self.log_path.read_text():
            assert self.process.poll() is None, self.log_path.read_text()
            assert time.monotonic() - began < READY_S, self.all_logs()
            time.sleep(0.05)
        return time.monotonic() - began

    def stop(self) -> int:
        """Press Ctrl-C; return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def run(self, *words: str, cwd: Path | None = None, timeout_s: float = 100, typed: str | None = None) -> Done:
        """Run one `vclone` command to its end; `typed` comes by a pipe."""
        done = subprocess.run(
            [*VCLONE, *words],
            cwd=cwd or self.home,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            input=typed,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def ask(self, *words: str, cwd: Path | None = None) -> Any:
        """Run a command that succeeds, and return the JSON it prints."""
        done = self.run(*words, "--json", cwd=cwd)
        assert done.code == 0, done.err + self.all_logs()
        return done.json

    def fetch(self, url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """GET a URL of a deployment from the edge, whatever its host resolves to."""
        host, _, path = url.removeprefix("http://").partition("/")
        return fetch(self.port, host, f"/{path}", headers)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start one `vclone` command beside the test."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*VCLONE, *words],
            cwd=self.home,
            env=self.environ,
            stdout=pipe,
            stderr=pipe,
            text=True,
            # A suite that runs in the background inherits a SIGINT that is ignored, and so would this command.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def api(self, path: str) -> Any:
        """Return what the API answers to a GET."""
        token = json.loads((self.home / "data/cli.json").read_text())["token"]
        answer = fetch(self.api_port, "127.0.0.1", path, {"Authorization": f"Bearer {token}"})
        assert answer.status == 200, answer.text
        return json.loads(answer.body)

    def newest(self, project: str) -> Mapping[str, Any] | None:
        """Return a project's newest deployment; None while the project is missing."""
        listed = [one for one in self.api("/api/deployments")["items"] if one["project"] == project]
        return listed[0] if listed else None

    def url(self, host: str, path: str = "/") -> str:
        return f"http://{host}.localhost:{self.port}{path}"

    def service_pids(self) -> dict[str, int]:
        """Return the process id of every service, as `vclone status` names them."""
        return {name: service["pid"] for name, service in self.ask("status")["services"].items()}

    def all_logs(self) -> str:
        """Return the ends of all logs, for a failed assertion."""
        paths = [self.log_path, *sorted((self.home / "data/logs").glob("*.log"))]
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in paths if path.exists()
        )


def fetch(port: int, host: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    """GET from a server on 127.0.0.1 with any Host."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Host": host, **(headers or {})})
        response = connection.getresponse()
        body = response.read()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
    finally:
        connection.close()


@contextmanager
def running_platform(home: Path, **settings: str) -> Iterator[WholePlatform]:
    """A platform that runs for as long as the context lasts. `settings` are `VCLONE_*` without the prefix."""
    home.mkdir(parents=True, exist_ok=True)
    variables = {f"VCLONE_{name.upper()}": value for name, value in settings.items()}
    platform = WholePlatform(home, pick_port(), pick_port(), variables)
    try:
        platform.start()
        yield platform
    finally:
        if platform.process is not None and platform.process.poll() is None:
            try:
                platform.stop()
            except subprocess.TimeoutExpired:
                platform.process.kill()
                platform.process.wait()
                raise


def children_of(pid: int) -> list[int]:
    """Return the direct children of a process, in the order of their start."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == pid:
            found.append(int(stat.parent.name))
    return sorted(found)


def descendants_of(pid: int) -> set[int]:
    """Return every process below `pid`."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children_of(waiting.pop()):
            found.add(child)
            waiting.append(child)
    return found


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that ended and was not asked for its end yet doesn't."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


class Door(Protocol):
    """Whatever answers visitors."""

    def fetch(self, url: str) -> Answer: ...


class Visitors:
    """Ask for a page again and again, and keep whatever was not the expected answer."""

    def __init__(self, platform: Door, url: str, expected: str) -> None:
        self._platform, self._url, self._expected = platform, url, expected
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._visit, daemon=True)
        self.answered = 0
        self.disappointed: list[str] = []

    def __enter__(self) -> Visitors:
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _visit(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._platform.fetch(self._url)
                outcome = "" if self._expected in answer.text else f"{answer.status} {answer.text[:200]}"
            except (OSError, http.client.HTTPException) as error:
                outcome = f"{type(error).__name__}: {error}"
            self.answered += 1
            if outcome:
                self.disappointed.append(outcome)
            time.sleep(0.01)


def find_url(text: str) -> str:
    """Return the only line of a command's stdout that is a URL."""
    found = re.findall(r"^http://\S+$", text, re.MULTILINE)
    assert len(found) == 1, text
    return str(found[0])
