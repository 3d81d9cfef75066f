"""Request ids at the price of a request: `ids.build_id`'s spelling, drawn once a millisecond and then counted."""

from __future__ import annotations

import random
import time
from typing import Final

from vclone_core.ids import ALPHABET, PREFIXES, RANDOM_BITS

_PAIRS: Final = tuple((a + b).encode() for a in ALPHABET for b in ALPHABET)
_PREFIX: Final = f"{PREFIXES['request']}_".encode()
_COUNTED_BITS: Final = 10  # the last pair


class RequestIds:
    """A source of request ids of one process."""

    def __init__(self) -> None:
        # Ids only have to differ: they guard nothing.
        self._random = random.Random()  # noqa: S311
        self._good_until_s = 0.0
        self._head = b""
        self._count = 0

    def next(self) -> bytes:
        """Return a new id."""
        now_s = time.time()
        count = self._count
        if now_s >= self._good_until_s or count == len(_PAIRS):
            unix_ms = int(now_s * 1000)
            self._good_until_s = (unix_ms + 1) / 1000
            number = (unix_ms << RANDOM_BITS | self._random.getrandbits(RANDOM_BITS)) >> _COUNTED_BITS
            self._head = _PREFIX + b"".join([_PAIRS[number >> shift & 1023] for shift in range(80, -1, -10)])
            count = 0
        self._count = count + 1
        return self._head + _PAIRS[count]
