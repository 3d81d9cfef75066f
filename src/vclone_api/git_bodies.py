"""What clients may send about git hosts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from .bodies import Body, Line, Query


class NewConnection(Body):
    """`host` names the kind of git host (`github`); `git_url` the repository, null: the project's own.

    `repository` is what the host calls it, where the server lies below a path; `api_url` is for a host whose API isn't
    at its usual place. `new_secret`: make a new one for the webhook.
    """

    host: Annotated[Line, Field(min_length=1, max_length=50)]
    git_url: Line | None = None
    repository: Line | None = None
    api_url: Line | None = None
    token: Annotated[str, StringConstraints(min_length=8, max_length=1000)] | None = None
    account: Line = ""
    git_app_id: Line | None = None
    new_secret: bool = False


class Approval(Body):
    """`sha`: the commit that was looked at."""

    sha: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]


class WebhookQuery(Query):
    """`connection`: whose webhook it is; left out by Apps, whose deliveries name them."""

    connection: Annotated[str, StringConstraints(pattern=r"^gcn_[0-9a-z]{20}$")] | None = None


class DeliveriesQuery(Query):
    limit: Annotated[int, Field(ge=1, le=100)] = 50
