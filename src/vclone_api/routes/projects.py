"""The platform itself, projects, deployments, and what edges ask."""

from __future__ import annotations

from typing import Final

from vclone_core.rules.blobframes import CONTENT_TYPE

from .. import bodies
from ..guard import EDGE, OPEN, Route
from ..internal import events, sites
from ..views import deployments, hooks, projects, shapes, system

# A rollback or promote waits up to two seconds for receipts; an upload takes as long as its client's line.
ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/api/health", system.show_health, OPEN, shapes.Health),
    Route("GET", "/api/ready", system.show_readiness, OPEN, shapes.Readiness),
    Route("GET", "/api/openapi.json", system.show_document, OPEN),
    Route("GET", "/api/me", system.show_me, "see one's account", shapes.Me),
    Route(
        "GET",
        "/api/projects",
        projects.list_projects,
        "see a project",
        shapes.ProjectList,
        query=bodies.ProjectsQuery,
    ),
    Route(
        "POST",
        "/api/projects",
        projects.create_project,
        "create a project",
        shapes.ProjectShape,
        status=201,
        body=bodies.NewProject,
    ),
    Route("GET", "/api/projects/<project>", projects.show_project, "see a project", shapes.ProjectShape),
    Route(
        "PATCH",
        "/api/projects/<project>",
        projects.change_project,
        "change a project",
        shapes.ProjectShape,
        body=bodies.ProjectChange,
    ),
    Route("DELETE", "/api/projects/<project>", projects.delete_project, "delete a project", status=204),
    Route(
        "POST",
        "/api/projects/<project>/blobs/missing",
        projects.list_missing_blobs,
        "deploy",
        shapes.MissingBlobs,
        body=bodies.WantedBlobs,
        limit_bytes=bodies.LIST_LIMIT_BYTES,
        is_audited=False,  # changes nothing
    ),
    Route(
        "POST",
        "/api/projects/<project>/blobs",
        projects.store_blobs,
        "deploy",
        shapes.StoredBlobs,
        takes=CONTENT_TYPE,
        time_limit_s=None,
        is_audited=False,  # the deployment of them is
    ),
    Route(
        "POST",
        "/api/projects/<project>/rollback",
        projects.roll_back,
        "roll back",
        shapes.Switch,
        body=bodies.Rollback,
    ),
    Route("GET", "/api/projects/<project>/hooks", hooks.list_hooks, "see a project", shapes.HookList),
    Route(
        "POST",
        "/api/projects/<project>/hooks",
        hooks.create_hook,
        "change a project",
        shapes.NewHookShape,
        status=201,
        body=bodies.NewHook,
    ),
    Route("DELETE", "/api/projects/<project>/hooks/<hook>", hooks.delete_hook, "change a project", status=204),
    Route("POST", "/api/hooks/<token>", hooks.call_hook, OPEN, shapes.CalledHook, status=201),
    Route(
        "GET",
        "/api/deployments",
        deployments.list_deployments,
        "see a deployment",
        shapes.DeploymentList,
        query=bodies.DeploymentsQuery,
    ),
    Route(
        "POST",
        "/api/deployments",
        deployments.create_deployment,
        "deploy",
        shapes.DeploymentShape,
        status=201,
        body=bodies.NewDeployment,
        limit_bytes=bodies.LIST_LIMIT_BYTES,
    ),
    Route(
        "GET",
        "/api/deployments/<deployment>",
        deployments.show_deployment,
        "see a deployment",
        shapes.DeploymentShape,
    ),
    Route(
        "POST",
        "/api/deployments/<deployment>/cancel",
        deployments.cancel_deployment,
        "cancel a deployment",
        shapes.DeploymentShape,
    ),
    Route(
        "POST",
        "/api/deployments/<deployment>/redeploy",
        deployments.redeploy_deployment,
        "deploy",
        shapes.DeploymentShape,
        status=201,
    ),
    Route(
        "POST",
        "/api/deployments/<deployment>/promote",
        deployments.promote_deployment,
        "promote a deployment",
        shapes.Switch,
    ),
    Route(
        "GET",
        "/api/deployments/<deployment>/logs",
        deployments.show_log,
        "see a deployment",
        shapes.LogPage,
        query=bodies.LogsQuery,
        streams=True,
    ),
    Route(
        "GET",
        "/api/deployments/<deployment>/files",
        deployments.list_files,
        "see a deployment",
        shapes.FileList,
    ),
    Route("GET", "/api/aliases", projects.list_aliases, "see a project", shapes.AliasList, query=bodies.AliasesQuery),
    Route("GET", "/internal/v1/sites/<host>", sites.show_site, EDGE, shapes.SiteShape, time_limit_s=2.0),
    Route(
        "GET",
        "/internal/v1/events",
        events.follow_moves,
        EDGE,
        query=bodies.EventsQuery,
        streams=True,
        time_limit_s=2.0,
    ),
    Route(
        "POST",
        "/internal/v1/edges/<edge_id>/acks",
        events.store_acknowledgement,
        EDGE,
        status=204,
        body=bodies.Acknowledgement,
        is_audited=False,
    ),
)
