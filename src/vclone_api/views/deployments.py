"""Deployments: asking for one, looking at it, following it, and moving production to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final, cast

from quart import Response

from vclone_core.actions import archives, deployments, projects
from vclone_core.errors import NameTaken, NotFound, WrongMediaType, WrongState
from vclone_core.models import Deployment, LogLine, Project, Source, SourceFile, State, Target
from vclone_core.rules.lifecycle import FINAL
from vclone_core.rules.manifests import decode_manifest
from vclone_core.rules.objectkeys import manifest_key

from ..bodies import ArchiveQuery, DeploymentsQuery, GitSourceBody, NewDeployment, Redeploy, read_pieces
from ..guard import Call
from ..paging import cut_page, position_of, slice_page
from ..sse import Events, encode_event, last_event_id, stream_events
from .described import describe, describe_all
from .shapes import DeploymentList, DeploymentShape, FileList, LogPage, Switch, shape_line, shape_receipts

HEARTBEAT_S: Final = 15.0
ARCHIVE_TYPE: Final = "application/octet-stream"


async def list_deployments(call: Call) -> DeploymentList:
    """Deployments of the team or of one project, newest first."""
    query: DeploymentsQuery = call.query
    project = None
    if query.project is not None:
        project = await projects.find_project(call.platform, call.actor, query.project)
    found = await deployments.list_deployments(
        call.platform,
        call.actor,
        project=project,
        state=None if query.state is None else State(query.state),
        limit=query.limit + 1,
        before=position_of(call),
    )
    page, cursor = cut_page(call, found, key=lambda deployment: deployment.id)
    return {"items": await describe_all(call, page), "next_cursor": cursor}


async def create_deployment(call: Call) -> DeploymentShape:
    """Ask for a deployment: of a git repository, or of files whose blobs are stored already."""
    body: NewDeployment = call.body
    project = await find_or_create_project(call, body)
    deployment = await deployments.request_deployment(
        call.platform,
        call.actor,
        project,
        to_source(body),
        target=None if body.target is None else Target(body.target),
        files=None if body.files is None else [SourceFile(**file.model_dump()) for file in body.files],
        overrides={} if body.settings is None else body.settings.model_dump(exclude_unset=True),
    )
    return await describe(call, deployment, project)


async def deploy_archive(call: Call, project: str) -> DeploymentShape:
    """Ask for a deployment of an archive, which is the body: a zip, a tar or a tar.gz."""
    if call.request.mimetype != ARCHIVE_TYPE:
        raise WrongMediaType(needed=ARCHIVE_TYPE)
    query: ArchiveQuery = call.query
    found = await projects.find_project(call.platform, call.actor, project)
    deployment = await archives.deploy_archive(
        call.platform,
        call.actor,
        found,
        read_pieces(call.request),
        target=None if query.target is None else Target(query.target),
        is_prebuilt=query.prebuilt,
    )
    return await describe(call, deployment, found)


async def find_or_create_project(call: Call, body: NewDeployment) -> Project:
    try:
        return await projects.find_project(call.platform, call.actor, body.project)
    except NotFound:
        if not body.create_project:
            raise
    git_url = body.source.url if isinstance(body.source, GitSourceBody) else None
    try:
        return await projects.create_project(call.platform, call.actor, body.project, git_url=git_url)
    except NameTaken as taken:
        # By another request of the same client a moment ago, or by another team.
        try:
            return await projects.find_project(call.platform, call.actor, body.project)
        except NotFound:
            raise taken from None


def to_source(body: NewDeployment) -> Source:
    return Source(**body.source.model_dump())


async def show_deployment(call: Call, deployment: str) -> DeploymentShape:
    """One deployment, by its id or by a host that shows it."""
    return await describe(call, await deployments.find_deployment(call.platform, call.actor, deployment))


async def cancel_deployment(call: Call, deployment: str) -> DeploymentShape:
    """Call a deployment off: a queued one at once, a building one within seconds."""
    return await describe(call, await deployments.cancel(call.platform, call.actor, deployment))


async def redeploy_deployment(call: Call, deployment: str) -> DeploymentShape:
    """Ask for another deployment of the same source."""
    body: Redeploy = call.body
    changes = {} if body.settings is None else body.settings.model_dump(exclude_unset=True)
    made = await deployments.redeploy(call.platform, call.actor, deployment, overrides=changes)
    return await describe(call, made)


async def promote_deployment(call: Call, deployment: str) -> Switch:
    """Show a deployment in production; answers what the edges said of it."""
    found = await deployments.find_deployment(call.platform, call.actor, deployment)
    receipts = await deployments.promote(call.platform, call.actor, found.id)
    return {"deployment": await describe(call, found), "receipts": shape_receipts(receipts)}


async def list_files(call: Call, deployment: str) -> FileList:
    """The files a ready deployment serves."""
    found = await deployments.find_deployment(call.platform, call.actor, deployment)
    if found.state is not State.READY:
        raise WrongState(state=found.state.value, needed=State.READY.value)
    async with call.platform.objects.open(manifest_key(found.project_id, found.id)) as body:
        manifest = decode_manifest(b"".join([chunk async for chunk in body.chunks]))
    page, cursor = slice_page(call, list(manifest.files.items()), key=lambda item: item[0])
    return {
        "items": [
            {"path": path, "sha256": entry.sha256, "size": entry.size, "type": entry.type} for path, entry in page
        ],
        "next_cursor": cursor,
    }


async def show_log(call: Call, deployment: str) -> LogPage | Response:
    """The build log; with `Accept: text/event-stream` also all that is to come, and the deployment on each change."""
    after = call.query.after
    if "text/event-stream" not in call.request.headers.get("Accept", ""):
        lines = await deployments.read_log(call.platform, call.actor, deployment, after=after, limit=call.query.limit)
        return {"items": [shape_line(line) for line in lines]}
    # Found before the stream begins: what can be refused is refused with a status.
    found = await deployments.find_deployment(call.platform, call.actor, deployment)
    resumed = last_event_id(call.request)
    return stream_events(
        call.request,
        tell_log(call, found, after if resumed is None else resumed),
        stopping=call.live.stopping,
        heartbeat_s=HEARTBEAT_S,
    )


async def tell_log(call: Call, deployment: Deployment, after: int) -> Events:
    """Yield `line` and `state` events. The last is always the final state: a client may leave when it sees one."""
    project = await projects.find_project(call.platform, call.actor, deployment.project_id)
    items = cast(Any, deployments.watch(call.platform, call.actor, deployment.id, after=after))
    last: Deployment | None = None
    async with aclosing(items) as watched:
        async for item in cast(AsyncIterator[LogLine | Deployment], watched):
            if isinstance(item, LogLine):
                yield encode_event("line", shape_line(item), number=item.number)
            elif item.state in FINAL:
                last = item
            else:
                yield encode_event("state", await describe(call, item, project))
    if last is not None:
        yield encode_event("state", await describe(call, last, project))
