"""A whole platform under builds that mean harm: its edge answers visitors, and another project's build goes live."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.build.test_secrets import PRINTER
from tests.contracts.runners import make_podman
from tests.e2e.whole_platform import VCLONE, Visitors, WholePlatform, running_platform

BOTH, PODMAN = ("process", "podman"), ("podman",)
SECRET = "sk_live/\"51+H&x y'"
LIMIT_S = 10

SCAN = """
import os, socket, sys
targets = [("127.0.0.1", int(port)) for port in os.environ["PORTS"].split(",")]
targets += [("169.254.169.254", 80), (socket.gethostname(), 22), ("10.0.0.1", 443)]
opened = 0
for target in targets:
    try:
        socket.create_connection(target, timeout=2).close()
        opened += 1
        print("open", *target)
    except OSError as error:
        print("closed", *target, error)
sys.exit(9 if not opened else 8)
"""


@dataclass(frozen=True)
class Attack:
    """A build, and how its deployment has to end: by `code`, with `words` in what is said of it."""

    name: str
    command: str
    code: str
    words: str = ""
    files: dict[str, str] = field(default_factory=dict)
    runners: tuple[str, ...] = BOTH


ATTACKS = (
    Attack("forks", "bomb() { bomb | bomb & }; bomb; while :; do :; done", "build_failed", "processes", runners=PODMAN),
    Attack("eats memory", "python3 -c 'x = bytearray(10**9); input()' < /dev/zero", "out_of_memory", "memory"),
    Attack("fills the disk", "exec head -c 2000000000 /dev/zero > file", "build_failed", "disk"),
    Attack("fills the disk with many files", "i=0; while :; do head -c 4000000 /dev/zero > f$i; i=$((i+1)); done",
           "build_failed", "disk", runners=PODMAN),
    Attack("loops", "while :; do :; done", "build_timeout"),
    Attack("floods the log", "yes", "build_timeout"),
    Attack("prints secrets", "python3 print.py; exit 3", "build_failed", files={"print.py": PRINTER}),
    Attack("scans the network", "python3 scan.py", "build_failed", "exit code 9", {"scan.py": SCAN}, PODMAN),
    Attack("plants links", "mkdir dist && ln -s /etc/passwd dist/index.html && ln -s / dist/all", "output_refused",
           "outside"),
)  # fmt: skip


@pytest.fixture(scope="module", params=["process", pytest.param("podman", marks=pytest.mark.podman)])
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholePlatform]:
    if request.param == "podman":
        asyncio.run(make_podman())
    limits = {
        "build_timeout_s": str(LIMIT_S),
        "build_memory_mib": "256",
        "build_processes": "64",
        "build_disk_mib": "64",
        "worker_slots": "3",
    }
    with running_platform(tmp_path_factory.mktemp(request.param), runner=request.param, **limits) as running:
        yield running


def write_site(folder: Path, command: str, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    settings = {"framework": None, "buildCommand": command, "outputDirectory": "dist"}
    (folder / "vercel.json").write_text(json.dumps(settings))
    return folder


HOSTILE = ("eve", "mallory")
NEIGHBOUR = "mkdir dist; for i in 1 2 3; do sleep 0.3; echo $i >> dist/index.html; done"


@pytest.mark.platform
@pytest.mark.timeout(400)
def test_edge_and_neighbours_of_hostile_builds(platform: WholePlatform, tmp_path: Path) -> None:
    """Two hostile builds at a time, one after the other; beside them another project's is built again and again."""
    runner = platform.settings["VCLONE_RUNNER"]
    attacks = [attack for attack in ATTACKS if runner in attack.runners]
    neighbour = write_site(tmp_path / "neighbour", NEIGHBOUR, {"readme.txt": "x"})
    # Database and Redis have sockets of the file system only, which no build sees.
    ports = f"{platform.port},{platform.api_port}"
    for project in HOSTILE:
        platform.ask("deploy", str(neighbour), "--project", project)
        for key, value in (("API_KEY", SECRET), ("PORTS", ports)):
            set_variable(platform, project, key, value)
    welcome = platform.url("welcome")
    built = 0
    with ThreadPoolExecutor(len(HOSTILE)) as pool, Visitors(platform, welcome, "Your platform is") as visitors:
        streams = [
            pool.submit(run_attacks, platform, project, attacks[number :: len(HOSTILE)], tmp_path)
            for number, project in enumerate(HOSTILE)
        ]
        while not all(stream.done() for stream in streams):
            beside = platform.run("deploy", str(neighbour), "--project", "neighbour", "--json", timeout_s=120).json
            assert beside["state"] == "ready", beside
            assert platform.fetch(beside["url"] + "/").text == "1\n2\n3\n"
            built += 1
        ended = {name: result for stream in streams for name, result in stream.result().items()}
    assert built > 2
    assert not visitors.disappointed
    assert visitors.answered > 20
    assert set(ended) == {attack.name for attack in attacks}
    for attack in attacks:
        judge(attack, *ended[attack.name])
    # What was live of the hostile projects stays live.
    for project in HOSTILE:
        assert platform.fetch(platform.url(project)).text == "1\n2\n3\n"


def run_attacks(
    platform: WholePlatform, project: str, attacks: Sequence[Attack], folder: Path
) -> dict[str, tuple[Any, str]]:
    """Deploy each in its turn; return how it ended, and its log."""
    found = {}
    for attack in attacks:
        site = write_site(folder / attack.name.replace(" ", "-"), attack.command, {"readme.txt": "x", **attack.files})
        ended = platform.run("deploy", str(site), "--project", project, "--json", timeout_s=200).json
        found[attack.name] = (ended, platform.run("logs", ended["deployment_id"]).out)
    return found


def judge(attack: Attack, ended: Any, log: str) -> None:
    """Check that it failed with its reason, and that nobody sees what it printed."""
    assert ended["state"] == "failed", (attack.name, log[-2000:])
    failure = ended["failure"]
    assert failure["code"].partition(".")[0] == attack.code, (attack.name, failure)
    assert attack.words in f"{failure['code']} {failure['sentence']}", (attack.name, failure)
    assert "sk_live" not in log and SECRET.encode().hex() not in log
    if attack.name == "prints secrets":
        assert log.count("***") >= 13
    if attack.name == "scans the network":
        assert not re.search(r"\bopen \S+ \d+$", log, re.MULTILINE), log


def set_variable(platform: WholePlatform, project: str, key: str, value: str) -> None:
    done = subprocess.run(
        [*VCLONE, "env", "add", key, "--project", project],
        cwd=platform.home,
        env=platform.environ,
        input=value,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
