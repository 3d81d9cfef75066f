"""A PostgreSQL of this platform's own: made on first use, reached over a private socket, ended with its parent."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

from vclone_core.embedded.accounts import HERE, make_own_folder, pick_account
from vclone_core.embedded.binaries import POSTGRES_MAJOR, find_postgres
from vclone_core.embedded.children import Account, Command, Service, plain_environment, spawn
from vclone_core.embedded.logfiles import open_log, read_tail
from vclone_core.embedded.rundirs import SOCKET_PATH_BYTES
from vclone_core.errors import ServiceFailed

USER: Final = "vclone"
PORT: Final = 5432  # names the socket file; nothing listens on a port
START_S: Final = 60.0  # replaying the log after a crash takes its time
OLD_SERVER_S: Final = 20.0

_INITDB: Final = (
    "--auth=trust",
    f"--username={USER}",
    "--encoding=UTF8",
    # The packaged programs have no ICU; this provider needs none and sorts the same on every machine.
    "--locale-provider=builtin",
    "--locale=C.UTF-8",
    "--no-instructions",
)
_SETTINGS: Final = (
    "listen_addresses=",
    f"port={PORT}",
    "unix_socket_permissions=0700",
    "shared_buffers=64MB",
    "timezone=UTC",
    "log_timezone=UTC",
    "log_checkpoints=off",
    "jit=off",
)
_NOT_DURABLE: Final = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def start_postgres(
    data_dir: Path,
    run_dir: Path,
    *,
    is_durable: bool = True,
    bin_dir: Path | None = None,
    log_path: Path | None = None,
) -> Service:
    """Return a server that answers, on the cluster in `data_dir` (made when missing), with its socket in `run_dir`.

    As root it runs as another user, see `accounts`. `is_durable=False` is for tests: a crash of the machine may
    lose everything. Call it from the main thread. Raises `ServiceFailed` with the server's own last words.
    """
    log_path = log_path or run_dir / "postgres.log"
    command, url = prepare_postgres(data_dir, run_dir, is_durable=is_durable, bin_dir=bin_dir, log_path=log_path)
    with open_log(log_path) as output:
        process = spawn(command, output)
    service = Service(url, command, process, on_stopped=lambda: shutil.rmtree(run_dir / "pg", ignore_errors=True))
    wait_until(lambda: is_postgres_ready(data_dir, process.pid), process, what="PostgreSQL", log_path=log_path)
    return service


def prepare_postgres(
    data_dir: Path, run_dir: Path, *, is_durable: bool, bin_dir: Path | None, log_path: Path
) -> tuple[Command, str]:
    """Make the cluster and the socket folder where they are missing; return the server's command and its URL."""
    account = pick_account(data_dir)
    programs = find_postgres(bin_dir, account)
    socket_dir = run_dir / "pg"
    if len(os.fsencode(socket_dir)) + len(f"/.s.PGSQL.{PORT}.lock") > SOCKET_PATH_BYTES:
        raise ServiceFailed(what="PostgreSQL", why=f"the path {socket_dir} is too long for a socket")
    make_own_folder(socket_dir, account)
    if not (data_dir / "PG_VERSION").exists():
        _make_cluster(programs / "initdb", data_dir, account, is_durable=is_durable, log_path=log_path)
    version = (data_dir / "PG_VERSION").read_text(encoding="ascii").strip()
    if version != str(POSTGRES_MAJOR):
        raise ServiceFailed(
            what="PostgreSQL",
            why=f"{data_dir} is from version {version}, the program is version {POSTGRES_MAJOR}",
            hint="Start the vclone version that made it, dump the database, and load it into a new data directory.",
        )
    _wait_for_old_server(data_dir)
    settings = (*_SETTINGS, f"unix_socket_directories={socket_dir}", *(() if is_durable else _NOT_DURABLE))
    argv = (str(programs / "postgres"), "-D", _place(data_dir, account), *(f"--{item}" for item in settings))
    command = Command(
        argv,
        plain_environment(os.environ),
        cwd=data_dir,
        account=account,
        stop_signal=signal.SIGINT,  # the fast shutdown: sessions are ended, data is written
        death_signal=signal.SIGINT,
    )
    return command, _url(socket_dir)


