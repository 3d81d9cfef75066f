"""Request ids at the price of a request: `ids.build_id`'s spelling, made from ready-made pairs of characters."""

from __future__ import annotations

import random
import time
from typing import Final

from vclone_core.ids import ALPHABET, PREFIXES, RANDOM_BITS

_PAIRS: Final = tuple(a + b for a in ALPHABET for b in ALPHABET)
_PREFIX: Final = PREFIXES["request"] + "_"
_DRAWN_BITS: Final = 50  # five pairs, drawn for every id; the other two random bits once a millisecond


class RequestIds:
    """A source of request ids of one process."""

    def __init__(self) -> None:
        # Ids only have to differ: they guard nothing.
        self._random = random.Random()  # noqa: S311
        self._unix_ms = 0
        self._head = ""

    def next(self) -> str:
        """Return a new id."""
        unix_ms = time.time_ns() // 1_000_000
        if unix_ms != self._unix_ms:
            self._unix_ms = unix_ms
            number = (unix_ms << RANDOM_BITS | self._random.getrandbits(RANDOM_BITS)) >> _DRAWN_BITS
            self._head = _PREFIX + "".join(_PAIRS[number >> shift & 1023] for shift in (40, 30, 20, 10, 0))
        drawn = self._random.getrandbits(_DRAWN_BITS)
        p = _PAIRS
        return (
            self._head
            + p[drawn >> 40]
            + p[drawn >> 30 & 1023]
            + p[drawn >> 20 & 1023]
            + p[drawn >> 10 & 1023]
            + p[drawn & 1023]
        )
