"""A Valkey of this platform's own, over a private socket; it speaks the protocol of Redis."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Final

from vclone_core.embedded.accounts import make_own_folder, pick_account
from vclone_core.embedded.binaries import find_valkey
from vclone_core.embedded.children import Command, Service, plain_environment, spawn
from vclone_core.embedded.logfiles import open_log
from vclone_core.embedded.postgres import wait_until
from vclone_core.embedded.rundirs import SOCKET_PATH_BYTES
from vclone_core.errors import ServiceFailed

# An answer to a write follows its entry in the file, so a killed process loses nothing; a power cut up to a second.
_DURABLE: Final = ("--appendonly", "yes", "--appendfsync", "everysec")
_NOT_DURABLE: Final = ("--appendonly", "no")


def start_valkey(
    data_dir: Path,
    run_dir: Path,
    *,
    is_durable: bool = True,
    program: Path | None = None,
    log_path: Path | None = None,
) -> Service:
    """Return a server that answers, with its file in `data_dir` and its socket in `run_dir`.

    As root it runs as the lesser user that PostgreSQL has. Call it from the main thread. Raises `ServiceFailed`.
    """
    log_path = log_path or run_dir / "valkey.log"
    command, url = prepare_valkey(data_dir, run_dir, is_durable=is_durable, program=program)
    with open_log(log_path) as output:
        process = spawn(command, output)
    service = Service(url, command, process, on_stopped=lambda: shutil.rmtree(run_dir / "vk", ignore_errors=True))
    wait_until(lambda: is_valkey_ready(run_dir), process, what="Valkey", log_path=log_path)
    return service


def prepare_valkey(data_dir: Path, run_dir: Path, *, is_durable: bool, program: Path | None) -> tuple[Command, str]:
    """Make the folders where they are missing; return the server's command and its URL."""
    account = pick_account(data_dir)
    server = find_valkey(program, account)
    socket_path = _socket_path(run_dir)
    if len(os.fsencode(socket_path)) > SOCKET_PATH_BYTES:
        raise ServiceFailed(what="Valkey", why=f"the path {socket_path} is too long for a socket")
    make_own_folder(socket_path.parent, account)
    make_own_folder(data_dir, account)
    argv = (
        str(server),
        *("--port", "0"),
        *("--unixsocket", str(socket_path), "--unixsocketperm", "700"),
        *("--dir", "."),  # the working directory: the way there may be closed to the account
        *("--save", ""),
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "no"),
        *(_DURABLE if is_durable else _NOT_DURABLE),
    )
    command = Command(
        argv,
        plain_environment(os.environ),
        cwd=data_dir,
        account=account,
        stop_signal=signal.SIGTERM,
        death_signal=signal.SIGTERM,
    )
    return command, f"unix://{socket_path}?db=0"


def _socket_path(run_dir: Path) -> Path:
    return run_dir / "vk" / "valkey.sock"


def is_valkey_ready(run_dir: Path) -> bool:
    """Say whether the server with its socket in `run_dir` answers a PING (it says LOADING while it reads its file)."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(str(_socket_path(run_dir)))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
