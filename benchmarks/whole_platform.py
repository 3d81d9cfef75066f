"""The platform as its user feels it: start, deploy, deploy again, and a switch of the live site.

    python benchmarks/whole_platform.py [--promotes 100]

Runs a whole `vclone up` in a temporary folder on free ports, and drives it by its commands. Prints the table of the
README's figures and keeps it in `results/whole_platform.json`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import free_port, keep_result, percentile, print_table

ROOT = Path(__file__).parent.parent
VCLONE = str(ROOT / "vclone")
FILES, TOTAL_BYTES = 1000, 10 * 1024**2
ONE, TWO = b"<!doctype html><title>one</title>first", b"<!doctype html><title>two</title>second"


class Platform:
    """One `vclone up` in a folder, on ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.edge_port, self.api_port = free_port(), free_port()
        self.environ = {**os.environ, "HOME": str(folder / "home"), "VCLONE_DATA_DIR": str(self.data_dir)}
        (folder / "home").mkdir()

    @contextmanager
    def running(self) -> Iterator[float]:
        """Start it, yield the seconds from the command to a ready platform, and stop it."""
        log = (self.data_dir.parent / "up.log").open("a+")
        begin = time.perf_counter()
        process = subprocess.Popen(
            [VCLONE, "up", "--port", str(self.edge_port), "--api-port", str(self.api_port)],
            env=self.environ,
            stdout=log,
            stderr=log,
        )
        try:
            yield self._wait_ready(process, begin)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
            log.close()

    def _wait_ready(self, process: subprocess.Popen[bytes], begin: float) -> float:
        while time.perf_counter() - begin < 120:
            if process.poll() is not None:
                words = (self.data_dir.parent / "up.log").read_text()
                raise SystemExit(f"`vclone up` ended with {process.returncode}:\n{words}")
            try:
                if self.get("welcome.localhost", "/")[0] == 200 and self.answers():
                    return time.perf_counter() - begin
            except OSError:
                pass
            time.sleep(0.01)
        raise SystemExit("`vclone up` was not ready within 120 s")

    def get(self, host: str, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.edge_port, timeout=10)
        try:
            connection.request("GET", path, headers={"Host": f"{host}:{self.edge_port}"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def answers(self) -> bool:
        """Say whether the API does; the edge may serve a site before."""
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=10)
        try:
            connection.request("GET", "/api/health")
            return connection.getresponse().status == 200
        finally:
            connection.close()

    def run(self, *arguments: str) -> tuple[float, dict[str, Any]]:
        """Run one command with `--json`; return its seconds and its answer."""
        begin = time.perf_counter()
        done = subprocess.run(
            [VCLONE, *arguments, "--json"], env=self.environ, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - begin
        if done.returncode != 0:
            raise SystemExit(f"vclone {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return seconds, json.loads(done.stdout)

    @property
    def token(self) -> str:
        return str(json.loads((self.data_dir / "cli.json").read_text())["token"])

    def stored(self) -> set[str]:
        objects = self.data_dir / "objects"
        return {str(path.relative_to(objects)) for path in objects.rglob("*") if path.is_file()}


def write_site(folder: Path) -> None:
    """1,000 files, 10 MB together: text that compresses as pages do, from a fixed seed."""
    generator = random.Random(7)
    words = [f"word{n}" for n in range(2000)]
    size = TOTAL_BYTES // FILES
    for number in range(FILES - 1):
        path = folder / f"section-{number % 20}" / f"page-{number}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = f"<!doctype html><title>{number}</title><p>" + " ".join(generator.choices(words, k=size // 6))
        path.write_text(text[:size])
    (folder / "index.html").write_bytes(ONE)


def time_switches(platform: Platform, host: str, deployments: tuple[str, str], count: int) -> list[float]:
    """Promote the two deployments in turn: milliseconds from each request until a visitor sees its page."""
    visible: list[float] = []
    connection = http.client.HTTPConnection("127.0.0.1", platform.edge_port, timeout=10)
    for number in range(count):
        wanted = number % 2
        url = f"http://127.0.0.1:{platform.api_port}/api/deployments/{deployments[wanted]}/promote"
        begin = time.perf_counter()
        # Another process asks, so that asking and looking do not wait for each other; its start counts as well.
        asking = subprocess.Popen(
            ["curl", "-sf", "-X", "POST", "-H", f"Authorization: Bearer {platform.token}", url],
            stdout=subprocess.DEVNULL,
        )
        while True:
            connection.request("GET", "/", headers={"Host": f"{host}:{platform.edge_port}"})
            if connection.getresponse().read() == (ONE, TWO)[wanted]:
                visible.append((time.perf_counter() - begin) * 1000)
                break
            if time.perf_counter() - begin > 10:
                raise SystemExit(f"switch {number} was not seen within 10 s")
        if asking.wait(30) != 0:
            raise SystemExit(f"promote ended with {asking.returncode}")
    connection.close()
    return visible


def main() -> None:
    parser = argparse.ArgumentParser(description="Time starts, deploys and switches of a whole platform.")
    parser.add_argument("--promotes", type=int, default=100)
    count = parser.parse_args().promotes
    with tempfile.TemporaryDirectory() as name:
        platform = Platform(Path(name))
        site = Path(name) / "site"
        write_site(site)
        with platform.running() as first_s:
            pass
        with platform.running() as second_s:
            deploy_s, one = platform.run("deploy", str(site), "--project", "bench", "--prod")
            before = platform.stored()
            (site / "index.html").write_bytes(TWO)
            again_s, two = platform.run("deploy", str(site), "--project", "bench", "--prod")
            added = sorted(path.split("/", 1)[1] for path in platform.stored() - before)
            visible = time_switches(platform, "bench.localhost", (one["deployment_id"], two["deployment_id"]), count)
    p50_ms, p99_ms = percentile(visible, 0.5), percentile(visible, 0.99)
    print_table(
        "The platform",
        ("figure", "measured", "limit"),
        [
            ("`vclone up`, first start to welcome site and API", f"{first_s:.2f} s", ""),
            ("`vclone up`, second start to welcome site and API", f"{second_s:.2f} s", "3 s"),
            ("1,000 files (10 MB), command to live", f"{deploy_s:.2f} s", "3 s"),
            ("again with one file changed", f"{again_s:.2f} s", "2 s"),
            ("objects stored by that", f"{len(added)}", ""),
            (f"promote to visible, p50 of {count}", f"{p50_ms:.0f} ms", ""),
            (f"promote to visible, p99 of {count}", f"{p99_ms:.0f} ms", "250 ms"),
        ],
    )
    keep_result(
        "whole_platform",
        {
            "first_start_s": first_s,
            "second_start_s": second_s,
            "deploy_1000_files_s": deploy_s,
            "deploy_one_changed_s": again_s,
            "objects_added_by_one_change": added,
            "switch_visible_p50_ms": p50_ms,
            "switch_visible_p99_ms": p99_ms,
        },
    )


if __name__ == "__main__":
    main()
