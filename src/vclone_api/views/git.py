"""Webhooks of git hosts, and the connections they belong to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from vclone_core.actions import deliveries, gitconnections, projects, pullrequests
from vclone_core.errors import Limited, NotFound

from ..bodies import read_whole
from ..git_bodies import Approval, DeliveriesQuery, NewConnection, WebhookQuery
from ..guard import Call
from ..paging import slice_page
from .described import describe
from .git_shapes import (
    ConnectionShape,
    GitDeliveryList,
    GitDeliveryShape,
    NewConnectionShape,
    PullRequestList,
    ReceivedShape,
    RepeatedReports,
    ReportList,
    shape_connected,
    shape_connection,
    shape_delivery,
    shape_pull_request,
    shape_report,
)
from .shapes import DeploymentShape

# Large bodies that are read at once: whoever sends them can make us hold so many, and no more.
BODIES_AT_ONCE: Final = 8
WAIT_S: Final = 5.0


async def receive_webhook(call: Call, host: str) -> ReceivedShape:
    """Take a delivery of a git host's webhook; what it asks for is done behind the answer."""
    query: WebhookQuery = call.query
    headers = [(name.lower(), value) for name, value in call.request.headers.items()]
    receivers = await deliveries.find_receivers(call.platform, host, headers, query.connection)
    async with _room_for_body(call):
        body = await read_whole(call.request, limit_bytes=deliveries.BODY_LIMIT_BYTES)
        with call.live.desk.answering():
            received = await deliveries.receive(call.platform, receivers, headers, body)
    call.live.desk.nudge()
    return {"delivery": received.delivery_id, "projects": received.projects, "new": received.new}


@asynccontextmanager
async def _room_for_body(call: Call) -> AsyncIterator[None]:
    """Wait shortly for a place among the large bodies; a usual one needs none."""
    length = call.request.content_length
    if length is not None and length <= deliveries.LARGE_BYTES:
        yield
        return
    try:
        async with asyncio.timeout(WAIT_S):
            await call.live.webhook_bodies.acquire()
    except TimeoutError:
        raise Limited(what="large webhooks at once", hint="Send it again.") from None
    try:
        yield
    finally:
        call.live.webhook_bodies.release()


async def show_connection(call: Call, project: str) -> ConnectionShape:
    """The repository that a project follows."""
    found = await projects.find_project(call.platform, call.actor, project)
    connection = await gitconnections.find_connection(call.platform, call.actor, found)
    return shape_connection(connection, gitconnections.webhook_url(call.platform, connection))


async def connect_repository(call: Call, project: str) -> NewConnectionShape:
    """Have a project follow a repository; answers its webhook's address and, this once, its secret."""
    body: NewConnection = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    made = await gitconnections.connect(call.platform, call.actor, found, **body.model_dump())
    call.change.subject = found.name
    call.change.facts |= {"host": made.connection.host, "repository": made.connection.repository}
    return shape_connected(made)


async def disconnect_repository(call: Call, project: str) -> None:
    """Have a project follow no repository any more."""
    found = await projects.find_project(call.platform, call.actor, project)
    await gitconnections.disconnect(call.platform, call.actor, found)


async def list_git_deliveries(call: Call, project: str) -> GitDeliveryList:
    """What a git host has told of a project's repository, newest first, and what came of it."""
    query: DeliveriesQuery = call.query
    found = await projects.find_project(call.platform, call.actor, project)
    listed = await gitconnections.list_deliveries(call.platform, call.actor, found, limit=query.limit)
    return {"items": [shape_delivery(one) for one in listed]}


async def repeat_delivery(call: Call, project: str, delivery: str) -> GitDeliveryShape:
    """Handle a delivery once more."""
    found = await projects.find_project(call.platform, call.actor, project)
    if not delivery.isdecimal() or len(delivery) > 18:
        raise NotFound(what="delivery")
    made = await gitconnections.repeat_delivery(call.platform, call.actor, found, int(delivery))
    call.live.desk.nudge()
    return shape_delivery(made)


async def list_reports(call: Call, project: str) -> ReportList:
    """What a git host was told of a project's deployments, and what it refused."""
    found = await projects.find_project(call.platform, call.actor, project)
    return {"items": [shape_report(one) for one in await gitconnections.list_reports(call.platform, call.actor, found)]}


async def repeat_reports(call: Call, project: str) -> RepeatedReports:
    """Tell a git host again what it refused."""
    found = await projects.find_project(call.platform, call.actor, project)
    repeated = await gitconnections.repeat_reports(call.platform, call.actor, found)
    call.live.desk.nudge()
    return {"repeated": repeated}


async def list_pull_requests(call: Call, project: str) -> PullRequestList:
    """The open pull requests of a project's repository, newest first."""
    found = await projects.find_project(call.platform, call.actor, project)
    listed = await gitconnections.list_pull_requests(call.platform, call.actor, found)
    page, cursor = slice_page(call, listed, key=lambda pull: pull.number, newest_first=True)
    return {"items": [shape_pull_request(one) for one in page], "next_cursor": cursor}


async def approve_pull_request(call: Call, project: str, number: str) -> DeploymentShape:
    """Deploy a commit of a pull request that comes from another repository, without the project's secrets."""
    body: Approval = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    if not number.isdecimal() or len(number) > 9:
        raise NotFound(what="pull request")
    deployment = await pullrequests.approve(call.platform, call.actor, found, int(number), body.sha)
    call.change.facts |= {"sha": body.sha, "deployment": deployment.id}
    return await describe(call, deployment, found)