def find_url(run_dir: Path) -> str | None:
    """Return the URL of the server whose sockets are in `run_dir`; None when none has any there."""
    socket_dir = run_dir / "pg"
    return _url(socket_dir) if (socket_dir / f".s.PGSQL.{PORT}").exists() else None


def _url(socket_dir: Path) -> str:
    return f"postgresql://{USER}@{quote(str(socket_dir), safe='')}:{PORT}/postgres"


def _place(data_dir: Path, account: Account | None) -> str:
    return HERE if account is not None and sys.platform == "linux" else str(data_dir.absolute())


def _make_cluster(initdb: Path, data_dir: Path, account: Account | None, *, is_durable: bool, log_path: Path) -> None:
    """Make a cluster beside its place and move it there whole, so that a kill half-way leaves none."""
    making = data_dir.with_name(data_dir.name + ".new")
    shutil.rmtree(making, ignore_errors=True)
    make_own_folder(making, account)
    sync = () if is_durable else ("--no-sync",)
    command = Command(
        (str(initdb), "-D", _place(making, account), *_INITDB, *sync),
        plain_environment(os.environ),
        cwd=making,
        account=account,
        death_signal=signal.SIGKILL,
    )
    with open_log(log_path) as output:
        code = spawn(command, output).wait()
    if code != 0:
        shutil.rmtree(making, ignore_errors=True)
        raise ServiceFailed(what="PostgreSQL", why=f"initdb ended with {code}: {read_tail(log_path, lines=5)}")
    with contextlib.suppress(FileNotFoundError):
        data_dir.rmdir()  # only an empty folder goes; anything else makes the next line fail
    making.rename(data_dir)


def is_postgres_ready(data_dir: Path, pid: int) -> bool:
    """Say whether the server `pid` accepts connections, from the status line it keeps for pg_ctl."""
    try:
        lines = (data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _wait_for_old_server(data_dir: Path) -> None:
    """Let a server whose parent was killed finish its shutdown, and drop a process id that is someone else's now."""
    pid_file = data_dir / "postmaster.pid"
    deadline = time.monotonic() + OLD_SERVER_S
    while pid_file.exists():
        try:
            pid = int(pid_file.read_text(encoding="utf-8").split("\n", 1)[0])
        except (OSError, ValueError):
            return
        if not _stands_in(pid, data_dir):
            # PostgreSQL would refuse to start while any process of its user has the number.
            pid_file.unlink(missing_ok=True)
            return
        if time.monotonic() > deadline:
            raise ServiceFailed(what="PostgreSQL", why=f"another server (process {pid}) runs in {data_dir}")
        time.sleep(0.02)


def _stands_in(pid: int, folder: Path) -> bool:
    """Say whether process `pid` is alive with `folder` as its working directory; without /proc: whether it is alive."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cwd").samefile(folder)
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def wait_until(
    is_ready: Callable[[], bool],
    process: subprocess.Popen[bytes],
    *,
    what: str,
    log_path: Path,
    timeout_s: float = START_S,
) -> None:
    """Return once `is_ready`; raise `ServiceFailed` when the process ends before, or takes longer."""
    deadline = time.monotonic() + timeout_s
    while not is_ready():
        if (code := process.poll()) is not None:
            raise ServiceFailed(what=what, why=f"it ended with {code}: {read_tail(log_path, lines=5)}")
        if time.monotonic() > deadline:
            process.kill()
            raise ServiceFailed(what=what, why=f"it was not ready after {timeout_s:.0f} s")
        time.sleep(0.01)
