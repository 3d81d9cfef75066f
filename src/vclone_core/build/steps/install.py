"""*install*, the third step: what earlier builds left to use, the programs it takes, and the project's packages."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from vclone_core.build.caches import Caches
from vclone_core.build.context import Work
from vclone_core.build.steps.commands import run_command
from vclone_core.errors import InstallFailed
from vclone_core.models import Target
from vclone_core.rules.buildcaches import (
    KEY_FILES,
    CacheKind,
    describe_tools,
    digest_files,
    plan_caches,
    reuse_command,
    trust_of,
)
from vclone_core.rules.commands import STORE, TOOLS_HERE, plan_provision
from vclone_core.rules.languages import LANGUAGE_OF_MANAGER
from vclone_core.rules.toolversions import (
    LIST_PYTHONS,
    ToolChoice,
    choose_node,
    choose_python,
    parse_pythons,
    plan_node,
    plan_python,
)
from vclone_core.stores.folders import read_files

PROVISION_S: Final = 300.0
VERSION_S: Final = 20.0
MAX_KEY_BYTES: Final = 64 * 1024**2


async def install_packages(work: Work) -> None:
    """Run the install command, if the plan has one; raise `InstallFailed`, `OutOfMemory` or `BuildTimeout`."""
    plan = work.plan
    if plan is None or (plan.install_command is None and plan.build_command is None):
        return
    store = work.build.workspace / STORE
    await asyncio.to_thread(store.mkdir, exist_ok=True)
    machine, node = await _choose_node(work)
    work.caches = await _open_caches(work, describe_tools(node.wanted, plan.provision, machine))
    await work.caches.restore()
    await _fetch_node(work, node, machine)
    await _choose_python(work)
    if plan.install_command is not None:
        await _provision(work)
        await _install(work, plan.install_command)
    await work.caches.restore_rest()


async def _install(work: Work, command: str) -> None:
    """Run the install command; over restored packages the one that takes them as they are."""
    assert work.caches is not None and work.plan is not None
    again = reuse_command(command) if CacheKind.MODULES in work.caches.exact else None
    # Package managers leave development packages out where NODE_ENV is production, and builds need those.
    left_out = ("NODE_ENV",)
    up = work.plan.install_directory.count("..")
    folder = work.root.parents[up - 1] if up else work.root
    if again is not None:
        try:
            return await run_command(work, again, failed=InstallFailed, folder=folder, left_out=left_out)
        except InstallFailed:
            await work.build.log.line("Caches: the restored packages did not fit; they are installed anew")
            await work.caches.drop_modules()
    await run_command(work, command, failed=InstallFailed, folder=folder, left_out=left_out)


async def _open_caches(work: Work, tools: str) -> Caches:
    build, plan = work.build, work.plan
    assert plan is not None and work.detection is not None
    files = await asyncio.to_thread(read_files, work.folder, KEY_FILES, limit_bytes=MAX_KEY_BYTES)
    plans = plan_caches(
        plan,
        trust=trust_of(Target(build.claim.deployment.target), work.source),
        branch=work.source.ref,
        root=work.root.relative_to(work.folder).as_posix(),
        cache_paths=work.detection.definition.cache_paths,
        lock=digest_files(files),
        tools=tools,
    )
    caches = Caches(build, plans)
    work.stack.push_async_callback(caches.close)
    return caches


async def _choose_node(work: Work) -> tuple[str, ToolChoice]:
    """Return what kind of machine this is, and which Node.js the build uses; nothing is asked where none is needed."""
    plan = work.plan
    assert plan is not None
    if LANGUAGE_OF_MANAGER.get(plan.package_manager or "") != "node" and plan.node_version is None:
        return "", ToolChoice("")
    _, said = await work.read(("sh", "-c", _ASK_NODE), cwd=work.folder, env={}, timeout_s=VERSION_S)
    machine, _, version = said.strip().partition("\n")
    found = version.strip().removeprefix("v") or None
    choice = choose_node(plan.node_version, found, machine=machine)
    await work.build.log.line(choice.said)
    # Also the machine's own is part of what packages were made for.
    return f"{machine} {found}", choice


_ASK_NODE: Final = "uname -m; command -v node >/dev/null && node --version 2>/dev/null || true"


async def _fetch_node(work: Work, node: ToolChoice, machine: str) -> None:
    store = work.build.workspace / STORE
    if node.wanted is None or await asyncio.to_thread((store / "tools/bin/node").exists):
        return
    started = time.monotonic()
    command = plan_node(node.wanted, machine=machine.partition(" ")[0], folder=TOOLS_HERE)
    status, said = await work.read(command, cwd=store, env={}, timeout_s=PROVISION_S)
    if status.is_ok:
        version = said.split()[-1]
        await work.build.log.line(f"Node.js {version} fetched in {time.monotonic() - started:.1f} s")
    else:
        await work.build.log.output("stderr", said.encode())
        await work.build.log.line(f"Warning: Node.js {node.wanted} could not be fetched; this machine's is used")


async def _choose_python(work: Work) -> None:
    plan = work.plan
    assert plan is not None
    if plan.python_version is None:
        return
    store = work.build.workspace / STORE
    _, said = await work.read(LIST_PYTHONS, cwd=store, env={}, timeout_s=VERSION_S)
    choice = choose_python(plan.python_version, parse_pythons(said))
    await work.build.log.line(choice.said)
    if choice.wanted is None:
        return
    # A folder of its own: it leads to programs outside, and is not kept.
    command = plan_python(choice.wanted, folder='"$PWD"')
    status, said = await work.read(command, cwd=store, env={}, timeout_s=PROVISION_S)
    if not status.is_ok:
        await work.build.log.line(f"Warning: Python {plan.python_version} is not to be had here; python3 is used")


async def _provision(work: Work) -> None:
    plan = work.plan
    assert plan is not None and plan.install_command is not None
    if plan.provision is None:
        return
    store = work.build.workspace / STORE
    status, said = await work.read(plan_provision(plan.provision), cwd=store, env={}, timeout_s=PROVISION_S)
    if not status.is_ok:
        await work.build.log.output("stderr", said.encode())
        raise InstallFailed(
            command=plan.install_command,
            outcome=f"no {plan.package_manager}",
            hint="This machine has no {manager}, and it could not be fetched as {package}.",
            manager=plan.package_manager,
            package=plan.provision,
        )
