"""A real sshd on loopback that serves git repositories, for tests: its own keys, its own files, no system settings."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.needs import lacks
from tests.ports import pick_port


@dataclass
class SshServer:
    """Repositories are folders below `root`; `authorize` says whose keys open them."""

    root: Path
    folder: Path
    port: int
    user: str

    def address(self, name: str) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}{self.root}/{name}.git"

    def authorize(self, public_key: str) -> None:
        """Let this key read the repositories, and nothing else."""
        line = f'restrict,command="git-shell -c \\"$SSH_ORIGINAL_COMMAND\\"" {public_key}\n'
        (self.folder / "authorized").write_text(line)

    def host_key(self) -> str:
        """Return the known_hosts line of this server."""
        kind, key, *_ = (self.folder / "host.pub").read_text().split()
        return f"[127.0.0.1]:{self.port} {kind} {key}\n"

    def change_host_key(self) -> None:
        for path in self.folder.glob("host*"):
            path.unlink()
        make_key(self.folder / "host")

    def log(self) -> str:
        return (self.folder / "log").read_text()


def make_key(path: Path, *words: str) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path), *words], check=True)


@contextmanager
def serve_ssh(root: Path, folder: Path) -> Iterator[SshServer]:
    """Serve the repositories below `root`; skip the test where there is no sshd."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        lacks("sshd is missing: apt-get install openssh-server")
    if os.geteuid() == 0:
        # Where it drops its rights to; the system's service makes it at its start.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    folder.mkdir()
    server = SshServer(root, folder, pick_port(), getpass.getuser())
    make_key(folder / "host")
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1:{server.port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\nLogLevel VERBOSE\n"
        "KbdInteractiveAuthentication no\nMaxStartups 50\nAcceptEnv GIT_PROTOCOL\n"
    )
    argv = [program, "-D", "-f", str(folder / "config"), "-E", str(folder / "log")]
    process = subprocess.Popen(argv)
    try:
        until = time.monotonic() + 20
        while not _answers(server.port):
            assert process.poll() is None and time.monotonic() < until, server.log()
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
