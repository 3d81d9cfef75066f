"""Bubblewrap around a command: a system that can only be read, the workspace, and nothing else of the machine.

What a build sees is a list of what it may see, so the platform's data folder, its sockets, other builds and homes are
not there at all. The network is the machine's own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

PROBE_S: Final = 10.0
# The user a build is inside; outside it stays the platform's own.
USER: Final = "1000"
_SYSTEM: Final = ("/usr", "/opt", "/nix/store", "/snap", "/sys/devices/system/cpu")
_ROOTS: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# Of /etc what programs and package managers need to run: no keys, no passwords, no settings of services.
_ETC: Final = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "fonts", "gai.conf", "group",
    "host.conf", "hosts", "java-17-openjdk", "java-21-openjdk", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "locale.alias", "locale.conf", "localtime", "mime.types", "nanorc", "nsswitch.conf", "os-release", "pip.conf",
    "npmrc", "pki", "profile.d", "protocols", "python3", "resolv.conf", "services", "ssl/certs", "ssl/openssl.cnf",
    "timezone", "uv",
)  # fmt: skip
# The kernel's settings below /proc/sys belong to root, and that is what a build of root's is, without its rights.
_READ_ONLY: Final = ("--remount-ro", "/proc", "--remount-ro", "/")
# From the strictest on: the first that this machine lets us have is used. Containers often forbid a /proc of one's own.
LEVELS: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    (
        ("--unshare-user", "--uid", USER, "--gid", USER, "--unshare-pid", "--proc", "/proc"),
        "Builds see a read-only system, their workspace and their own processes; the network is not limited.",
    ),
    (
        ("--unshare-pid", "--proc", "/proc"),
        "Builds see a read-only system, their workspace and their own processes; the network is not limited.",
    ),
    (
        ("--unshare-user", "--uid", USER, "--gid", USER, "--ro-bind", "/proc", "/proc"),
        "Builds see a read-only system, their workspace and all processes; the network is not limited.",
    ),
)


class Sandbox:
    """How commands are wrapped on this machine; `note` says what that protects from and what not."""

    def __init__(self, program: str, level: Sequence[str], note: str, visible: Iterable[str]) -> None:
        self.note = note
        self._program = program
        self._level = tuple(level)
        self._visible = tuple(visible)

    def wrap(self, argv: Sequence[str], *, workspace: Path, home: Path, cwd: str, network: bool) -> list[str]:
        """Return the command that runs `argv` inside, with the machine's network or with none."""
        words = [
            self._program, "--die-with-parent", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
            "--hostname", "build", "--cap-drop", "ALL", *self._level, "--dev", "/dev",
        ]  # fmt: skip
        words += ["--bind", str(home / "tmp"), "/tmp"]  # noqa: S108
        words += [] if network else ["--unshare-net"]
        for path in (*_SYSTEM, *self._visible):
            words += ["--ro-bind-try", path, path]
        for path in _ROOTS:
            words += _root_words(path)
        for name in _ETC:
            words += ["--ro-bind-try", os.path.realpath(f"/etc/{name}"), f"/etc/{name}"]
        words += ["--ro-bind-try", str(home / USERS), "/etc/passwd"]
        words += ["--bind", str(workspace), str(workspace), *_READ_ONLY, "--chdir", cwd, "--"]
        # A shell in between says 127 for a program that isn't there.
        return [*words, "/bin/sh", "-c", 'exec "$@"', "sh", *argv]


USERS: Final = ".users"


def write_user(home: Path) -> None:
    """Give the user of a build a name and a home, for programs that look it up."""
    (home / USERS).write_text(f"build:x:{USER}:{USER}::{home}:/bin/sh\nroot:x:0:0::/nonexistent:/bin/sh\n")


async def open_sandbox(visible: Iterable[str]) -> Sandbox | str:
    """Return the strictest sandbox that works here, or why none does."""
    program = shutil.which("bwrap", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin")
    if program is None:
        return "bubblewrap (bwrap) is not installed"
    said = ""
    for level, note in LEVELS:
        words = [program, "--die-with-parent", "--unshare-ipc", "--cap-drop", "ALL", *level, "--dev", "/dev"]
        words += ["--remount-ro", "/proc"]
        process = await asyncio.create_subprocess_exec(
            *words, "--ro-bind", "/usr", "/usr", *(word for path in _ROOTS for word in _root_words(path)), "--",
            "/usr/bin/true", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE, env={},
        )  # fmt: skip
        try:
            async with asyncio.timeout(PROBE_S):
                _, errors = await process.communicate()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            return "bubblewrap does not answer"
        if process.returncode == 0:
            return Sandbox(program, level, note, visible)
        said = errors.decode("utf-8", "replace").strip()
    return f"bubblewrap does not work on this machine ({said[:200]})"


def _root_words(path: str) -> list[str]:
    """Return how a folder of the root is shown: most are links into /usr."""
    if os.path.islink(path):  # noqa: PTH114
        return ["--symlink", os.readlink(path), path]  # noqa: PTH115
    return ["--ro-bind-try", path, path]
