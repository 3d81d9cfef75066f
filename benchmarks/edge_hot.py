"""Hot files at the edge: requests a second, and what one request costs the whole server in CPU time.

    python benchmarks/edge_hot.py [--seconds 3] [--rounds 3] [--only edge,nginx] [--store s3://…]

200 files of 1 KiB, asked for in turn, all in memory after the first round. The edge is the real one, its site
resolved from a small stand-in for the API. Beside it, where they are installed: nginx and Caddy, which serve the same
files from a folder, and the edge's engine with an app that answers a constant (`engine`), which is the floor.

CPU time is user + system of the server's process tree, from /proc, divided by the answers that came back 2xx. Load
comes from wrk (HTTP/1.1) and h2load (HTTP/2), on the same machine: rates are comparable with each other only.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import keep_result, print_table

ROOT = Path(__file__).parent.parent
FILES, FILE_BYTES = 200, 1024
HOST = "127.0.0.1"
PROTOCOLS = ("HTTP/1.1", "HTTP/2", "HTTP/2 + TLS")
CONNECTIONS = {"HTTP/1.1": 16, "HTTP/2": 4, "HTTP/2 + TLS": 4}
STREAMS = 50


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs: its process and where it listens. `plain` may differ for HTTP/2 without TLS."""

    pid: int
    plain: int
    clear_h2: int
    secure: int


@dataclass(frozen=True, slots=True)
class Figure:
    """What one measurement gave."""

    per_second: float
    cpu_us: float


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


# The site


def write_files(folder: Path) -> list[str]:
    """Write the files and return their paths on the site."""
    for number in range(FILES):
        head = f"/* file {number} */\n".encode()
        (folder / f"asset-{number:03}.css").write_bytes(head + b"a" * (FILE_BYTES - len(head)))
    return [f"/asset-{number:03}.css" for number in range(FILES)]


def write_certificate(folder: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", folder / "default.key", "-out", folder / "default.crt", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip


async def store_site(store_url: str, files: Path) -> dict[str, Any]:
    """Put the files and their manifest into the object store; return the site as the API would tell it."""
    from vclone_core.models import AliasKind, FileEntry, Manifest, Site
    from vclone_core.plugins import load_plugins
    from vclone_core.rules.manifests import encode_manifest
    from vclone_core.rules.objectkeys import blob_key, manifest_key
    from vclone_core.rules.sites import encode_site
    from vclone_core.settings import load_settings
    from vclone_core.stores.objects import open_object_store

    store = open_object_store(load_settings({}, store=store_url), load_plugins())
    await store.start()
    entries = {}
    for path in sorted(files.iterdir()):
        body = path.read_bytes()
        sha256 = hashlib.sha256(body).hexdigest()
        await store.put(blob_key("prj_bench", sha256), body, size=len(body))
        entries[f"/{path.name}"] = FileEntry(sha256=sha256, size=len(body), type="text/css; charset=utf-8")
    key = manifest_key("prj_bench", "dep_bench")
    manifest = Manifest(deployment_id="dep_bench", project_id="prj_bench", framework=None, files=entries, routes=())
    document = encode_manifest(manifest)
    await store.put(key, document, size=len(document), overwrite=True)
    await store.close()
    return encode_site(
        Site(
            host=HOST,
            project_id="prj_bench",
            deployment_id="dep_bench",
            manifest_key=key,
            kind=AliasKind.PRODUCTION,
            version=1,
        )
    )


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


# The servers


@contextmanager
def running(
    command: list[object], *, ports: tuple[int, int, int], environ: dict[str, str] | None = None
) -> Iterator[Server]:
    """A server process, from when its ports answer until it is told to end."""
    process = subprocess.Popen(
        [str(word) for word in command],
        env={**os.environ, **(environ or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if "BENCH_VERBOSE" not in os.environ else None,
    )
    try:
        deadline = time.monotonic() + 15
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
        urllib.request.urlopen(f"http://{HOST}:{ports[0]}/asset-000.css", timeout=15).close()
        yield Server(process.pid, *ports)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def edge(work: Path, target: str, store_url: str) -> Iterator[Server]:
    plain, secure = free_port(), free_port()
    site = asyncio.run(store_site(store_url, work / "files")) if target.startswith("vclone_edge") else {}
    ApiHandler.site = json.dumps(site).encode()
    api = http.server.ThreadingHTTPServer((HOST, 0), ApiHandler)
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
        "VCLONE_DATA_DIR": str(work / "data"),
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


@contextmanager
def nginx(work: Path) -> Iterator[Server]:
    ports = (free_port(), free_port(), free_port())
    home = work / "nginx"
    home.mkdir(exist_ok=True)
    temporary = "".join(f"{kind}_temp_path {home}/{kind};" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))  # fmt: skip
    (home / "nginx.conf").write_text(
        f"""
        daemon off; worker_processes 1; pid {home}/pid; error_log /dev/null;
        events {{ worker_connections 1024; }}
        http {{
            types {{ text/css css; }} access_log off; sendfile on; tcp_nopush on; etag on; {temporary}
            keepalive_requests 1000000000; http2_max_concurrent_streams 100;
            server {{
                listen {HOST}:{ports[0]}; listen {HOST}:{ports[1]} http2; listen {HOST}:{ports[2]} ssl http2;
                ssl_certificate {work}/certificates/default.crt; ssl_certificate_key {work}/certificates/default.key;
                root {work}/files;
            }}
        }}
        """
    )
    with running(["nginx", "-c", home / "nginx.conf"], ports=ports) as server:
        yield server


@contextmanager
def caddy(work: Path) -> Iterator[Server]:
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


# Measuring


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


def load_h1(port: int, work: Path, seconds: int) -> int:
    script = work / "paths.lua"
    script.write_text(
        f"local n = 0\nfunction request()\n  n = (n + 1) % {FILES}\n"
        '  return wrk.format("GET", string.format("/asset-%03d.css", n))\nend\n'
    )
    words = ["wrk", "-t1", f"-c{CONNECTIONS['HTTP/1.1']}", f"-d{int(seconds)}s", "-s", script, f"http://{HOST}:{port}/"]
    output = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True).stdout
    if failed := re.search(r"(Non-2xx.*|Socket errors.*)", output):
        raise SystemExit(f"wrk: {failed[0]}")
    return int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]


