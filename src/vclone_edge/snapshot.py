"""What an edge knows of hosts, on disk: with it a restarted edge serves every known site while the API is away."""

from __future__ import annotations

import asyncio
import json
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
LIMIT_BYTES: Final = 256 * 1024**2  # 100,000 sites are about 30 MiB.

log = get_log(__name__)


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


def load_snapshot(path: Path, cache: DomainCache, unix_s: float) -> int | None:
    """Fill the cache from disk and return the event version it stands for; None: there is no usable snapshot.

    A site that can't be read is left out; a file that can't be read is ignored, with an alarm in the log.
    """
    content = read_checked(path, limit_bytes=LIMIT_BYTES)
    if content is None:
        return None
    try:
        first, *lines = content.split(b"\n")
        head = json.loads(first)
        if head["format"] != FORMAT:
            raise Invalid(what=f"it has format {head['format']}")
        # A clock that was set back makes nothing younger than it was.
        away_s = max(0.0, unix_s - float(head["saved_at"]))
        version = head["version"]
        if not (version is None or type(version) is int):
            raise Invalid(what="its version is no number")
    except (KeyError, TypeError, ValueError, Invalid) as error:
        log.error("snapshot.ignored", file=str(path), why=str(error))
        return None
    now_s = cache.clock()
    refused = 0
    for line in lines:
        try:
            raw, age_s = json.loads(line)
            cache.put(decode_site(raw), confirmed_s=now_s - away_s - float(age_s))
        except (Invalid, TypeError, ValueError, RecursionError):
            refused += 1
    log.info("snapshot.loaded", sites=len(cache), refused=refused, away_s=round(away_s, 1))
    return version
