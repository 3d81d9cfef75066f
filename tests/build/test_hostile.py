"""Builds that mean harm: each ends failed with its reason, and the build beside it goes on as if nothing were."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.build.conftest import PLUGINS, Place
from tests.contracts.runners import make_podman, make_runner

from vclone_core.errors import VcloneError
from vclone_core.models import BuildLimits, Manifest, ProjectSettings, Source
from vclone_core.protocols import StoreConfig

MIB = 1024**2
BOTH, PODMAN = ("process", "podman"), ("podman",)


@dataclass(frozen=True)
class Attack:
    """A build command, the limits it runs into, and the error that its deployment shows."""

    name: str
    command: str
    code: str
    words: str
    limits: BuildLimits = field(default_factory=lambda: BuildLimits(wall_clock_s=60))
    runners: tuple[str, ...] = BOTH


ATTACKS = (
    Attack(
        "fork bomb",
        "bomb() { bomb | bomb & }; bomb; while :; do :; done",
        "build_failed",
        "too many processes",
        BuildLimits(wall_clock_s=60, processes=48),
        PODMAN,
    ),
    Attack(
        "memory hog",
        "python3 -c 'x = bytearray(10**9); input()' < /dev/zero",
        "out_of_memory",
        "memory",
        BuildLimits(wall_clock_s=60, memory_bytes=200 * MIB),
    ),
    Attack(
        "child that eats memory, and a parent that hides it",
        "python3 -c 'x = bytearray(10**9)'; exit 3",
        "out_of_memory",
        "memory",
        BuildLimits(wall_clock_s=60, memory_bytes=200 * MIB),
        PODMAN,
    ),
    Attack(
        "many files",
        "i=0; while :; do head -c 4000000 /dev/zero > f$i; i=$((i+1)); done",
        "build_failed",
        "disk limit",
        BuildLimits(wall_clock_s=60, disk_bytes=64 * MIB),
        PODMAN,
    ),
    Attack(
        "one large file",
        "exec head -c 2000000000 /dev/zero > file",
        "build_failed",
        "disk limit",
        BuildLimits(wall_clock_s=60, disk_bytes=16 * MIB),
    ),
    Attack("endless loop", "while :; do :; done", "build_timeout", "4 s", BuildLimits(wall_clock_s=4), PODMAN),
    Attack("sleep", "sleep 1000 & sleep 1000", "build_timeout", "3 s", BuildLimits(wall_clock_s=3)),
    Attack("flood", "yes", "build_timeout", "4 s", BuildLimits(wall_clock_s=4, log_bytes=MIB)),
    Attack("link to the host", "mkdir dist && ln -s /etc/passwd dist/index.html", "output_refused", "outside"),
    Attack("link to a folder", "mkdir dist && ln -s / dist/all", "output_refused", "outside"),
    Attack("the output a link", "ln -s /etc dist", "output_missing", "no output folder"),
    Attack("a device for a file", "mkdir dist && mkfifo dist/index.html", "output_refused", "neither"),
)
CASES = [
    pytest.param(
        attack, runner, id=f"{runner}: {attack.name}", marks=[pytest.mark.podman] if runner == "podman" else []
    )
    for attack in ATTACKS
    for runner in attack.runners
]
NEIGHBOUR = "mkdir dist; for i in 1 2 3 4 5 6; do sleep 0.3; echo $i >> dist/index.html; done"


async def open_place(folder: Path, runner: str) -> Place:
    folder.mkdir()
    objects = PLUGINS.provider("object_stores", "file")(StoreConfig(url=f"file://{folder / 'objects'}"))
    await objects.start()
    made = await make_podman() if runner == "podman" else make_runner(runner)
    return Place(folder, objects, runner=made)


@pytest.fixture
async def places(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Place, Place]]:
    runner = request.getfixturevalue("runner_name")
    # One platform has both: their workspaces lie side by side.
    pair = (await open_place(tmp_path / "hostile", runner), await open_place(tmp_path / "neighbour", runner))
    yield pair
    for place in pair:
        await place.objects.close()


async def deploy(place: Place, command: str, limits: BuildLimits) -> Manifest:
    settings = ProjectSettings(framework="static", build_command=command, output_directory="dist")
    return await place.deploy(Source("upload"), files={"readme.txt": "x"}, settings=settings, limits=limits)


@pytest.mark.parametrize(("attack", "runner_name"), CASES)
async def test_a_hostile_build_fails_with_its_reason_and_harms_nobody(
    attack: Attack, runner_name: str, places: tuple[Place, Place]
) -> None:
    hostile, neighbour = places
    hostile.number = 7  # another deployment than the neighbour's
    beside = asyncio.create_task(deploy(neighbour, NEIGHBOUR, BuildLimits(wall_clock_s=60)))
    with pytest.raises(VcloneError) as caught:
        await deploy(hostile, attack.command, attack.limits)
    told = f"{caught.value.code}: {caught.value.sentence}"
    assert (caught.value.code.partition(".")[0], attack.words in told) == (attack.code, True), told
    page = (await beside).files["/index.html"]
    assert await neighbour.read(page.sha256) == b"1\n2\n3\n4\n5\n6\n"
    assert sum(len(line.text) for line in hostile.lines.lines) < 2 * MIB


@pytest.mark.podman
@pytest.mark.parametrize("runner_name", ["podman"])
async def test_the_build_step_may_be_without_a_network(runner_name: str, places: tuple[Place, Place]) -> None:
    settings = ProjectSettings(
        framework="static",
        install_command="curl -sS http://10.1.2.3/ > install.txt",
        build_command="curl -sS http://10.1.2.3/ > build.txt; mkdir dist; cp *.txt dist",
        output_directory="dist",
        build_network="none",
    )
    place = places[0]
    manifest = await place.deploy(Source("upload"), files={"readme.txt": "x"}, settings=settings)
    said = {name: (await place.read(manifest.files[f"/{name}.txt"].sha256)).decode() for name in ("install", "build")}
    assert "10.1.2.3 (private)" in said["install"]
    assert "this command has no network" in said["build"]
    assert "stderr: vclone: no connection to 10.1.2.3:80: this command has no network" in place.lines.text
