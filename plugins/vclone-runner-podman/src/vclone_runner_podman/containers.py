"""What a build's container is made of: limits, drops, mounts, labels. Values in, one dictionary for podman-py out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vclone_core.models import BuildLimits
from vclone_runner_podman.machine import Arrangement
from vclone_runner_podman.options import Options

INSIDE: Final = "/run/vclone"
BUILD_ID: Final = 1000
IDS: Final = 65_536
# Ranges of ids that builds are spread over, so that two at the same time are strangers to each other on the host too.
RANGES: Final = 256
PERIOD_US: Final = 100_000
TMP_BYTES: Final = 512 * 1024**2
MIB: Final = 1024**2
# A process of Node.js has a dozen threads, and the kernel counts those.
TASKS_PER_PROCESS: Final = 8

LABEL_PLATFORM, LABEL_BUILD, LABEL_WORKSPACE = "vclone.platform", "vclone.build", "vclone.workspace"


@dataclass(frozen=True, slots=True)
class Ids:
    """Whose the files of a build are on the host, and how the container's ids are mapped there."""

    owner: int
    mapping: dict[str, Any]


def platform_label(builds_dir: Path) -> str:
    """Return the label that keeps two platforms on one machine from ending each other's builds."""
    return hashlib.sha256(str(builds_dir).encode()).hexdigest()[:16]


def plan_ids(arrangement: Arrangement, options: Options, build_id: str, own_id: int) -> Ids:
    """Return the mapping of a build's ids: away from root and from every account of the host where that is possible."""
    if arrangement.userns == "keep-id":
        return Ids(own_id, {"userns_mode": "keep-id", "user": str(own_id)})
    if arrangement.userns == "host":
        return Ids(BUILD_ID, {"userns_mode": "host", "user": f"{BUILD_ID}:{BUILD_ID}"})
    turn = int.from_bytes(hashlib.sha256(build_id.encode()).digest()[:4], "big") % RANGES
    first = options.first_id + turn * IDS
    row = [{"container_id": 0, "host_id": first, "size": IDS}]
    return Ids(
        first + BUILD_ID,
        {
            "userns_mode": "private",
            "idmappings": {"UIDMap": row, "GIDMap": row},
            "user": f"{BUILD_ID}:{BUILD_ID}",
        },
    )


def plan_container(
    *,
    options: Options,
    arrangement: Arrangement,
    limits: BuildLimits,
    ids: Ids,
    build_id: str,
    workspace: Path,
    control: Path,
) -> dict[str, Any]:
    """Return the arguments of `containers.create`.

    The workspace is at the path it has on the host, and all that can be written to and stays. Secrets are not among
    these: `podman inspect` shows them. The container has no network but loopback, and goes by itself when it ends.
    """
    quota = int(limits.cpus * PERIOD_US)
    runtime = {"runtime": arrangement.runtime} if arrangement.runtime else {}
    return {
        "image": options.image,
        "entrypoint": ["python3"],
        "command": ["-I", "-S", f"{INSIDE}/agent.py"],
        "environment": {},
        "working_dir": "/",
        "hostname": "build",
        "labels": {
            LABEL_PLATFORM: platform_label(workspace.parent),
            LABEL_BUILD: build_id,
            LABEL_WORKSPACE: workspace.name,
        },
        "network_mode": "none",
        "ipc_mode": "private",
        "pid_mode": "private",
        "uts_mode": "private",
        "cap_drop": ["all"],
        "no_new_privileges": True,
        "security_opt": [] if options.selinux else ["disable"],
        "read_only": True,
        "read_write_tmpfs": False,
        "mounts": [
            {"type": "tmpfs", "target": "/tmp", "size": TMP_BYTES, "mode": "1777"},  # noqa: S108
            {"type": "tmpfs", "target": "/var/tmp", "size": TMP_BYTES, "mode": "1777"},  # noqa: S108
            {"type": "tmpfs", "target": "/run", "size": MIB, "mode": "0755"},
            # Images keep root's home closed, and the workspace may lie below it.
            # `propagation` is where podman-py lets a word through: without this one the image's mode is copied.
            {"type": "tmpfs", "target": "/root", "size": MIB, "mode": "0755", "propagation": "notmpcopyup"},
            {"type": "bind", "source": str(control), "target": INSIDE, "read_only": True},
            {"type": "bind", "source": str(workspace), "target": str(workspace)},
            *(
                [{"type": "bind", "source": str(options.ca_bundle), "target": f"{INSIDE}-ca.pem", "read_only": True}]
                if options.ca_bundle
                else []
            ),
        ],
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,
        "pids_limit": limits.processes * TASKS_PER_PROCESS,
        "cpu_period": PERIOD_US,
        "cpu_quota": max(quota, 1000),
        "ulimits": [{"Name": name, "Soft": soft, "Hard": hard} for name, soft, hard in arrangement.ulimits],
        "oom_score_adj": 500,
        "log_config": {"Type": "none"},
        "use_config_proxy": False,
        "auto_remove": True,
        **ids.mapping,
        **runtime,
    }
