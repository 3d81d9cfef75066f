"""`run.json`: what one `up` runs just now, for `vclone status` and for the start after a `kill -9`."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from vclone_core.embedded.datadir import is_held, read_json, write_private
from vclone_core.embedded.rundirs import remove_run_dir
from vclone_core.errors import AlreadyRunning

REMAINS_S: Final = 12.0  # a little more than orphans are given: see cli/processes.py


@dataclass(frozen=True, slots=True)
class Run:
    """One `up`. `state` is `starting`, `running`, `stopping` or `stopped`; a service has pid, born, state, restarts."""

    state: str
    pid: int
    edge: str
    api: str
    data_dir: str
    run_dir: str
    started_at: float
    services: dict[str, dict[str, Any]]


def write_run(path: Path, run: Run) -> None:
    """Replace what is written of this run."""
    write_private(path, asdict(run), is_synced=False)


def read_status(data_dir: Path) -> dict[str, Any]:
    """Return what `vclone status --json` prints; the run file that a killed `up` left counts as stopped."""
    kept = read_json(data_dir / "run.json") or {}
    is_alive = is_held(data_dir) and bool(kept)
    services = {
        name: {**service, "state": service["state"] if is_alive and is_alive_since(**_born(service)) else "stopped"}
        for name, service in kept.get("services", {}).items()
    }
    return {
        "state": kept["state"] if is_alive else "stopped",
        "edge": kept.get("edge"),
        "api": kept.get("api"),
        "dashboard": kept.get("api"),
        "data_dir": str(data_dir),
        "pid": kept.get("pid") if is_alive else None,
        "services": {name: {k: v for k, v in service.items() if k != "born"} for name, service in services.items()},
    }


def clear_remains(data_dir: Path) -> bool:
    """After a killed `up`: wait until its processes have ended, and remove its sockets' folder; say if there was one.

    They end by themselves at its death, but they and their own children need a moment to give their ports back.
    Raises `AlreadyRunning`.
    """
    kept = read_json(data_dir / "run.json") or {}
    if is_held(data_dir):
        raise AlreadyRunning(path=data_dir, pid=kept.get("pid", "unknown"))
    deadline = time.monotonic() + REMAINS_S
    for service in kept.get("services", {}).values():
        while is_alive_since(**_born(service)) and time.monotonic() < deadline:
            time.sleep(0.02)
    run_dir = Path(kept.get("run_dir", ""))
    if run_dir.name.startswith("vclone-"):
        remove_run_dir(run_dir)
    return bool(kept) and kept.get("state") != "stopped"


def _born(service: dict[str, Any]) -> dict[str, Any]:
    return {"pid": service.get("pid"), "born": service.get("born")}


def is_alive_since(pid: int | None, born: str | None) -> bool:
    """Say whether process `pid` lives and is the one that was `born` then: numbers are given again."""
    return pid is not None and born is not None and born == birth_of(pid)


def birth_of(pid: int) -> str | None:
    """Return when a living process was started, in the kernel's own count; None for one that has ended.

    Systems without /proc get None: there a killed `up` leaves nothing to wait for that could be known for certain.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold anything, also spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
