"""What the kernel counted of a container: processes, ends for want of memory, refused forks. Version 1 and 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class Counts:
    """`out_of_memory` and `refused_forks` only grow; None of a number: it can't be read here."""

    processes: int | None = None
    out_of_memory: int | None = None
    refused_forks: int | None = None


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The folders of one container's memory and pids controllers. None: it has no own one, so no limit either."""

    memory: Path | None
    pids: Path | None

    @property
    def memory_limit(self) -> int | None:
        """The limit in bytes that is in force; None: none is."""
        return min(
            (
                int(text)
                for folder in _with_parents(self.memory)
                for name in ("memory.max", "memory.limit_in_bytes")
                if (text := _read(folder / name)).isdigit() and int(text) < 1 << 60
            ),
            default=None,
        )

    @property
    def pids_limit(self) -> int | None:
        """The limit of tasks that is in force; None: none is."""
        return min(
            (int(text) for folder in _with_parents(self.pids) if (text := _read(folder / "pids.max")).isdigit()),
            default=None,
        )

    def count(self) -> Counts:
        """Return what was counted so far."""
        listed = _read(self.pids / "cgroup.procs") if self.pids else ""
        return Counts(
            processes=len(listed.split()) if listed else None,
            out_of_memory=_most(self.memory, ("memory.events", "memory.oom_control"), "oom_kill"),
            refused_forks=_most(self.pids, ("pids.events",), "max"),
        )


def find_cgroup(pid: int, root: Path = ROOT) -> Cgroup:
    """Return the cgroup of a process, as /proc shows it here."""
    memory = pids = None
    for line in _read(PROC / str(pid) / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if path == "/":
            continue
        if not controllers:
            unified = next((base for base in (root, root / "unified") if (base / "cgroup.procs").exists()), root)
            folder = unified / path.lstrip("/")
            memory = memory or (folder if (folder / "memory.events").exists() else None)
            pids = pids or (folder if (folder / "pids.events").exists() else None)
        else:
            names = controllers.split(",")
            folder = root / controllers / path.lstrip("/")
            memory = folder if "memory" in names else memory
            pids = folder if "pids" in names else pids
    return Cgroup(memory, pids)


def _with_parents(folder: Path | None) -> list[Path]:
    # Runtimes put the container one below the cgroup that has the limit.
    return [] if folder is None else [folder, folder.parent]


def _most(folder: Path | None, names: tuple[str, ...], key: str) -> int | None:
    found = [
        int(fields[1])
        for place in _with_parents(folder)
        for name in names
        for line in _read(place / name).splitlines()
        if len(fields := line.split()) == 2 and fields[0] == key
    ]
    return max(found, default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
