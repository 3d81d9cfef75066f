"""What this machine lets containers do, read from /proc and /sys, and how Podman is set up for that."""

from __future__ import annotations

import os
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vclone_runner_podman.options import Options

CAP_SYS_RESOURCE: Final = 24
# Podman itself lowers its limit of processes to 32,768 and can hand on no more; the container's own count is smaller.
OPEN_FILES, TASKS = 65_536, 16_384


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts. `hard_limits` are this process's own of open files and of processes, -1 for none."""

    is_root: bool
    can_raise_limits: bool
    has_cgroup_v2: bool
    has_systemd: bool
    has_runc: bool
    hard_limits: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How containers are made here."""

    runtime: str | None
    cgroup_manager: str
    ulimits: tuple[tuple[str, int, int], ...]
    userns: str


def read_machine() -> Machine:
    """Return the facts of this machine and this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    capabilities = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)
    return Machine(
        is_root=os.geteuid() == 0,
        can_raise_limits=bool(capabilities >> CAP_SYS_RESOURCE & 1),
        has_cgroup_v2=Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        has_systemd=Path("/run/systemd/system").is_dir(),
        has_runc=shutil.which("runc") is not None,
        hard_limits=(resource.getrlimit(resource.RLIMIT_NOFILE)[1], resource.getrlimit(resource.RLIMIT_NPROC)[1]),
    )


def arrange(machine: Machine, options: Options) -> Arrangement:
    """Return how containers are made on `machine`; the operator's options win.

    crun refuses a machine whose controllers are those of cgroups v1 beside a v2 hierarchy, runc takes it. Podman's own
    default limits are above what a process without CAP_SYS_RESOURCE may hand on.
    """
    runtime = options.runtime or ("runc" if machine.has_runc and not machine.has_cgroup_v2 else None)
    wanted = (("nofile", OPEN_FILES), ("nproc", TASKS))
    ulimits = tuple(
        (name, limit, limit)
        for (name, most), hard in zip(wanted, machine.hard_limits, strict=True)
        for limit in [most if machine.can_raise_limits or hard == resource.RLIM_INFINITY else min(most, hard)]
    )
    return Arrangement(
        runtime=runtime,
        cgroup_manager=options.cgroup_manager
        or ("systemd" if machine.has_systemd and machine.has_cgroup_v2 else "cgroupfs"),
        ulimits=options.ulimits or ulimits,
        userns=options.userns or ("private" if machine.is_root else "keep-id"),
    )
