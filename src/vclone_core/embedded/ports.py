"""Whether the ports of `vclone up` can be listened on, asked before anything is started."""

from __future__ import annotations

import errno
import socket
import time

from vclone_core.errors import BadSettings, Forbidden, PortTaken


def check_port(host: str, port: int, option: str, *, patience_s: float = 0.0) -> None:
    """Raise when this program can't listen there; `option` is what chooses another port.

    A port that is taken may come free within `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            _try_port(host, port, option)
        except PortTaken:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _try_port(host: str, port: int, option: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        # Connections of the last run that wait out their time don't count, as they won't for the server.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except OSError as error:
            raise _refusal(error, host, port, option) from error


def reachable(host: str) -> str:
    """Return an address that reaches a listener on `host` from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where to connect


def _refusal(error: OSError, host: str, port: int, option: str) -> PortTaken | Forbidden | BadSettings:
    if error.errno == errno.EADDRINUSE:
        return PortTaken(port=port, option=option)
    if error.errno == errno.EACCES:
        return Forbidden(what=f"listening on port {port} as this user", hint=f"Choose one above 1023 with {option}.")
    return BadSettings(problems=f"Nothing can listen on {host} port {port} ({error.strerror}).")
