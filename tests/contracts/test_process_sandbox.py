"""The process runner inside bubblewrap: what every runner promises, and that a build sees nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contracts.runners import make_bubblewrap, make_runner

from vclone_core.models import BuildLimits
from vclone_core.protocols import BuildRunner, BuildSession, ExitStatus


@pytest.fixture(scope="module")
async def runner() -> BuildRunner:
    return await make_bubblewrap()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "builds/dep_x-1"
    folder.mkdir(parents=True)
    (tmp_path / "secrets.json").write_text("CANARY")
    return folder


class Shell:
    """Runs lines in a session, and keeps what they say."""

    def __init__(self, session: BuildSession, workspace: Path) -> None:
        self._session, self._workspace = session, workspace
        self.said = b""

    async def __call__(self, script: str, *, network: bool = True) -> ExitStatus:
        words = ["sh", "-c", script]
        return await self._session.run(
            words, cwd=self._workspace, env={}, timeout_s=30, on_output=self._keep, network=network
        )

    async def _keep(self, stream: str, data: bytes) -> None:
        self.said += data

    @property
    def text(self) -> str:
        return self.said.decode()


@pytest.fixture
async def shell(runner: BuildRunner, workspace: Path) -> AsyncIterator[Shell]:
    async with runner.session("dep_x", workspace, BuildLimits()) as session:
        yield Shell(session, workspace)


async def test_it_says_what_it_protects_from(runner: BuildRunner) -> None:
    assert not runner.is_isolating
    note = runner.note
    assert "read-only" in note
    assert "the network is not limited" in note


async def test_without_bubblewrap_it_says_so_and_what_is_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None if name == "bwrap" else f"/bin/{name}")
    plain, strict = make_runner("process"), make_runner("process", sandbox="bubblewrap")
    assert await plain.check() is None
    assert "not isolated" in plain.note
    assert "not installed" in plain.note
    assert "not installed" in str(await strict.check())
    assert "one of auto, bubblewrap, none" in str(await make_runner("process", sandbox="jail").check())


async def test_nothing_else_of_the_machine_is_there(shell: Shell, workspace: Path, tmp_path: Path) -> None:
    hidden = ("/var/lib", "/run", "/etc/shadow", "/etc/ssl/private", "/srv", "/home", "/boot")
    for path in (tmp_path / "secrets.json", Path.home() / ".ssh", *hidden):
        assert not (await shell(f"cat {path} || ls {path}")).is_ok, path
    assert "CANARY" not in shell.text
    shell.said = b""
    assert (await shell("ls -A ..; ls -A ../..")).is_ok
    assert shell.text.split() == [workspace.name, workspace.parent.name]


async def test_only_the_workspace_can_be_written(shell: Shell, workspace: Path) -> None:
    for path in ("/usr/x", "/etc/x", "/x", "/opt/x", "/var", "/proc/sys/kernel/hostname", "/proc/self/oom_score_adj"):
        assert not (await shell(f"echo x > {path}")).is_ok, path
    assert (await shell('echo x > file && echo x > "$HOME/a" && echo x > "$TMPDIR/b" && echo x > /tmp/c')).is_ok
    assert (workspace / "file").read_text() == "x\n"
    assert not Path("/tmp/c").exists()


async def test_it_is_an_ordinary_user_without_rights_and_sees_its_own_processes(shell: Shell) -> None:
    assert (await shell("id -u; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; ls -d /proc/[0-9]* | wc -l")).is_ok
    uid, capabilities, privileges, processes = shell.text.split("\n")[:4]
    assert uid == "1000"
    assert int(capabilities.split()[1], 16) == 0
    assert privileges.split()[1] == "1"
    assert int(processes) < 10


async def test_sockets_of_the_platform_are_out_of_reach(shell: Shell, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        folder = tmp_path / "s"
        folder.mkdir()
        server.bind(str(folder / "db"))
        server.listen()
        script = f"python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('{folder}/db')\""
        assert not (await shell(script)).is_ok
    assert "FileNotFoundError" in shell.text


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 3", ExitStatus(3)),
        ("no-such-program", ExitStatus(127)),
        ("kill -TERM $$", ExitStatus(-signal.SIGTERM, "signal")),
        ("kill -KILL $$", ExitStatus(-signal.SIGKILL, "memory")),
    ],
)
async def test_how_it_ended(shell: Shell, script: str, status: ExitStatus) -> None:
    assert await shell(script) == status


async def test_without_network_it_reaches_nothing(shell: Shell, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = f"python3 -c \"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)\""
        assert (await shell(script)).is_ok
        assert not (await shell(script, network=False)).is_ok


async def test_home_lasts_and_goes_with_the_session(runner: BuildRunner, workspace: Path) -> None:
    async with runner.session("dep_x", workspace, BuildLimits()) as session:
        shell = Shell(session, workspace)
        await shell("echo kept > $HOME/x; mkdir sub")
        await shell("cat $HOME/x")
        assert shell.text == "kept\n"
        with pytest.raises(ValueError, match="outside"):
            await session.run(["true"], cwd=workspace.parent, env={}, timeout_s=5, on_output=shell._keep)
    assert [path.name for path in workspace.iterdir()] == ["sub"]


async def test_limits_hold_inside(runner: BuildRunner, workspace: Path) -> None:
    limits = BuildLimits(memory_bytes=200 * 1024**2, processes=25, disk_bytes=1024**2)
    async with runner.session("dep_x", workspace, limits) as session:
        shell = Shell(session, workspace)
        hungry = "python3 -c 'import time; x = bytearray(400 * 1024 * 1024); time.sleep(20)'"
        assert (await shell(hungry)).reason == "memory"
        assert (await shell("i=0; while [ $i -lt 40 ]; do sleep 20 & i=$((i+1)); done; wait")).reason == "killed"
        assert (await shell("exec head -c 3000000 /dev/zero > file")).reason == "disk"
    assert (workspace / "file").stat().st_size <= 1024**2


async def test_folders_can_be_shown_to_builds(tmp_path: Path, workspace: Path, runner: BuildRunner) -> None:
    tools = tmp_path / "tools/bin"
    tools.mkdir(parents=True)
    (tools / "tool").write_text("#!/bin/sh\ncat $(dirname $0)/../share\n")
    (tools / "tool").chmod(0o755)
    (tmp_path / "tools/share").write_text("shown")
    other = make_runner("process", sandbox="bubblewrap", path=f"{tools}:/usr/bin:/bin")
    async with other.session("dep_x", workspace, BuildLimits()) as session:
        shell = Shell(session, workspace)
        assert (await shell("tool")).is_ok
        assert shell.text == "shown"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_it_works_for_an_ordinary_user_too(runner: BuildRunner, tmp_path: Path) -> None:
    done = await asyncio.create_subprocess_exec(
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bwrap", "--unshare-user", "--unshare-pid",
        "--proc", "/proc", "--dev", "/dev", "--ro-bind", "/", "/", "--proc", "/proc", "--", "true",
    )  # fmt: skip
    assert await done.wait() == 0
