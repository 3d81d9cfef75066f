"""Large objects from MinIO through the edge, and through nginx's `proxy_pass` from the same server, side by side.

    python benchmarks/edge_stream.py

Prints MiB a second of one client over one connection (median of the rounds), the CPU of the proxy's process tree for a
GiB, and how far its memory grew. Both pass through the whole way: no byte of these objects is cached. Needs nginx, and
MinIO as the contract suite finds it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.server
import json
import os
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_hot import HOST, ApiHandler, Server, cpu_seconds, free_port, process_tree, running
from machine import keep_result, print_table

sys.path.append(str(Path(__file__).parent.parent))  # the contract suite's servers

from tests.contracts import s3_servers

from vclone_core import ObjectStore
from vclone_core.models import AliasKind, FileEntry, Manifest, Site
from vclone_core.plugins import load_plugins
from vclone_core.rules.manifests import encode_manifest
from vclone_core.rules.objectkeys import blob_key, manifest_key
from vclone_core.rules.sites import encode_site
from vclone_core.settings import load_settings
from vclone_core.stores.objects import open_object_store

MIB: Final = 1024**2
SIZES: Final = {"10 MiB": (10 * MIB, 20), "1 GiB": (1024 * MIB, 1)}
READY: Final = "/asset-000.css"  # what `running` waits for


@dataclass(frozen=True)
class Figure:
    """What one measurement gave."""

    mib_per_second: float
    cpu_s_per_gib: float
    growth_mib: float


async def store_site(url: str, work: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Store the objects and their manifest; return the site as the API tells it, and presigned URLs by path."""
    store: ObjectStore = open_object_store(load_settings({}, store=url, **keys()), load_plugins())
    await store.start()
    entries, urls = {}, {}
    for path, size in {READY: 1000, **{f"/{size}.bin": size for size, _ in SIZES.values()}}.items():
        body = work / "body"
        digest = hashlib.sha256()
        with body.open("wb") as file:
            for start in range(0, size, 8 * MIB):
                piece = os.urandom(min(8 * MIB, size - start))
                digest.update(piece)
                file.write(piece)
        sha256 = digest.hexdigest()
        await store.put(blob_key("prj_bench", sha256), body, size=size, sha256=sha256)
        body.unlink()
        entries[path] = FileEntry(sha256, size, "application/octet-stream")
        urls[path] = store.presign(blob_key("prj_bench", sha256), expires_s=3600) or ""
    key = manifest_key("prj_bench", "dep_bench")
    document = encode_manifest(Manifest("dep_bench", "prj_bench", None, entries, ()))
    await store.put(key, document, size=len(document))
    await store.close()
    return encode_site(Site(HOST, "prj_bench", "dep_bench", key, AliasKind.PRODUCTION, 1)), urls


def keys() -> dict[str, str]:
    return {"store_access_key": s3_servers.ACCESS_KEY, "store_secret_key": s3_servers.SECRET_KEY}


@contextmanager
def edge(work: Path, url: str, site: dict[str, Any]) -> Iterator[Server]:
    ApiHandler.site = json.dumps(site).encode()
    api = http.server.ThreadingHTTPServer((HOST, 0), ApiHandler)
    api.daemon_threads = True
    threading.Thread(target=api.serve_forever, daemon=True).start()
    port = free_port()
    environ = {
        "VCLONE_EDGE_PORT": str(port),
        "VCLONE_EDGE_TOKEN": "bench",
        "VCLONE_API_URL": f"http://{HOST}:{api.server_address[1]}",
        "VCLONE_STORE": url,
        **{f"VCLONE_{name.upper()}": value for name, value in keys().items()},
        "VCLONE_DATA_DIR": str(work / "data"),
        "VCLONE_LOG_LEVEL": "warning",
    }
    try:
        with running([sys.executable, "-m", "vclone_edge.serve"], ports=(port,) * 3, environ=environ) as server:
            yield server
    finally:
        api.shutdown()
        api.server_close()