def load_h2(scheme: str, port: int, work: Path, seconds: int) -> int:
    addresses = work / f"addresses-{port}-{scheme}"
    addresses.write_text("".join(f"{scheme}://{HOST}:{port}/asset-{number:03}.css\n" for number in range(FILES)))
    words = ["h2load", f"-c{CONNECTIONS['HTTP/2']}", f"-m{STREAMS}", f"-D{int(seconds)}", "-i", addresses]
    output = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True).stdout
    counts = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
    if counts is None or any(int(count) for count in counts.groups()[1:]):
        raise SystemExit(f"h2load: {output}")
    return int(counts[1])


def measure(server: Server, protocol: str, work: Path, seconds: int) -> Figure:
    loads: dict[str, Callable[[int], int]] = {
        "HTTP/1.1": lambda s: load_h1(server.plain, work, s),
        "HTTP/2": lambda s: load_h2("http", server.clear_h2, work, s),
        "HTTP/2 + TLS": lambda s: load_h2("https", server.secure, work, s),
    }
    load = loads[protocol]
    load(1)
    before, began = cpu_seconds(server.pid), time.monotonic()
    answers = load(seconds)
    took = time.monotonic() - began
    return Figure(answers / took, (cpu_seconds(server.pid) - before) / answers * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="comma-separated: edge, engine, nginx, caddy")
    parser.add_argument("--store", default="", help="object store URL for the edge; default: a temporary folder")
    options = parser.parse_args()
    for program in ("wrk", "h2load", "openssl"):
        if shutil.which(program) is None:
            raise SystemExit(f"This needs {program} (Debian: wrk, nghttp2-client, openssl).")
    only = set(filter(None, options.only.split(",")))
    figures: dict[str, dict[str, list[Figure]]] = {}
    with tempfile.TemporaryDirectory(prefix="vclone-bench-") as name:
        work = Path(name)
        for folder in ("files", "certificates", "data", "objects"):
            (work / folder).mkdir()
        work.chmod(0o755)
        write_files(work / "files")
        write_certificate(work / "certificates")
        store_url = options.store or f"file://{work}/objects"
        servers: dict[str, Callable[[], Any]] = {
            "edge": lambda: edge(work, "vclone_edge.serve:app", store_url),
            "engine": lambda: edge(work, "constant_app:app", store_url),
        }
        if shutil.which("nginx"):
            servers["nginx"] = lambda: nginx(work)
        if find_caddy():
            servers["caddy"] = lambda: caddy(work)
        for _ in range(options.rounds):
            for label, start in servers.items():
                if only and label not in only:
                    continue
                with start() as server:
                    for protocol in PROTOCOLS:
                        figure = measure(server, protocol, work, options.seconds)
                        figures.setdefault(label, {}).setdefault(protocol, []).append(figure)
    middle = {
        label: {
            protocol: Figure(
                statistics.median(figure.per_second for figure in found),
                statistics.median(figure.cpu_us for figure in found),
            )
            for protocol, found in by_protocol.items()
        }
        for label, by_protocol in figures.items()
    }
    rows = [
        [label, *(f"{found[p].cpu_us:.1f} µs, {found[p].per_second:,.0f}/s" for p in PROTOCOLS)]
        for label, found in middle.items()
    ]
    for other in ("nginx", "caddy"):
        if other in middle and "edge" in middle:
            ratios = (middle["edge"][p].cpu_us / middle[other][p].cpu_us for p in PROTOCOLS)
            rows.append([f"edge / {other}", *(f"{ratio:.2f}" for ratio in ratios)])
    print_table(
        f"{FILES} hot files of {FILE_BYTES} bytes: CPU a request, and requests a second "
        f"(median of {options.rounds} rounds of {options.seconds} s)",
        ["server", *PROTOCOLS],
        rows,
    )
    keep_result(
        "edge_hot",
        {
            label: {p: {"cpu_us": round(f.cpu_us, 1), "per_second": round(f.per_second)} for p, f in found.items()}
            for label, found in middle.items()
        },
    )


if __name__ == "__main__":
    main()
