"""`PodmanRunner`: a session is one container without a network, which ends with the worker's end of a socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from podman import PodmanClient
from podman.errors import APIError, NotFound, PodmanError

from vclone_core import BuildSession, ExitStatus, Held, RunnerConfig, buildsessions, errors, get_log
from vclone_core.models import BuildLimits
from vclone_runner_podman.containers import (
    INSIDE,
    LABEL_PLATFORM,
    LABEL_WORKSPACE,
    plan_container,
    plan_ids,
    platform_label,
)
from vclone_runner_podman.egress import EgressProxy
from vclone_runner_podman.images import STEP_S, VERSION, image_version, import_rootfs
from vclone_runner_podman.machine import arrange, read_machine
from vclone_runner_podman.options import parse_options
from vclone_runner_podman.service import Podman
from vclone_runner_podman.session import HOME, Channel, PodmanSession, plan_environment

AGENT: Final = Path(__file__).with_name("agent.py")
# What the worker's cleaning takes for a part of the workspace NAME.
CONTROL: Final = ".podman"
READY_S: Final = 30.0
CREATE_S: Final = 300.0
NO_CAPABILITIES: Final = 0

log = get_log(__name__)


class PodmanRunner:
    """Runs each build in a container of its own."""

    name = "podman"
    is_isolating = True

    def __init__(self, config: RunnerConfig) -> None:
        self._options = parse_options(config.options)
        self._arrangement = arrange(read_machine(), self._options)
        self._podman = Podman(self._options.socket, self._arrangement)
        self.note: str | None = None

    @property
    def image(self) -> str:
        """The image that builds run in."""
        return self._options.image

    async def image_version(self) -> int | None:
        """Return the image's version, 0 where it names none; None when it isn't there."""
        return await self._podman.call(lambda client: image_version(client, self.image))

    async def import_image(self, rootfs: Path) -> None:
        """Make the image of a root file system's tar."""
        await self._podman.call(lambda client: import_rootfs(client, rootfs, self.image), timeout_s=STEP_S)

    def describe(self) -> str:
        """Return how containers are made here, in a line."""
        made = self._arrangement
        service = "a service of our own" if self._podman.is_own else "the operator's service"
        runtime = made.runtime or "as Podman chooses"
        return f"runtime {runtime}, user namespace {made.userns}, cgroups by {made.cgroup_manager}, {service}"

    async def check(self) -> str | None:
        """Say why builds can't run here; None when they can. Then `note` says which of the limits are not kept.

        Runs one container as a build's would be, and looks at it from outside and from inside.
        """
        image = self._options.image
        try:
            version = await self.image_version()
            if version is None or version < VERSION:
                what = "is not there" if version is None else f"is older than version {VERSION}"
                return f"The build image {image} {what}. Make it: vclone runner build-image"
            with tempfile.TemporaryDirectory(prefix="vclone-check-") as folder:
                workspace = Path(os.path.realpath(folder)) / f"check-{os.getpid()}"  # noqa: ASYNC240
                workspace.mkdir()
                limits = BuildLimits(memory_bytes=256 * 1024**2, processes=64)
                async with self._open("check", workspace, limits) as (session, ready):
                    refused, missing = _judge(session, ready, self._arrangement.userns)
                    status, said = await _ask(session, workspace, ["sh", "-c", "git --version && python3 --version"])
                    if not status.is_ok:
                        return f"The build image {image} lacks git or python3: {said}"
        except errors.VcloneError as error:
            return f"{error.sentence} {error.advice}"
        self.note = f"Podman can't enforce on this machine: {'; '.join(missing)}." if missing else None
        return refused

    @asynccontextmanager
    async def session(self, build_id: str, workspace: Path, limits: BuildLimits) -> AsyncIterator[BuildSession]:
        """Open a container that sees `workspace` and nothing else of this machine; it is gone when the session ends.

        Raises `RunnerUnavailable` when Podman does not answer or can't start it.
        """
        async with self._open(build_id, workspace, limits) as (session, _):
            yield session

    async def reap(self, builds_dir: Path, held: Held) -> None:
        """Remove the containers of builds whose workspaces are not `held`, which is asked after they were listed."""
        label = f"{LABEL_PLATFORM}={platform_label(Path(os.path.realpath(builds_dir)))}"  # noqa: ASYNC240
        found = await self._podman.call(lambda client: _list_containers(client, label))
        if not found:
            return
        keep = await held()
        for container_id, workspace in found:
            if workspace not in keep:
                log.warning("container.removed", container=container_id[:12], workspace=workspace)
                await self._podman.call(lambda client, one=container_id: _remove(client, one))  # type: ignore[misc]

    @asynccontextmanager
    async def _open(
        self, build_id: str, workspace: Path, limits: BuildLimits
    ) -> AsyncIterator[tuple[PodmanSession, dict[str, Any]]]:
        workspace = Path(os.path.realpath(workspace))  # noqa: ASYNC240
        control = workspace.with_name(workspace.name + CONTROL)
        ids = plan_ids(self._arrangement, self._options, build_id, os.geteuid())
        has_proxy = self._options.network
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(_make_folders, control, workspace, has_proxy=has_proxy)
            stack.push_async_callback(asyncio.to_thread, _remove_folders, control, workspace / HOME)
            listener = stack.enter_context(_listen(control / "agent", socket.SOCK_SEQPACKET))
            proxy = None
            if has_proxy:
                proxy = EgressProxy(self._options.egress)
                await proxy.start(_listen(control / "egress", socket.SOCK_STREAM))
                stack.push_async_callback(proxy.close)
            plan = plan_container(
                options=self._options,
                arrangement=self._arrangement,
                limits=limits,
                ids=ids,
                build_id=build_id,
                workspace=workspace,
                control=control,
            )
            container = Container(self._podman, plan)
            stack.push_async_callback(lambda: buildsessions.uninterrupted(container.leave()))
            await buildsessions.uninterrupted(container.start())
            ready = await container.meet(listener)
            environment = {
                **plan_environment(
                    workspace / HOME,
                    self._options.path,
                    has_proxy=has_proxy,
                    has_bundle=self._options.ca_bundle is not None,
                ),
                **self._options.environment,
            }
            session = PodmanSession(
                container.channel,
                proxy,
                workspace=workspace,
                limits=limits,
                environment=environment,
                owner=ids.owner,
                ends_container=container.remove,
            )
            yield session, ready


