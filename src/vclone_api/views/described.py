"""Deployments with what stands beside them: their project, the hosts that show them, their place in the queue."""

from __future__ import annotations

from collections.abc import Sequence

from vclone_core.actions import deployments, projects
from vclone_core.models import Deployment, Project

from ..guard import Call
from .shapes import DeploymentShape, shape_deployment


async def describe(call: Call, deployment: Deployment, project: Project | None = None) -> DeploymentShape:
    """Return one deployment as JSON."""
    project = project or await projects.find_project(call.platform, call.actor, deployment.project_id)
    aliases = await deployments.list_aliases(call.platform, call.actor, project, [deployment.id])
    place = await deployments.find_place(call.platform, deployment)
    return shape_deployment(deployment, project, call.platform.settings, aliases=aliases, place=place)


async def describe_all(call: Call, found: Sequence[Deployment]) -> list[DeploymentShape]:
    """Return deployments of any projects as JSON, in their order."""
    shapes: dict[str, DeploymentShape] = {}
    for project_id in {deployment.project_id for deployment in found}:
        project = await projects.find_project(call.platform, call.actor, project_id)
        its = [deployment for deployment in found if deployment.project_id == project_id]
        aliases = await deployments.list_aliases(call.platform, call.actor, project, [it.id for it in its])
        for deployment in its:
            shapes[deployment.id] = shape_deployment(
                deployment,
                project,
                call.platform.settings,
                aliases=[alias for alias in aliases if alias.deployment_id == deployment.id],
                place=await deployments.find_place(call.platform, deployment),
            )
    return [shapes[deployment.id] for deployment in found]
