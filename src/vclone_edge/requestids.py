"""Request ids at the price of a request: `ids.build_id`'s spelling, made from ready-made pairs of characters."""

from __future__ import annotations

import random
import time
from typing import Final

from vclone_core.ids import ALPHABET, PREFIXES, RANDOM_BITS

_PAIRS: Final = tuple(a + b for a in ALPHABET for b in ALPHABET)
_PREFIX: Final = PREFIXES["request"] + "_"


class RequestIds:
    """A source of request ids of one process."""

    def __init__(self) -> None:
        # Ids only have to differ: they guard nothing.
        self._random = random.Random()  # noqa: S311

    def next(self) -> str:
        """Return a new id."""
        number = (time.time_ns() // 1_000_000 << RANDOM_BITS) | self._random.getrandbits(RANDOM_BITS)
        p = _PAIRS
        return (
            _PREFIX
            + p[number >> 90 & 1023]
            + p[number >> 80 & 1023]
            + p[number >> 70 & 1023]
            + p[number >> 60 & 1023]
            + p[number >> 50 & 1023]
            + p[number >> 40 & 1023]
            + p[number >> 30 & 1023]
            + p[number >> 20 & 1023]
            + p[number >> 10 & 1023]
            + p[number & 1023]
        )
