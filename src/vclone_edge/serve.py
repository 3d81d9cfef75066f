"""`vclone edge`: one supervisor, its fronts, and the workers that run the app.

    public port -> front (connections, TLS, limits) -> Unix socket -> worker (granian, hypercorn) -> app

With `VCLONE_EDGE_SERVER=hypercorn` the workers are hypercorn's, behind the same front. With `VCLONE_EDGE_HTTP3` one
process more speaks HTTP/3 on the TLS port's UDP side, and runs the app itself.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vclone_core.errors import BadSettings, PortTaken
from vclone_core.log import configure_log, get_log
from vclone_core.plugins import load_plugins
from vclone_core.settings import Settings, load_settings
from vclone_edge.front import Front, Limits, open_listener, tune_listener
from vclone_edge.gate import Gate
from vclone_edge.roster import Roster
from vclone_edge.supervise import Supervisor
from vclone_edge.tls import Certificates, open_issuer
from vclone_edge.workers import load_app, run_granian

APP = "vclone_edge.serve:app"

_FOLDER = "vclone-edge-"
_LOCK = "lock"

_log = get_log(__name__)
_settings: Settings | None = None


def app() -> Any:
    """Return the edge app, for a server: the settings are the supervisor's, or else the environment's."""
    from vclone_edge.app import make_app

    return make_app(_settings or load_settings(os.environ))


def main(settings: Settings, *, target: str = APP) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code.

    Raises `PortTaken` and `BadSettings` before anything is started. `target` is a factory `module:function`.
    """
    global _settings
    _settings = settings
    configure_log(process="edge", log_format=settings.log_format, log_level=settings.log_level)
    plugins = load_plugins(allow=settings.plugins, drop_in=settings.plugins_dir)
    if target == APP:
        _preload()
    if settings.edge_server == "hypercorn":
        from vclone_edge.hypercorn_engine import check_version

        check_version()
    _check_http3(settings)
    descriptors = _raise_descriptor_limit()
    certificates = None
    if settings.has_tls:
        issuer = open_issuer(settings, plugins)
        certificates = Certificates(settings.edge_certificates, issuer, base_domain=settings.base_domain)
    plain, secure = _open_listeners(settings, with_tls=certificates is not None)
    folder, lock = _make_folder()
    roster = Roster(folder, workers=settings.edge_workers)
    # A connection takes a descriptor on each side of the front; one fifth stays free for everything else.
    per_front = max(1, int(descriptors * 0.8 / 2))
    rows = settings.edge_fronts + int(settings.edge_http3)
    gate = Gate(fronts=rows, per_address=settings.edge_connections_per_address, per_front=per_front)
    try:
        run_worker = _run_hypercorn if settings.edge_server == "hypercorn" else _run_granian
        workers: list[Callable[[int], None]] = [
            partial(run_worker, settings, target, index, plain + secure, roster, descriptors)
            for index in range(settings.edge_workers)
        ]
        fronts: list[Callable[[int], None]] = [
            partial(_run_front, settings, index, plain, secure, certificates, roster, gate)
            for index in range(settings.edge_fronts)
        ]
        quic: list[Callable[[int], None]] = []
        if settings.edge_http3 and certificates is not None:
            quic.append(partial(_run_http3, settings, target, plain, secure, certificates, gate))
        _log.info("edge.listening", addresses=[_describe(listener) for listener in plain + secure])
        return Supervisor(
            fronts=fronts,
            workers=workers,
            quic=quic,
            listeners=plain + secure,
            roster=roster,
            drain_s=settings.edge_drain_s,
        ).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _preload() -> None:
    """Import what the workers need before they are forked: a replacement then starts in a tenth of the time."""
    import vclone_edge.app  # noqa: F401

    gc.freeze()


def _run_front(
    settings: Settings,
    index: int,
    plain: list[socket.socket],
    secure: list[socket.socket],
    certificates: Certificates | None,
    roster: Roster,
    gate: Gate,
    _generation: int,
) -> None:
    configure_log(process=f"edge-front-{index}", log_format=settings.log_format, log_level=settings.log_level)
    gate.enter_as(index)
    Front(
        plain=plain,
        secure=secure,
        certificates=certificates,
        roster=roster,
        gate=gate,
        limits=Limits.of(settings),
    ).run()


def _run_granian(
    settings: Settings,
    target: str,
    index: int,
    listeners: list[socket.socket],
    roster: Roster,
    connections: int,
    generation: int,
) -> None:
    configure_log(process=f"edge-worker-{index}", log_format=settings.log_format, log_level=settings.log_level)
    for listener in listeners:
        listener.close()
    run_granian(
        target=target,
        path=roster.socket_path(index, generation),
        header_s=settings.edge_header_s,
        connections=connections,
    )


