"""`VCLONE_RUNNER_OPTIONS` of the podman runner, read once: a wrong or unknown one is said with every other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from vclone_core.errors import BadSettings

DEFAULT_IMAGE: Final = "localhost/vclone-build:1"
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Git over SSH, HTTP, HTTPS. No mail, so that nobody sends spam from a build.
DEFAULT_PORTS: Final = frozenset({22, 80, 443})
# Above what useradd, /etc/subuid and systemd hand out (its containers end at 1,879,048,191).
DEFAULT_FIRST_ID: Final = 1_879_113_728
USERNS: Final = ("private", "keep-id", "host")
ENVIRONMENT: Final = "env."

_ULIMIT: Final = re.compile(r"([a-z]+)=(\d+):(\d+)")


@dataclass(frozen=True, slots=True)
class Egress:
    """Where builds may connect to besides public addresses, and where they may not.

    `allowed` are host names, or `host:port`, that count as the operator's own word whatever their address is. `denied`
    are host names, with those below them, and networks.
    """

    ports: frozenset[int] = DEFAULT_PORTS
    allowed: frozenset[str] = frozenset()
    denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator says about Podman on this machine. None: found out at the start."""

    socket: Path | None = None
    image: str = DEFAULT_IMAGE
    runtime: str | None = None
    cgroup_manager: str | None = None
    ulimits: tuple[tuple[str, int, int], ...] | None = None
    userns: str | None = None
    first_id: int = DEFAULT_FIRST_ID
    selinux: bool = True
    network: bool = True
    egress: Egress = Egress()
    ca_bundle: Path | None = None
    path: str = DEFAULT_PATH
    environment: Mapping[str, str] = field(default_factory=dict)


def parse_options(given: Mapping[str, str]) -> Options:
    """Return the options; raise `BadSettings` that names everything wrong with them."""
    problems = [f"podman has no option {name!r}" for name in given if name not in _NAMES and ENVIRONMENT not in name]

    def pick(name: str, pattern: str, says: str) -> str | None:
        value = given.get(name) or None
        if value is not None and not re.fullmatch(pattern, value):
            problems.append(f"{name} {value!r} is not {says}")
            return None
        return value

    socket = given.get("socket", "").removeprefix("unix://")
    ports = pick("egress.ports", r"\d{1,5}(,\d{1,5})*", "a list of ports")
    denied = _split(given.get("egress.deny", ""))
    problems += [f"egress.deny {item!r} is not a network" for item in denied if "/" in item and not _is_network(item)]
    ulimits = _split(given.get("ulimits", ""))
    problems += [f"ulimits: {item!r} is not NAME=SOFT:HARD" for item in ulimits if not _ULIMIT.fullmatch(item)]
    bundle = Path(given["ca_bundle"]) if given.get("ca_bundle") else None
    if bundle is not None and not bundle.is_file():
        problems.append(f"ca_bundle {bundle} is not a file")
    options = Options(
        socket=Path(socket) if socket else None,
        image=given.get("image") or DEFAULT_IMAGE,
        runtime=given.get("runtime") or None,
        cgroup_manager=pick("cgroup_manager", "systemd|cgroupfs", "systemd or cgroupfs"),
        ulimits=tuple((m[1], int(m[2]), int(m[3])) for m in map(_ULIMIT.fullmatch, ulimits) if m) or None,
        userns=pick("userns", "|".join(USERNS), f"one of {', '.join(USERNS)}"),
        first_id=int(pick("first_id", r"[1-9]\d{4,9}", "a user id above 9999") or DEFAULT_FIRST_ID),
        selinux=pick("selinux", "enable|disable", "enable or disable") != "disable",
        network=pick("network", "egress|none", "egress or none") != "none",
        egress=Egress(
            ports=frozenset(map(int, ports.split(","))) if ports else DEFAULT_PORTS,
            allowed=frozenset(item.lower() for item in _split(given.get("egress.allow", ""))),
            denied=tuple(item.lower() for item in denied),
        ),
        ca_bundle=bundle,
        path=given.get("path") or DEFAULT_PATH,
        environment={
            name.removeprefix(ENVIRONMENT): value for name, value in given.items() if name.startswith(ENVIRONMENT)
        },
    )
    if problems:
        raise BadSettings(problems=f"VCLONE_RUNNER_OPTIONS: {'; '.join(problems)}.")
    return options


_NAMES: Final = {
    "socket", "image", "runtime", "cgroup_manager", "ulimits", "userns", "first_id", "selinux", "network",
    "egress.ports", "egress.allow", "egress.deny", "ca_bundle", "path",
}  # fmt: skip


def _split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True
