"""Large objects from MinIO through the edge, and through nginx's `proxy_pass` from the same server, side by side.

MiB a second of one client over one connection, the CPU of the proxy's process tree for a GiB, and how far its memory
grew. Both pass through the whole way: no byte of these objects is cached. Needs nginx, and MinIO as the contract suite
finds it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import statistics
import sys
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_servers import (
    DEPLOYMENT,
    HOST,
    PROJECT,
    READY,
    Server,
    cpu_seconds,
    edge,
    memory_mib,
    nginx,
    open_store,
    store_manifest,
    write_certificate,
)
from figures import Figure, Part
from machine import print_table
from plots import draw_bars

sys.path.append(str(Path(__file__).parent.parent))  # the contract suite's servers

from tests.contracts import s3_servers

from vclone_core.models import FileEntry, Manifest
from vclone_core.rules.objectkeys import blob_key

MIB: Final = 1024**2
SIZES: Final = {"10 MiB": (10 * MIB, 20), "1 GiB": (1024 * MIB, 1)}
KEYS: Final = {"store_access_key": s3_servers.ACCESS_KEY, "store_secret_key": s3_servers.SECRET_KEY}


@dataclass(frozen=True, slots=True)
class Stream:
    mib_per_second: float
    cpu_s_per_gib: float
    growth_mib: float


def measure(*, rounds: int, work: Path) -> Part:
    """Measure both sizes; raises SystemExit where a server is missing."""
    binary = s3_servers.find_minio()
    if binary is None or shutil.which("nginx") is None:
        raise SystemExit("This needs nginx and a MinIO binary (VCLONE_MINIO).")
    found: defaultdict[tuple[str, str], list[Stream]] = defaultdict(list)
    work.chmod(0o755)
    (work / "certificates").mkdir()
    write_certificate(work / "certificates")
    minio = s3_servers.minio(work / "minio", binary)
    minio.start()
    try:
        url = f"s3://bench?endpoint={minio.endpoint}"
        site, urls = asyncio.run(store_site(url, work))
        places = "".join(f"location = {path} {{ proxy_pass {url}; }}\n" for path, url in urls.items())
        with ExitStack() as stack:
            servers = {
                "edge": stack.enter_context(edge(work, site, url, keys=KEYS)),
                "nginx": stack.enter_context(nginx(work, places)),
            }
            for _ in range(rounds):
                for size_label, (size, count) in SIZES.items():
                    for label, server in servers.items():
                        found[label, size_label].append(weigh(server, f"/{size}.bin", size, count))
    finally:
        minio.stop()
    return report(found, rounds)


def report(found: dict[tuple[str, str], list[Stream]], rounds: int) -> Part:
    middle = {
        place: Stream(
            statistics.median(stream.mib_per_second for stream in streams),
            statistics.median(stream.cpu_s_per_gib for stream in streams),
            max(stream.growth_mib for stream in streams),
        )
        for place, streams in found.items()
    }
    print_table(
        f"Passing through from MinIO (median of {rounds} rounds, memory's worst)",
        ["object, server", "MiB/s", "CPU s a GiB", "memory growth, MiB"],
        [
            [f"{size}, {label}", f"{m.mib_per_second:,.0f}", f"{m.cpu_s_per_gib:.2f}", f"{m.growth_mib:.1f}"]
            for (label, size), m in middle.items()
        ],
    )
    figures = []
    for size in SIZES:
        pairs = zip(found["edge", size], found["nginx", size], strict=True)
        ratio = statistics.median(ours.mib_per_second / theirs.mib_per_second for ours, theirs in pairs)
        figures.append(Figure(f"{size} from MinIO: throughput against nginx", ratio, "×", least=0.7))
        figures.append(Figure(f"{size} from MinIO: memory growth", middle["edge", size].growth_mib, "MiB", most=32))
    details = {
        f"{label}, {size}": {
            "mib_per_second": round(m.mib_per_second),
            "cpu_s_per_gib": round(m.cpu_s_per_gib, 2),
            "growth_mib": round(m.growth_mib, 1),
        }
        for (label, size), m in middle.items()
    }
    bars = {size: {label: middle[label, size].mib_per_second for label in ("edge", "nginx")} for size in SIZES}
    limits = {size: 0.7 * bars[size]["nginx"] for size in SIZES}
    plot = draw_bars("Passing through from MinIO; the limit is the least", "MiB/s", bars, limits)
    return Part(figures, details, {"edge_stream": plot})


async def store_site(url: str, work: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Store the objects and their manifest; return the site as the API tells it, and presigned URLs by path."""
    store = open_store(url, KEYS)
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
        await store.put(blob_key(PROJECT, sha256), body, size=size, sha256=sha256)
        body.unlink()
        entries[path] = FileEntry(sha256, size, "application/octet-stream")
        urls[path] = store.presign(blob_key(PROJECT, sha256), expires_s=3600) or ""
    site = await store_manifest(store, Manifest(DEPLOYMENT, PROJECT, None, entries, ()))
    await store.close()
    return site, urls


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


def weigh(server: Server, path: str, size: int, count: int) -> Stream:
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
    download.socket.close()
    moved_mib = size * count / MIB
    return Stream(moved_mib / took, cpu_s / moved_mib * 1024, max(0.0, most_mib - before_mib))
