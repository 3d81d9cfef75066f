"""Ports for the servers that tests start."""

from __future__ import annotations

import random
import socket

# Below what the kernel hands to outgoing connections: such a port can't be taken by one between the look and the start.
_RANGE = range(10_000, 30_000)
_random = random.SystemRandom()


def pick_port() -> int:
    """Return a loopback port that nothing listens on just now."""
    while True:
        port = _random.choice(_RANGE)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
