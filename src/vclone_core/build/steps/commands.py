"""Runs a project's own command lines for the steps *install* and *build*, and names what went wrong."""

from __future__ import annotations

from pathlib import Path

from vclone_core.build.context import Work
from vclone_core.errors import StepFailed
from vclone_core.models import Target
from vclone_core.rules.buildcaches import list_stores
from vclone_core.rules.commands import build_environment, plan_user_command
from vclone_core.rules.failures import name_failure
from vclone_core.rules.names import deployment_host


async def run_command(
    work: Work,
    command: str,
    *,
    failed: type[StepFailed],
    folder: Path | None = None,
    left_out: tuple[str, ...] = (),
    network: bool = True,
) -> None:
    """Run a command line in `folder`, else the root directory, with the build's environment but for `left_out`.

    Raises `OutOfMemory`, `BuildTimeout`, `MissingScript`, or `failed` with the cause, as far as it can be found.
    """
    build = work.build
    build.log.tail.clear()
    await build.log.line(f"$ {command}")
    env = {name: value for name, value in plan_environment(work).items() if name not in left_out}
    folder = folder or work.root
    depth = len(folder.relative_to(work.folder).parts)
    stores = {} if work.plan is None else list_stores(work.plan)
    argv = plan_user_command(command, depth=depth, stores=stores)
    status = await work.run(argv, cwd=folder, env=env, network=network)
    if status.is_ok:
        return
    raise name_failure(
        failed,
        command=command,
        code=status.code,
        reason=status.reason,
        lines=build.log.tail,
        limit_s=build.limits.wall_clock_s,
    )


def plan_environment(work: Work) -> dict[str, str]:
    """Return every variable of the build's commands.

    The platform's, the framework's (once it is known), those of `netlify.toml`, then the project's own, which win.
    """
    build, plan = work.build, work.plan
    deployment, project = build.claim.deployment, build.claim.project
    host = deployment_host(project.name, deployment.id, build.settings.base_domain)
    given = build_environment(
        url=build.settings.site_url(host),
        host=host,
        target=Target(deployment.target).value,
        project=project.name,
        deployment_id=deployment.id,
        source=work.source,
        public_prefix=work.detection.definition.public_prefix if work.detection else None,
    )
    return {**given, **(plan.env if plan else {}), **work.netlify.environment, **build.environment}
