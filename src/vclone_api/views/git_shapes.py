"""JSON of git connections, what came over them, and what was told back. No secret is part of any but a new one."""

from __future__ import annotations

from typing_extensions import TypedDict

from vclone_core.actions.gitconnections import Connected
from vclone_core.models import GitConnection, GitReport, PastDelivery, PullRequest


class ReceivedShape(TypedDict):
    """`projects` follow the repository; for `new` of them this delivery was not known yet."""

    delivery: str
    projects: int
    new: int


class ConnectionShape(TypedDict):
    id: str
    host: str
    api_url: str
    repository: str
    account: str
    git_app_id: str | None
    webhook_url: str
    created_at: str


class NewConnectionShape(ConnectionShape):
    """`secret`: the webhook's, shown this once; null where the one before goes on."""

    secret: str | None


class GitDeliveryShape(TypedDict):
    number: int
    delivery_id: str
    event: str
    ref: str | None
    state: str
    outcome: str | None
    detail: str
    deployment_id: str | None
    received_at: str


class GitDeliveryList(TypedDict):
    items: list[GitDeliveryShape]


class ReportShape(TypedDict):
    part: str
    subject: str
    state: str
    problem: str
    attempt: int
    updated_at: str


class ReportList(TypedDict):
    items: list[ReportShape]


class RepeatedReports(TypedDict):
    repeated: int


class PullRequestShape(TypedDict):
    number: int
    is_open: bool
    title: str
    author: str
    head_repository: str
    head_ref: str
    head_sha: str
    is_fork: bool
    waits_for_approval: bool


class PullRequestList(TypedDict):
    items: list[PullRequestShape]
    next_cursor: str | None


def shape_connection(connection: GitConnection, webhook_url: str) -> ConnectionShape:
    return {
        "id": connection.id,
        "host": connection.host,
        "api_url": connection.api_url,
        "repository": connection.repository,
        "account": connection.account,
        "git_app_id": connection.git_app_id,
        "webhook_url": webhook_url,
        "created_at": connection.created_at.isoformat(),
    }


def shape_connected(made: Connected) -> NewConnectionShape:
    return {**shape_connection(made.connection, made.webhook_url), "secret": made.secret}


def shape_delivery(delivery: PastDelivery) -> GitDeliveryShape:
    return {
        "number": delivery.number,
        "delivery_id": delivery.delivery_id,
        "event": delivery.event,
        "ref": delivery.ref,
        "state": delivery.state,
        "outcome": delivery.outcome,
        "detail": delivery.detail,
        "deployment_id": delivery.deployment_id,
        "received_at": delivery.received_at.isoformat(),
    }


def shape_report(report: GitReport) -> ReportShape:
    return {
        "part": report.part,
        "subject": report.subject,
        "state": report.state,
        "problem": report.problem,
        "attempt": report.attempt,
        "updated_at": report.updated_at.isoformat(),
    }


def shape_pull_request(pull: PullRequest) -> PullRequestShape:
    return {
        "number": pull.number,
        "is_open": pull.is_open,
        "title": pull.title,
        "author": pull.author,
        "head_repository": pull.head_repository,
        "head_ref": pull.head_ref,
        "head_sha": pull.head_sha,
        "is_fork": pull.is_fork,
        "waits_for_approval": pull.waits_for_approval,
    }
