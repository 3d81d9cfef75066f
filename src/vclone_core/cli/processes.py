"""`vclone api|worker|edge`: load the settings, then hand over to the process's own module.

The modules are named by dotted path and imported when called: edge and API lie above the core, which may not import
them; the import contracts see to it that nothing else here does.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Final

import click

MAIN: Final = {
    "api": "vclone_api.serve:main",
    "worker": "vclone_core.build.worker:main",
    "edge": "vclone_edge.serve:main",
}
# Python's own pace of garbage collection, for a process that lives on.
RUNNING_GC: Final = (700, 10, 10)
# A process told to end by its supervisor's death gets this long before it and its group are killed.
ORPHAN_S: Final = 10.0

supervised = click.option("--supervised", "supervisor", type=int, hidden=True, help="Process id of `vclone up`.")


@click.command()
@supervised
def api(supervisor: int | None) -> None:
    """Run the API and the dashboard."""
    run_process("api", supervisor)


@click.command()
@supervised
def worker(supervisor: int | None) -> None:
    """Run a build worker."""
    run_process("worker", supervisor)


@click.command()
@supervised
def edge(supervisor: int | None) -> None:
    """Run an edge."""
    run_process("edge", supervisor)


def run_process(name: str, supervisor: int | None) -> None:
    """Run a process of the platform until it ends, with the settings of the environment.

    Below `vclone up` it waits, imported and ready to go, until the supervisor closes its end of standard input.
    """
    from vclone_core.log import configure_log
    from vclone_core.settings import Settings, load_settings

    # A crash, and a process that hangs (`embedded/supervisor.py`), leave in the log where every thread stands.
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    settings = load_settings(os.environ)
    configure_log(process=name, log_format=settings.log_format, log_level=settings.log_level)
    module, _, function = MAIN[name].partition(":")
    main: Callable[[Settings], int | None] = getattr(import_module(module), function)
    gc.freeze()
    gc.set_threshold(*RUNNING_GC)
    if supervisor is not None:
        threading.Thread(target=end_with, args=(supervisor,), name="end-with-supervisor", daemon=True).start()
        sys.stdin.buffer.read()
    sys.exit(main(settings) or 0)


def end_with(supervisor: int) -> None:
    """Wait for the supervisor's end, then end this process and its group if they outlive it by `ORPHAN_S`.

    On Linux the kernel has sent SIGTERM by then, and this is the safety net; elsewhere nobody has.
    """
    while os.getppid() == supervisor:
        time.sleep(0.5)
    if sys.platform != "linux":
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_S)
    os.killpg(0, signal.SIGKILL)
