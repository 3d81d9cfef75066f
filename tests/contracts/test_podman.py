"""What only containers keep: builds see nothing of the machine, reach nothing of its network, and leave nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from podman import PodmanClient
from tests.contracts.runners import make_podman
from tests.contracts.test_build_runners import LIMITS, PLATFORM, Life, Output, run_shell

from vclone_core.errors import RunnerUnavailable
from vclone_core.models import BuildLimits
from vclone_core.protocols import BuildRunner

pytestmark = pytest.mark.podman

SECRET = "canary-0123456789"


@pytest.fixture
async def runner() -> BuildRunner:
    return await make_podman()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    # As `{data_dir}/builds/NAME` lies: closed to others.
    folder = tmp_path / "builds" / "dep_x-1"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    return folder


class Host:
    """A service of the machine on every address and on a Unix socket; it counts who comes."""

    def __init__(self) -> None:
        self.visits = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        await reader.read(1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        writer.close()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host()
    server = await asyncio.start_server(made.serve, "0.0.0.0", 0)
    made.port = server.sockets[0].getsockname()[1]
    local = await asyncio.start_unix_server(made.serve, tmp_path / "service.sock")
    yield made
    server.close()
    local.close()


def own_addresses() -> list[str]:
    """The machine's addresses and its gateway."""
    routes = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    gateways = [socket.inet_ntoa(bytes.fromhex(row[2])[::-1]) for row in routes if row[1] == "00000000"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))
        return ["127.0.0.1", probe.getsockname()[0], *gateways]


async def read(runner: BuildRunner, workspace: Path, script: str, **options: Any) -> str:
    output = Output()
    async with runner.session("dep_x", workspace, options.pop("limits", LIMITS)) as session:
        await run_shell(session, workspace, script, output=output, **options)
    return output.text + output.streams["stderr"].decode()


async def test_a_build_has_no_power_and_no_sight(runner: BuildRunner, workspace: Path) -> None:
    script = """
    grep -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; cat /proc/self/uid_map; id -u
    cat /proc/1/environ; ls /proc/1/fd; kill -9 1; ls /run/vclone; ls /root/.ssh
    touch /etc/x; touch /usr/x; mount -t tmpfs none /mnt; unshare -Ur true; chown 0 file
    for file in /proc/[0-9]*; do echo "process $file"; done; ls /dev
    """
    said = await read(runner, workspace, script)
    assert "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n" in said
    assert "NoNewPrivs:\t1\nSeccomp:\t2\n" in said
    if os.geteuid() == 0:
        inside, outside, size = next(line.split() for line in said.splitlines() if len(line.split()) == 3)
        assert (inside, size) == ("0", "65536")
        assert int(outside) > 1_000_000_000
    assert said.count("Permission denied") + said.count("cannot open directory") >= 2  # environ, fd
    assert said.count("Read-only file system") == 2
    assert said.count("process ") < 8
    assert not {"kvm", "sda", "vda", "mem"} & set(said.splitlines())


async def test_a_build_owns_what_it_was_given_and_the_platform_what_comes_of_it(
    runner: BuildRunner, workspace: Path
) -> None:
    (workspace / "given").mkdir()
    (workspace / "given" / "file").write_text("one")
    (workspace / "link").symlink_to("/etc/passwd")
    before = Path("/etc/passwd").stat().st_uid
    async with runner.session("dep_x", workspace, LIMITS) as session:
        assert (await run_shell(session, workspace, "echo two > given/file; mkdir -m 0700 made; echo x > made/y")).is_ok
        (workspace / "later").write_text("restored")
        assert (await run_shell(session, workspace, "echo more >> later")).is_ok
    assert (workspace / "given" / "file").read_text() == "two\n"
    assert (workspace / "made" / "y").read_text() == "x\n"
    assert (workspace / "later").read_text() == "restoredmore\n"
    assert Path("/etc/passwd").stat().st_uid == before


