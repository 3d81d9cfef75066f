"""New ids, by this machine's clock and randomness."""

from __future__ import annotations

import secrets
import time

from vclone_core.ids import RANDOM_BITS, build_id


def new_id(kind: str) -> str:
    """Return a new id of `kind` (a key of `ids.PREFIXES`)."""
    return build_id(kind, unix_ms=time.time_ns() // 1_000_000, random=secrets.randbits(RANDOM_BITS))
