"""*install*, the third step: the project's packages, by its own lockfile's package manager."""

from __future__ import annotations

from typing import Final

from nodesemver import max_satisfying

from vclone_core.build.context import Work
from vclone_core.build.steps.commands import run_command
from vclone_core.errors import InstallFailed
from vclone_core.rules.commands import plan_provision

PROVISION_S: Final = 120.0
VERSION_S: Final = 20.0


async def install_packages(work: Work) -> None:
    """Run the install command, if the plan has one; raise `InstallFailed`, `OutOfMemory` or `BuildTimeout`."""
    plan = work.plan
    if plan is None or plan.install_command is None:
        return
    await _compare_node(work)
    if plan.provision is not None:
        command = plan_provision(plan.provision)
        status, said = await work.read(command, cwd=work.folder, env={}, timeout_s=PROVISION_S)
        if not status.is_ok:
            await work.build.log.output("stderr", said.encode())
            raise InstallFailed(
                command=plan.install_command,
                outcome=f"no {plan.package_manager}",
                hint="This machine has no {manager}, and it could not be fetched as {package}.",
                manager=plan.package_manager,
                package=plan.provision,
            )
    # Package managers leave development packages out where NODE_ENV is production, and builds need those.
    up = plan.install_directory.count("..")
    folder = work.root.parents[up - 1] if up else work.root
    await run_command(work, plan.install_command, failed=InstallFailed, folder=folder, left_out=("NODE_ENV",))


async def _compare_node(work: Work) -> None:
    """Warn when the machine's Node.js is not the one that the project asks for."""
    assert work.plan is not None
    if not (wanted := work.plan.node_version):
        return
    status, said = await work.read(("node", "--version"), cwd=work.folder, env={}, timeout_s=VERSION_S)
    version = said.strip().removeprefix("v")
    if status.is_ok and not _satisfies(version, wanted):
        await work.build.log.line(f"Warning: the project asks for Node.js {wanted}, this machine has {version}")


def _satisfies(version: str, wanted: str) -> bool:
    try:
        return max_satisfying([version], wanted, True) is not None
    except (ValueError, TypeError, AttributeError):
        return True
