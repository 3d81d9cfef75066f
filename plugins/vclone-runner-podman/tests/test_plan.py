"""What is decided before anything runs: options, the machine's arrangement, a container's arguments, counts read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vclone_core import errors
from vclone_core.models import BuildLimits
from vclone_runner_podman.cgroups import Counts, find_cgroup
from vclone_runner_podman.containers import plan_container, plan_ids
from vclone_runner_podman.machine import Arrangement, Machine, arrange
from vclone_runner_podman.options import Options, parse_options
from vclone_runner_podman.service import plan_service

SERVER = Machine(
    is_root=True,
    can_raise_limits=True,
    has_cgroup_v2=True,
    has_systemd=True,
    has_runc=True,
    hard_limits=(1024, 1024),
)
SANDBOX = replace(SERVER, can_raise_limits=False, has_cgroup_v2=False, has_systemd=False, hard_limits=(20_000, 4096))


@pytest.mark.parametrize(
    ("machine", "options", "expected"),
    [
        (SERVER, {}, (None, "systemd", (65_536, 16_384), "private")),
        (replace(SERVER, is_root=False), {}, (None, "systemd", (65_536, 16_384), "keep-id")),
        (SANDBOX, {}, ("runc", "cgroupfs", (20_000, 4096), "private")),
        (replace(SANDBOX, has_runc=False), {}, (None, "cgroupfs", (20_000, 4096), "private")),
        (
            SANDBOX,
            {"runtime": "crun", "cgroup_manager": "systemd", "ulimits": "nofile=9:9,nproc=8:8", "userns": "host"},
            ("crun", "systemd", (9, 8), "host"),
        ),
    ],
)
def test_the_machine_decides_what_the_operator_leaves_open(
    machine: Machine, options: dict[str, str], expected: tuple[Any, ...]
) -> None:
    made = arrange(machine, parse_options(options))
    assert (made.runtime, made.cgroup_manager, tuple(row[1] for row in made.ulimits), made.userns) == expected


def test_every_wrong_option_is_named() -> None:
    with pytest.raises(errors.BadSettings) as caught:
        parse_options({"imgae": "x", "egress.ports": "all", "first_id": "0", "network": "host"})
    for word in ("'imgae'", "egress.ports 'all'", "first_id '0'", "network 'host'"):
        assert word in caught.value.sentence


def test_an_empty_option_is_none() -> None:
    assert parse_options({"socket": "", "image": "", "ulimits": "", "ca_bundle": ""}) == Options()


ARRANGED = Arrangement("runc", "cgroupfs", (("nofile", 9, 9),), "private")


def plan(**changes: Any) -> dict[str, Any]:
    arrangement = replace(ARRANGED, **changes)
    options = Options()
    return plan_container(
        options=options,
        arrangement=arrangement,
        limits=BuildLimits(memory_bytes=1000, processes=3, cpus=1.5),
        ids=plan_ids(arrangement, options, "dep_x", 1234),
        build_id="dep_x",
        workspace=Path("/data/builds/dep_x-1"),
        control=Path("/data/builds/dep_x-1.podman"),
    )


def test_a_container_has_no_power_no_network_and_limits() -> None:
    made = plan()
    assert (made["cap_drop"], made["no_new_privileges"], made["network_mode"]) == (["all"], True, "none")
    assert (made["read_only"], made["read_write_tmpfs"], made["auto_remove"]) == (True, False, True)
    assert (made["mem_limit"], made["memswap_limit"], made["pids_limit"]) == (1000, 1000, 24)
    assert made["cpu_quota"] / made["cpu_period"] == 1.5
    assert not {"privileged", "devices", "cap_add", "volumes"} & set(made)
    binds = {mount["source"]: mount.get("read_only", False) for mount in made["mounts"] if mount["type"] == "bind"}
    assert binds == {"/data/builds/dep_x-1": False, "/data/builds/dep_x-1.podman": True}


def test_builds_of_root_are_strangers_to_each_other_on_the_host() -> None:
    owners = {plan_ids(ARRANGED, Options(), f"dep_{number}", 0).owner for number in range(20)}
    assert len(owners) > 10
    assert all(1_879_113_728 < owner < 2**31 for owner in owners)


def test_without_a_mapping_the_owner_is_who_runs_it() -> None:
    assert plan(userns="keep-id")["user"] == "1234"
    assert plan_ids(replace(ARRANGED, userns="keep-id"), Options(), "dep_x", 1234).owner == 1234
    assert plan(userns="host")["user"] == "1000:1000"


def test_a_service_hands_its_options_on() -> None:
    command = plan_service(ARRANGED, Path("/run/x.sock"))
    assert command[:5] == ["podman", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]
    assert command[-1] == "unix:///run/x.sock"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize("version", [1, 2])
def test_the_kernels_counts_are_read_in_both_versions(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = {1: "4:memory:/build/a\n3:pids:/build/a\n0::/\n", 2: "0::/build/a/container\n"}[version]
    monkeypatch.setattr("vclone_runner_podman.cgroups.PROC", tmp_path / "proc")
    write(tmp_path / "proc/42", cgroup=lines)
    root = tmp_path / "cgroup"
    if version == 1:
        write(root / "memory/build/a", memory__limit_in_bytes="1000", memory__oom_control="under_oom 0\noom_kill 2\n")
        write(root / "pids/build/a", pids__max="24", pids__events="max 3\n", cgroup__procs="7\n8\n")
    else:
        write(root, cgroup__procs="")
        write(
            root / "build/a", memory__max="1000", pids__max="24", pids__events="max 3\n", memory__events="oom_kill 2\n"
        )
        inner = {"memory__max": "max", "pids__max": "max", "cgroup__procs": "7\n8\n"}
        write(root / "build/a/container", memory__events="oom 0\noom_kill 0\n", pids__events="max 0\n", **inner)
    found = find_cgroup(42, root)
    assert (found.memory_limit, found.pids_limit) == (1000, 24)
    assert found.count() == Counts(processes=2, out_of_memory=2, refused_forks=3)


def test_a_process_without_a_cgroup_has_no_limit(tmp_path: Path) -> None:
    found = find_cgroup(2**30, tmp_path)
    assert (found.memory_limit, found.pids_limit, found.count()) == (None, None, Counts())
