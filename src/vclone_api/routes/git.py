"""Webhooks of git hosts, connections, pull requests."""

from __future__ import annotations

from typing import Final

from ..bodies import PagedQuery
from ..git_bodies import Approval, DeliveriesQuery, NewConnection, WebhookQuery
from ..guard import OPEN, Route
from ..views import git, git_shapes, shapes

SEE: Final = "see a project"
CONNECT: Final = "connect a repository"
OF_PROJECT: Final = "/api/projects/<project>/git"

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "POST",
        "/api/webhooks/<host>",
        git.receive_webhook,
        OPEN,
        git_shapes.ReceivedShape,
        status=202,
        query=WebhookQuery,
        takes="application/json",
        time_limit_s=60.0,
        is_audited=False,  # the deliveries are kept
    ),
    Route("GET", OF_PROJECT, git.show_connection, SEE, git_shapes.ConnectionShape),
    Route("PUT", OF_PROJECT, git.connect_repository, CONNECT, git_shapes.NewConnectionShape, body=NewConnection),
    Route("DELETE", OF_PROJECT, git.disconnect_repository, CONNECT, status=204),
    Route(
        "GET",
        f"{OF_PROJECT}/deliveries",
        git.list_git_deliveries,
        SEE,
        git_shapes.GitDeliveryList,
        query=DeliveriesQuery,
    ),
    Route(
        "POST",
        f"{OF_PROJECT}/deliveries/<delivery>/repeat",
        git.repeat_delivery,
        CONNECT,
        git_shapes.GitDeliveryShape,
        status=202,
    ),
    Route("GET", f"{OF_PROJECT}/reports", git.list_reports, SEE, git_shapes.ReportList),
    Route("POST", f"{OF_PROJECT}/reports/repeat", git.repeat_reports, CONNECT, git_shapes.RepeatedReports, status=202),
    Route(
        "GET", f"{OF_PROJECT}/pull-requests", git.list_pull_requests, SEE, git_shapes.PullRequestList, query=PagedQuery
    ),
    Route(
        "POST",
        f"{OF_PROJECT}/pull-requests/<number>/approve",
        git.approve_pull_request,
        "approve a pull request",
        shapes.DeploymentShape,
        status=201,
        body=Approval,
    ),
)