class Container:
    """One build's container, from its start to its removal."""

    def __init__(self, podman: Podman, plan: dict[str, Any]) -> None:
        self._podman = podman
        self._plan = plan
        self._id: str | None = None
        self._channel: Channel | None = None

    @property
    def channel(self) -> Channel:
        """The line to the agent, once it was met."""
        assert self._channel is not None
        return self._channel

    async def start(self) -> None:
        """Make and start it; raise `RunnerUnavailable` with Podman's words."""
        try:
            # The first container of a range of ids waits for a copy of the image where mounts can't map ids.
            made = await self._podman.call(lambda client: client.containers.create(**self._plan), timeout_s=CREATE_S)
            self._id = one = str(made.id)
            await self._podman.call(lambda client: client.containers.get(one).start(), timeout_s=CREATE_S)
        except (APIError, PodmanError) as error:
            raise errors.RunnerUnavailable(why=f"Podman could not start a build's container: {error}") from error

    async def meet(self, listener: socket.socket) -> dict[str, Any]:
        """Take the agent's call, and return what it says of itself."""
        try:
            async with asyncio.timeout(READY_S):
                control, _ = await asyncio.get_running_loop().sock_accept(listener)
                control.setblocking(False)
                self._channel = Channel(control)
                return await self._channel.ready
        except (TimeoutError, asyncio.CancelledError) as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            why = "the container started, but its first process did not report; on SELinux hosts try selinux=disable"
            raise errors.RunnerUnavailable(why=why) from error

    async def remove(self) -> None:
        """End it at once, and remove it."""
        if (one := self._id) is not None:
            await self._podman.call(lambda client: _remove(client, one))

    async def leave(self) -> None:
        """Hang up. Once the first process was seen to end, Podman removes the rest by itself, or else `reap` does."""
        if self._channel is not None and await self._channel.close():
            return
        try:
            await self.remove()
        except (errors.VcloneError, PodmanError) as error:
            log.warning("container.not_removed", why=str(error))


def _listen(path: Path, kind: int) -> socket.socket:
    """Return a listening socket at a path of any length, open to whom the folder is open to."""
    listener = socket.socket(socket.AF_UNIX, kind)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    path.chmod(0o666)
    listener.listen(128)
    listener.setblocking(False)
    return listener


# ssh asks no variable for a proxy; whatever starts it finds this one first.
SSH: Final = f"""#!/bin/sh
exec /usr/bin/ssh -o 'ProxyCommand=python3 -I -S {INSIDE}/agent.py connect %h %p' "$@"
"""


def _make_folders(control: Path, workspace: Path, *, has_proxy: bool) -> None:
    for folder in (control, workspace / HOME):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    (workspace / HOME / "tmp").mkdir()
    if has_proxy:
        programs = workspace / HOME / ".local/bin"
        programs.mkdir(parents=True)
        (programs / "ssh").write_text(SSH)
        (programs / "ssh").chmod(0o755)
    shutil.copyfile(AGENT, control / AGENT.name)
    (control / AGENT.name).chmod(0o444)
    # Its parent is closed to others; the build's user comes in through the mount.
    control.chmod(0o711)


def _remove_folders(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _remove(client: PodmanClient, container_id: str) -> None:
    with contextlib.suppress(NotFound):
        client.containers.remove(container_id, force=True, v=True)


def _list_containers(client: PodmanClient, label: str) -> Sequence[tuple[str, str]]:
    found = client.containers.list(all=True, filters={"label": label})
    return [(str(one.id), str((one.labels or {}).get(LABEL_WORKSPACE, ""))) for one in found]


async def _ask(session: PodmanSession, workspace: Path, argv: Sequence[str]) -> tuple[ExitStatus, str]:
    said = bytearray()

    async def keep(_: str, data: bytes) -> None:
        said.extend(data)

    status = await session.run(argv, cwd=workspace, env={}, timeout_s=READY_S, on_output=keep)
    return status, said.decode(errors="replace").strip()


def _judge(session: PodmanSession, ready: dict[str, Any], userns: str) -> tuple[str | None, list[str]]:
    """Return why builds must not run in such a container, and what of the limits it does not keep."""
    refused = None
    if int(str(ready.get("CapEff", "1")), 16) != NO_CAPABILITIES:
        refused = "Podman started a container that has capabilities."
    elif ready.get("NoNewPrivs") != "1":
        refused = "Podman started a container whose processes may gain privileges."
    missing = []
    if session.cgroup.memory_limit is None:
        missing.append("memory (the container has no memory controller)")
    if session.cgroup.pids_limit is None:
        missing.append("the number of processes (the container has no pids controller)")
    if ready.get("Seccomp") != "2":
        missing.append("the filter of system calls (seccomp)")
    if userns == "host" or ready.get("uid_map", [])[1:2] == ["0"]:
        missing.append("ids apart from the host's (no user namespace)")
    return refused, missing