def _run_hypercorn(
    settings: Settings,
    target: str,
    index: int,
    listeners: list[socket.socket],
    roster: Roster,
    _connections: int,
    generation: int,
) -> None:
    from vclone_edge.hypercorn_engine import run_hypercorn

    configure_log(process=f"edge-worker-{index}", log_format=settings.log_format, log_level=settings.log_level)
    for listener in listeners:
        listener.close()
    run_hypercorn(
        app=load_app(target, lane=roster.socket_path(index, generation)),
        path=roster.socket_path(index, generation),
        header_s=settings.edge_header_s,
        drain_s=settings.edge_drain_s,
    )


def _check_http3(settings: Settings) -> None:
    """Raise `BadSettings` where HTTP/3 is asked for and can't be."""
    if not settings.edge_http3:
        return
    if not settings.has_tls:
        raise BadSettings(problems="VCLONE_EDGE_HTTP3: HTTP/3 needs TLS: set VCLONE_EDGE_CERTIFICATES or an issuer.")
    from vclone_edge import hypercorn_engine, quic

    quic.check_version()
    # Whose lifespan and drain the process for HTTP/3 runs in.
    hypercorn_engine.check_version()


def _run_http3(
    settings: Settings,
    target: str,
    plain: list[socket.socket],
    secure: list[socket.socket],
    certificates: Certificates,
    gate: Gate,
    _generation: int,
) -> None:
    from vclone_edge.http3_engine import run_http3

    configure_log(process="edge-quic-0", log_format=settings.log_format, log_level=settings.log_level)
    gate.enter_as(settings.edge_fronts)
    addresses = [listener.getsockname()[:2] for listener in secure]
    for listener in plain + secure:
        listener.close()
    run_http3(settings, app=load_app(target), addresses=addresses, certificates=certificates, gate=gate)


def _open_listeners(settings: Settings, *, with_tls: bool) -> tuple[list[socket.socket], list[socket.socket]]:
    """Return the listening sockets: inherited ones by the socket-activation protocol, or else our own."""
    inherited = _inherited_listeners()
    if inherited:
        secure = [s for s in inherited if with_tls and s.getsockname()[1] == settings.edge_tls_port]
        return [s for s in inherited if s not in secure], secure
    plain = _listen(settings.edge_host, settings.edge_port, variable="VCLONE_EDGE_PORT", option="--port")
    if not with_tls:
        return plain, []
    return plain, _listen(
        settings.edge_host, settings.edge_tls_port, variable="VCLONE_EDGE_TLS_PORT", option="VCLONE_EDGE_TLS_PORT"
    )


def _inherited_listeners() -> list[socket.socket]:
    """Return the sockets a service manager opened for us (`sd_listen_fds(3)`): with them a restart drops nothing."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    del os.environ["LISTEN_PID"]
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    listeners = [socket.socket(fileno=number) for number in range(3, 3 + count)]
    for listener in listeners:
        tune_listener(listener)
    return listeners


def _listen(host: str, port: int, *, variable: str, option: str) -> list[socket.socket]:
    try:
        found = socket.getaddrinfo(host or "::", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BadSettings(problems=f"VCLONE_EDGE_HOST: {host} is not an address ({error}).") from error
    listeners = []
    for address in dict.fromkeys(str(entry[4][0]) for entry in found):
        try:
            listeners.append(open_listener(address, port))
        except PermissionError as error:
            raise BadSettings(problems=f"{variable}: {port} needs more rights than this process has.") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(port=port, option=option) from error
            raise BadSettings(problems=f"VCLONE_EDGE_HOST: can't listen on {address} ({error.strerror}).") from error
    return listeners


def _raise_descriptor_limit() -> int:
    """Have as many descriptors as this process may; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def _make_folder() -> tuple[Path, int]:
    """Return a private folder with a short path for sockets, and the lock that says it is in use."""
    base = Path("/dev/shm")  # noqa: S108 - private below, by mkdtemp; sockets want short paths and no disk
    if not os.access(base, os.W_OK):
        base = Path(tempfile.gettempdir())
    for old in base.glob(_FOLDER + "*"):
        _clear(old)
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=base))
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def _clear(folder: Path) -> None:
    """Remove what a killed edge left behind: a folder of ours whose lock nobody holds."""
    try:
        if folder.stat().st_uid != os.getuid():
            return
        lock = os.open(folder / _LOCK, os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return
    finally:
        os.close(lock)


def _describe(listener: socket.socket) -> str:
    address, port = listener.getsockname()[:2]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


if __name__ == "__main__":
    sys.exit(main(load_settings(os.environ)))