@contextmanager
def nginx(work: Path, urls: dict[str, str]) -> Iterator[Server]:
    port = free_port()
    home = work / "nginx"
    home.mkdir(exist_ok=True)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {home}/{kind};" for kind in kinds)
    places = "".join(f"location = {path} {{ proxy_pass {url}; }}\n" for path, url in urls.items())
    (home / "nginx.conf").write_text(
        f"""
        daemon off; worker_processes 1; pid {home}/pid; error_log /dev/null;
        events {{ worker_connections 1024; }}
        http {{
            access_log off; {temporary} proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_max_temp_file_size 0;
            server {{ listen {HOST}:{port}; {places} }}
        }}
        """
    )
    with running(["nginx", "-c", home / "nginx.conf"], ports=(port,) * 3) as server:
        yield server


class Download:
    """GETs over one connection, read into one buffer."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=60)
        self.buffer = bytearray(MIB)

    def get(self, path: str, size: int) -> None:
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(4096)
        head, _, body = head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{path}: {head[:200]!r}")
        left = size - len(body)
        while left > 0:
            count = self.socket.recv_into(self.buffer, min(left, MIB))
            if not count:
                raise SystemExit(f"{path} ended {left} bytes early")
            left -= count


def memory_mib(pid: int) -> float:
    """Resident memory of a process and all below it, what they share counted once."""
    total = 0
    for member in process_tree(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def measure(server: Server, path: str, size: int, count: int) -> Figure:
    download = Download(server.plain)
    download.get(f"/{10 * MIB}.bin", 10 * MIB)
    before_mib, most_mib, done = memory_mib(server.pid), 0.0, threading.Event()

    def watch() -> None:
        nonlocal most_mib
        while not done.wait(0.1):
            most_mib = max(most_mib, memory_mib(server.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    cpu_s, began = cpu_seconds(server.pid), time.monotonic()
    for _ in range(count):
        download.get(path, size)
    took = time.monotonic() - began
    cpu_s = cpu_seconds(server.pid) - cpu_s
    done.set()
    watcher.join()
    moved_mib = size * count / MIB
    return Figure(moved_mib / took, cpu_s / moved_mib * 1024, max(0.0, most_mib - before_mib))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    binary = s3_servers.find_minio()
    if binary is None or shutil.which("nginx") is None:
        raise SystemExit("This needs nginx and a MinIO binary (VCLONE_MINIO).")
    figures: dict[tuple[str, str], list[Figure]] = {}
    with tempfile.TemporaryDirectory(prefix="vclone-bench-") as name:
        work = Path(name)
        work.chmod(0o755)
        minio = s3_servers.minio(work / "minio", binary)
        minio.start()
        try:
            url = f"s3://bench?endpoint={minio.endpoint}"
            site, urls = asyncio.run(store_site(url, work))
            servers: dict[str, Callable[[], Any]] = {
                "edge": lambda: edge(work, url, site),
                "nginx": lambda: nginx(work, urls),
            }
            for _ in range(options.rounds):
                for label, start in servers.items():
                    with start() as server:
                        for size_label, (size, count) in SIZES.items():
                            figure = measure(server, f"/{size}.bin", size, count)
                            figures.setdefault((label, size_label), []).append(figure)
        finally:
            minio.stop()
    middle = {
        place: Figure(
            statistics.median(figure.mib_per_second for figure in found),
            statistics.median(figure.cpu_s_per_gib for figure in found),
            max(figure.growth_mib for figure in found),
        )
        for place, found in figures.items()
    }
    rows: list[list[str]] = []
    for size_label in SIZES:
        for label in ("edge", "nginx"):
            f = middle[label, size_label]
            rows.append(
                [size_label, label, f"{f.mib_per_second:,.0f}", f"{f.cpu_s_per_gib:.2f}", f"{f.growth_mib:.1f}"]
            )
        ratio = middle["edge", size_label].mib_per_second / middle["nginx", size_label].mib_per_second
        rows.append([size_label, "edge / nginx", f"{ratio:.2f}", "", ""])
    print_table(
        f"Passing through from MinIO (median of {options.rounds} rounds)",
        ["object", "server", "MiB/s", "CPU s a GiB", "memory growth, MiB"],
        rows,
    )
    keep_result(
        "edge_stream",
        {
            f"{label}, {size_label}": {
                "mib_per_second": round(f.mib_per_second),
                "cpu_s_per_gib": round(f.cpu_s_per_gib, 2),
                "growth_mib": round(f.growth_mib, 1),
            }
            for (label, size_label), f in middle.items()
        },
    )


if __name__ == "__main__":
    main()
