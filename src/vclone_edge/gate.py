"""Counts open connections, of a front and per client address, and says who may have one more.

How many a front can hold follows from its own descriptors; what an address may have holds for all fronts together.
The counts lie in memory that the fronts share: each writes its own row and adds up everybody's, so no lock is needed.
An IPv6 client counts as its /64, which is what one subscriber has. Addresses share a slot when their hashes meet; at
65,536 slots that is rare, and costs a stranger's headroom, never correctness.
"""

from __future__ import annotations

import mmap
import socket
from array import array

_SLOTS = 65_536


def address_key(address: str) -> bytes:
    """Return what an address is counted as: an IPv4 address, or an IPv6 /64."""
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)[:8]
    return socket.inet_pton(socket.AF_INET, address)


class Gate:
    """Made once, before the fronts are forked; each front then calls `enter_as` with its own index."""

    def __init__(self, *, fronts: int, per_address: int, per_front: int) -> None:
        self._fronts = fronts
        self._per_address = per_address
        self._per_front = per_front
        self._total = 0
        memory = mmap.mmap(-1, fronts * _SLOTS * array("H").itemsize)
        self._counts = memoryview(memory).cast("H")
        self._row = 0

    def enter_as(self, index: int) -> None:
        """Take over row `index`, empty: what a dead predecessor held is gone with it."""
        self._total = 0
        self._row = index * _SLOTS
        self._counts[self._row : self._row + _SLOTS] = memoryview(bytes(2 * _SLOTS)).cast("H")

    @property
    def is_crowded(self) -> bool:
        """Whether nine tenths of this front's places are taken."""
        return self._total * 10 >= self._per_front * 9

    def admit(self, address: str) -> tuple[int, str]:
        """Count one more connection of `address`. Returns its slot for `leave`, and why it is refused, or ""."""
        slot = hash(address_key(address)) % _SLOTS
        if self._total >= self._per_front:
            return slot, "all_places_taken"
        if sum(self._counts[row + slot] for row in range(0, self._fronts * _SLOTS, _SLOTS)) >= self._per_address:
            return slot, "too_many_from_address"
        self._counts[self._row + slot] += 1
        self._total += 1
        return slot, ""

    def leave(self, slot: int) -> None:
        """Count one connection less."""
        self._counts[self._row + slot] -= 1
        self._total -= 1