async def test_a_second_name_of_a_file_is_not_given_away(runner: BuildRunner, workspace: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    (workspace / "inside").hardlink_to(outside)
    await read(runner, workspace, "true")
    assert outside.stat().st_uid == os.geteuid()


SCAN = """
import socket, sys, urllib.request
for place in sys.argv[2].split(","):
    for port in (int(sys.argv[1]), 80, 5432, 6379, 9000):
        try:
            socket.create_connection((place, port), 1).close()
            print("REACHED", place, port)
        except OSError:
            pass
    for url in (f"http://{place}:{sys.argv[1]}/", f"https://{place}/", f"http://{place}/latest/meta-data/"):
        for handlers in ([], [urllib.request.ProxyHandler({"http": "http://127.0.0.1:3128", "https": "http://127.0.0.1:3128"})]):
            try:
                print("REACHED", url, urllib.request.build_opener(*handlers).open(url, timeout=3).status)
            except OSError as error:
                pass
for path in sys.argv[3:]:
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        print("REACHED", path)
    except OSError:
        pass
print("scanned")
"""


async def test_a_build_reaches_nothing_of_the_machine_or_its_network(
    runner: BuildRunner, workspace: Path, tmp_path: Path, host: Host
) -> None:
    places = [*own_addresses(), "169.254.169.254", "fd00:ec2::254", "10.88.0.1", "0.0.0.0", "localhost"]
    scan = workspace / "scan.py"
    scan.write_text(SCAN)
    proof = await asyncio.create_subprocess_exec(
        sys.executable, scan, str(host.port), "127.0.0.1", stdout=asyncio.subprocess.PIPE
    )
    assert b"REACHED 127.0.0.1" in (await proof.communicate())[0]
    host.visits = 0
    sockets = [str(tmp_path / "service.sock"), "/run/podman/podman.sock", "/var/run/docker.sock"]
    said = await read(
        runner,
        workspace,
        f"python3 scan.py {host.port} {','.join(places)} {' '.join(sockets)}; env -u no_proxy -u NO_PROXY"
        f" curl -sS http://127.0.0.1:{host.port}/",
        timeout_s=60,
    )
    assert "scanned" in said
    assert "REACHED" not in said
    assert "169.254.169.254 (link-local)" in said
    assert host.visits == 0


async def test_a_build_does_not_reach_another(runner: BuildRunner, workspace: Path) -> None:
    other = workspace.with_name("dep_y-1")
    other.mkdir()
    (workspace / "mine").write_text(SECRET)
    async with (
        runner.session("dep_x", workspace, LIMITS) as first,
        runner.session("dep_y", other, LIMITS) as second,
    ):
        serving = asyncio.create_task(
            run_shell(first, workspace, "touch up; exec python3 -m http.server 8123", timeout_s=60)
        )
        while not (workspace / "up").exists():
            await asyncio.sleep(0.05)
        output = Output()
        script = (
            f"cat {workspace}/mine; ls {workspace}; curl -s http://127.0.0.1:8123/; kill -9 -1; cat /proc/*/cmdline"
        )
        await run_shell(second, other, script, output=output)
        assert SECRET not in output.text
        assert not serving.done()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_a_host_that_the_operator_named_is_reached(workspace: Path) -> None:
    made = Host()
    server = await asyncio.start_server(made.serve, "127.0.0.2", 0)
    made.port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.2:{made.port}/"
    runner = await make_podman(**{"egress.allow": f"127.0.0.2:{made.port}"})
    fetch = f"node -e 'fetch(\"{url}\").then(r => r.text()).then(console.log)'"
    said = await read(runner, workspace, f"curl -sS {url}; {fetch}")
    assert said.split() == ["hellohello"]
    shut = await make_podman(network="none", **{"egress.allow": f"127.0.0.2:{made.port}"})
    assert "hello" not in await read(shut, workspace, f"curl -sS {url}")
    server.close()


async def test_variables_are_nowhere_but_in_the_command(
    runner: BuildRunner, workspace: Path, tmp_path: Path, life: Life
) -> None:
    """Not in an argument of any process, not in what `podman inspect` shows, not in a file."""
    async with runner.session("dep_x", workspace, LIMITS) as session:
        task = asyncio.create_task(run_shell(session, workspace, f"{life.HOLD}; sleep 60", env={"TOKEN": SECRET}))
        await life.begin(1)
        lines = [_read_bytes(path / "cmdline") for path in Path("/proc").iterdir() if path.name.isdigit()]
        assert not [line for line in lines if SECRET.encode() in line]
        shown = await runner._podman.call(_inspect_all)  # type: ignore[attr-defined]
        assert "vclone.build" in shown and "dep_x" in shown
        assert SECRET not in shown
        files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
        assert not [path for path in files if SECRET.encode() in _read_bytes(path)]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def life(workspace: Path) -> Life:
    return Life(workspace)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _inspect_all(client: PodmanClient) -> str:
    return json.dumps([one.inspect() for one in client.containers.list(all=True)])


def _list(client: PodmanClient) -> list[str]:
    return [str(one.labels.get("vclone.workspace")) for one in client.containers.list(all=True) if one.labels]


async def list_workspaces(runner: BuildRunner) -> list[str]:
    found: list[str] = await runner._podman.call(_list)  # type: ignore[attr-defined]
    return found


async def test_a_killed_worker_leaves_no_container(runner: BuildRunner, workspace: Path, life: Life) -> None:
    """The container ends by itself; what Podman has not removed by then, the reaper of the next worker removes."""
    name = workspace.name
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PLATFORM, "podman", str(workspace), f"{life.HOLD}; sleep 60"
    )
    await life.begin(1)
    assert name in await list_workspaces(runner)
    worker.send_signal(signal.SIGKILL)
    await worker.wait()
    await life.end(within_s=5)

    async def held() -> set[str]:
        return set()

    await runner.reap(workspace.parent, held)
    async with asyncio.timeout(20):
        while name in await list_workspaces(runner):
            await asyncio.sleep(0.1)


