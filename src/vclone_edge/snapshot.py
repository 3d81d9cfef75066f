"""What an edge knows of hosts, on disk: with it a restarted edge serves every known site while the API is away."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vclone_core.errors import Invalid
from vclone_core.log import get_log
from vclone_core.models import Site
from vclone_core.rules.sites import decode_site, encode_site
from vclone_edge.cache import DomainCache
from vclone_edge.diskfiles import read_checked, write_checked

FORMAT: Final = 1
PLACES: Final = 256
LIMIT_BYTES: Final = 256 * 1024**2  # 100,000 sites are about 30 MiB.

log = get_log(__name__)


class Place:
    """Where one process keeps its snapshot, `sites-N`: nobody else's as long as it runs.

    Edges of one data folder know different hosts, by chance; after a restart each takes up what all of them knew.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        self._abandoned: list[Path] = []

    def give_back(self) -> None:
        """Let a later process have the place."""
        os.close(self._lock)

    def find_all(self) -> list[Path]:
        """Return every snapshot in the folder; those of processes that are gone can be removed from then on."""
        paths = sorted(self.path.parent.glob("sites-*[0-9]"))
        self._abandoned = [path for path in paths if path != self.path and _is_free(path)]
        return paths

    def remove_abandoned(self) -> None:
        """Remove what nobody would bring up to date; to be called when this one's holds it."""
        for path in self._abandoned:
            if _is_free(path):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        self._abandoned = []


def claim_place(folder: Path) -> Place:
    """Return the first place that no running process has; raise `OSError` where the folder can't be written."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(PLACES):
        path = folder / f"sites-{number}"
        lock = _lock(path)
        if lock is not None:
            return Place(path, lock)
    raise OSError(f"{PLACES} edges use {folder}")


def _lock(path: Path) -> int | None:
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _is_free(path: Path) -> bool:
    lock = _lock(path)
    if lock is not None:
        os.close(lock)
    return lock is not None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A cache's content as of `version` of the event stream: sites, each with the seconds since it was vouched for."""

    version: int | None
    saved_unix_s: float
    entries: tuple[tuple[Site, float], ...]


def take_snapshot(cache: DomainCache, version: int | None, unix_s: float) -> Snapshot:
    """Return the cache's content; to be called where the cache and `version` agree."""
    return Snapshot(version, unix_s, tuple(cache.entries()))


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return a snapshot as lines of JSON: a head, then a site each, since one long step would hold up every thread."""
    head = {"format": FORMAT, "version": snapshot.version, "saved_at": snapshot.saved_unix_s}
    lines = [json.dumps(head)]
    lines += [json.dumps([encode_site(site), round(age_s, 3)]) for site, age_s in snapshot.entries]
    return "\n".join(lines).encode()


async def save_snapshot(path: Path, snapshot: Snapshot) -> bool:
    """Write a snapshot at once; say whether that worked. A full disk is an alarm in the log and nothing else."""
    try:
        await asyncio.to_thread(lambda: write_checked(path, encode_snapshot(snapshot)))
    except OSError as error:
        log.error("snapshot.unwritable", file=str(path), why=error.strerror)
        return False
    return True


def load_snapshots(paths: Iterable[Path], cache: DomainCache, unix_s: float) -> int | None:
    """Fill the cache from disk and return the event version it stands for; None: every site is to be confirmed.

    Of several snapshots, each a worker's, the oldest version counts: what moved since is told again. A site that can't
    be read is left out; a file that can't be read is ignored, with an alarm in the log.
    """
    found: list[tuple[float, int | None, list[bytes]]] = []
    for path in paths:
        content = read_checked(path, limit_bytes=LIMIT_BYTES)
        if content is None:
            continue
        try:
            first, *lines = content.split(b"\n")
            head = json.loads(first)
            if head["format"] != FORMAT:
                raise Invalid(what=f"it has format {head['format']}")
            version, saved_unix_s = head["version"], float(head["saved_at"])
            if not (version is None or type(version) is int):
                raise Invalid(what="its version is no number")
        except (KeyError, TypeError, ValueError, RecursionError, Invalid) as error:
            log.error("snapshot.ignored", file=str(path), why=str(error))
            continue
        found.append((saved_unix_s, version, lines))
    # The newest last: of a host that two of them know, its entry is the one that stays.
    found.sort(key=lambda one: one[0])
    refused = 0
    for saved_unix_s, _, lines in found:
        # A clock that was set back makes nothing younger than it was.
        refused += _fill(cache, lines, away_s=max(0.0, unix_s - saved_unix_s))
    if found:
        log.info("snapshot.loaded", sites=len(cache), refused=refused, files=len(found))
    versions = [version for _, version, _ in found if version is not None]
    return min(versions, default=None) if len(versions) == len(found) else None


def _fill(cache: DomainCache, lines: Iterable[bytes], *, away_s: float) -> int:
    """Put the sites of one snapshot into the cache; return how many could not be read."""
    now_s = cache.clock()
    refused = 0
    for line in lines:
        try:
            raw, age_s = json.loads(line)
            cache.put(decode_site(raw), confirmed_s=now_s - away_s - float(age_s))
        except (Invalid, TypeError, ValueError, RecursionError):
            refused += 1
    return refused
