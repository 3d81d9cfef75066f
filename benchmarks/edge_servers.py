"""The servers of the edge's suite: the edge on a stand-in for the API, nginx, Caddy; and what a process tree costs.

Each is a context manager around real processes on free loopback ports. The stand-in tells every edge of one site.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import free_port

from vclone_core.models import AliasKind, Manifest, Site
from vclone_core.plugins import load_plugins
from vclone_core.protocols import ObjectStore
from vclone_core.rules.manifests import encode_manifest
from vclone_core.rules.objectkeys import manifest_key
from vclone_core.rules.sites import encode_site
from vclone_core.settings import load_settings
from vclone_core.stores.objects import open_object_store

HOST = "127.0.0.1"
PROJECT, DEPLOYMENT = "prj_bench", "dep_bench"
READY = "/asset-000.css"  # every site here has it: what answers it is up


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs: its process and its ports. `clear_h2` is for HTTP/2 without TLS."""

    pid: int
    plain: int
    clear_h2: int
    secure: int


def write_certificate(folder: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", folder / "default.key", "-out", folder / "default.crt", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip


# The edge


def open_store(url: str, keys: Mapping[str, str]) -> ObjectStore:
    return open_object_store(load_settings({}, store=url, **keys), load_plugins())


async def store_manifest(store: ObjectStore, manifest: Manifest) -> dict[str, Any]:
    """Store the manifest of the one deployment here; return its site as the API tells it."""
    key = manifest_key(PROJECT, DEPLOYMENT)
    document = encode_manifest(manifest)
    await store.put(key, document, size=len(document), overwrite=True)
    return encode_site(Site(HOST, PROJECT, DEPLOYMENT, key, AliasKind.PRODUCTION, version=1))


class ApiHandler(http.server.BaseHTTPRequestHandler):
    """Tells edges of one site, and then has no news."""

    site: bytes = b""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "/events" in self.path:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b'event: hello\ndata: {"version": 1, "complete": true}\n\n')
            try:
                while True:
                    self.wfile.flush()
                    time.sleep(2)
                    self.wfile.write(b": here\n\n")
            except OSError:
                self.close_connection = True
            return
        self.send_response(200)
        self.send_header("content-length", str(len(self.site)))
        self.end_headers()
        self.wfile.write(self.site)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def edge(
    work: Path,
    site: Mapping[str, Any],
    store_url: str,
    *,
    target: str = "vclone_edge.serve:app",
    keys: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """An edge of one worker; `target` may name another app, to see what is left without ours."""
    plain, secure = free_port(), free_port()
    api = http.server.ThreadingHTTPServer((HOST, 0), type("Api", (ApiHandler,), {"site": json.dumps(site).encode()}))
    api.daemon_threads = True
    threading.Thread(target=api.serve_forever, daemon=True).start()
    environ = {
        "VCLONE_EDGE_PORT": str(plain),
        "VCLONE_EDGE_TLS_PORT": str(secure),
        "VCLONE_EDGE_CERTIFICATES": str(work / "certificates"),
        "VCLONE_EDGE_H2_PRIOR_KNOWLEDGE": "true",
        "VCLONE_EDGE_TOKEN": "bench",
        "VCLONE_API_URL": f"http://{HOST}:{api.server_address[1]}",
        "VCLONE_STORE": store_url,
        **{f"VCLONE_{name.upper()}": value for name, value in (keys or {}).items()},
        "VCLONE_DATA_DIR": str(work / f"data-{plain}"),
        "VCLONE_LOG_LEVEL": "warning",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])),
    }
    code = (
        "import os, sys; from vclone_core.settings import load_settings; from vclone_edge.serve import main;"
        f"sys.exit(main(load_settings(os.environ), target={target!r}))"
    )
    try:
        with running([sys.executable, "-c", code], ports=(plain, plain, secure), environ=environ) as server:
            yield server
    finally:
        api.shutdown()
        api.server_close()


# The others


@contextmanager
def nginx(work: Path, inside: str = "") -> Iterator[Server]:
    """nginx with one worker on the files in `work/files`, or with `inside` in its server block."""
    ports = (free_port(), free_port(), free_port())
    home = work / f"nginx-{ports[0]}"
    home.mkdir()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {home}/{kind};" for kind in kinds)
    (home / "nginx.conf").write_text(
        f"""
        daemon off; worker_processes 1; pid {home}/pid; error_log /dev/null;
        events {{ worker_connections 1024; }}
        http {{
            types {{ text/css css; }} access_log off; sendfile on; tcp_nopush on; etag on; {temporary}
            keepalive_requests 1000000000; http2_max_concurrent_streams 100;
            proxy_http_version 1.1; proxy_set_header Connection ""; proxy_max_temp_file_size 0;
            server {{
                listen {HOST}:{ports[0]}; listen {HOST}:{ports[1]} http2; listen {HOST}:{ports[2]} ssl http2;
                ssl_certificate {work}/certificates/default.crt; ssl_certificate_key {work}/certificates/default.key;
                root {work}/files; {inside}
            }}
        }}
        """
    )
    with running(["nginx", "-c", home / "nginx.conf"], ports=ports) as server:
        yield server


@contextmanager
def caddy(work: Path) -> Iterator[Server]:
    """Caddy on the files in `work/files`."""
    plain, secure = free_port(), free_port()
    (work / "Caddyfile").write_text(
        f"""
        {{
            admin off
            auto_https off
            persist_config off
            servers {{
                protocols h1 h2 h2c
            }}
        }}
        http://{HOST}:{plain} {{
            root * {work}/files
            file_server
        }}
        https://{HOST}:{secure} {{
            tls {work}/certificates/default.crt {work}/certificates/default.key
            root * {work}/files
            file_server
        }}
        """
    )
    with running(
        [find_caddy(), "run", "--adapter", "caddyfile", "--config", work / "Caddyfile"],
        ports=(plain, plain, secure),
        environ={"XDG_DATA_HOME": str(work), "XDG_CONFIG_HOME": str(work)},
    ) as server:
        yield server


def find_caddy() -> str | None:
    return shutil.which("caddy") or shutil.which("caddy", path=str(Path.home() / "go/bin"))


@contextmanager
def running(
    command: list[object], *, ports: tuple[int, int, int], environ: dict[str, str] | None = None
) -> Iterator[Server]:
    """A server process, from when it answers until it is told to end."""
    process = subprocess.Popen(
        [str(word) for word in command],
        env={**os.environ, **(environ or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if "BENCH_VERBOSE" not in os.environ else None,
    )
    try:
        deadline = time.monotonic() + 30
        for port in set(ports):
            while True:
                try:
                    socket.create_connection((HOST, port), timeout=1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise
                    time.sleep(0.05)
        # A port that is open may still have nobody behind it.
        urllib.request.urlopen(f"http://{HOST}:{ports[0]}{READY}", timeout=30).close()
        yield Server(process.pid, *ports)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# What a process and all below it cost


def process_tree(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += process_tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all below it, so far."""
    ticks = 0
    for member in process_tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rsplit(") ", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """Resident memory of a process and all below it, what they share counted once."""
    total = 0
    for member in process_tree(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024