async def test_reaping_ends_what_nobody_holds_and_keeps_the_rest(
    runner: BuildRunner, workspace: Path, life: Life
) -> None:
    other = workspace.with_name("dep_y-2")
    other.mkdir()

    async def held() -> set[str]:
        return {other.name}

    async with runner.session("dep_x", workspace, LIMITS) as lost, runner.session("dep_y", other, LIMITS) as kept:
        task = asyncio.create_task(run_shell(lost, workspace, f"{life.HOLD}; sleep 60"))
        await life.begin(1)
        await runner.reap(workspace.parent.parent, held)  # another platform's folder
        assert not life.is_over()
        await runner.reap(workspace.parent, held)
        with pytest.raises(RunnerUnavailable, match="from outside"):
            await task
        assert life.is_over()
        assert (await run_shell(kept, other, "true")).is_ok


async def test_a_command_outlives_its_children_that_lacked_memory(runner: BuildRunner, workspace: Path) -> None:
    limits = BuildLimits(memory_bytes=200 * 1024**2)
    async with runner.session("dep_x", workspace, limits) as session:
        script = "python3 -c 'x = bytearray(10**9)' || echo survived"
        assert (await run_shell(session, workspace, script)).is_ok
        assert (await run_shell(session, workspace, "exit 137")).reason == "exit"


async def test_odd_options_are_refused_with_their_reasons() -> None:
    from vclone_core.errors import BadSettings

    with pytest.raises(BadSettings) as caught:
        await make_podman(
            colour="red", userns="root", ulimits="nofile", ca_bundle="/nowhere", **{"egress.deny": "1/99"}
        )
    for word in ("'colour'", "userns 'root'", "ulimits: 'nofile'", "/nowhere", "egress.deny '1/99'"):
        assert word in caught.value.sentence


async def test_a_missing_image_is_said_with_the_way_to_make_it() -> None:
    runner = await make_podman(image="localhost/vclone-missing:1")
    why = await runner.check()
    assert why is not None and "vclone runner build-image" in why
