"""What git hosts tell us and are told: events, pull requests, statuses. Frozen, the same for every host."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Push:
    """A branch that points at another commit, or a new one. `before` is empty for a new branch."""

    repository: str
    ref: str
    before: str
    sha: str
    message: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True)
class BranchDeleted:
    """A branch that is gone; `before` is what it pointed at, empty where the host doesn't say."""

    repository: str
    ref: str
    before: str


@dataclass(frozen=True, slots=True)
class PullRequestChanged:
    """A pull request as it is now. `head_url` is where its repository is cloned from; None: that one is gone.

    It comes from a fork where `head_repository` is not `repository`; `head_sha` may be a part only, which the host then
    completes; `changed_at_s` is Unix time by the host's clock,
    None where the host doesn't say.
    """

    repository: str
    number: int
    is_open: bool
    head_repository: str
    head_url: str | None
    head_ref: str
    head_sha: str
    title: str = ""
    author: str = ""
    changed_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """The host tries the webhook out."""

    repository: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Something that asks for nothing here; `reason` ends a sentence that begins with what it was."""

    reason: str
    repository: str = ""


GitEvent = Push | BranchDeleted | PullRequestChanged | Ping | Ignored


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request of a webhook whose signature was right. `id` and `name` are the host's: its id and kind of event.

    `happened_at_s`: when what it tells of happened, in Unix time, where the signed body says so.
    """

    id: str
    name: str
    event: GitEvent
    happened_at_s: float | None = None


class StatusState(StrEnum):
    """What a commit's status says; each host has its own words for it."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """A commit's status. `context` is the same for all of a project's, `url` leads to the log or the preview."""

    sha: str
    state: StatusState
    context: str
    description: str
    url: str


@dataclass(frozen=True, slots=True)
class DeploymentEntry:
    """One deployment as a host may list it: where it is to be seen and how it fares."""

    sha: str
    environment: str
    is_production: bool
    state: StatusState
    is_under_way: bool
    description: str
    url: str
    log_url: str


@dataclass(frozen=True, slots=True)
class PullComment:
    """The one comment on a pull request, in Markdown; `marker` stands in it, and in no other project's."""

    number: int
    text: str
    marker: str


@dataclass(frozen=True, slots=True)
class GitConnection:
    """A project that follows a repository. `git_app_id`: by an App; else by a webhook of its own."""

    id: str
    project_id: str
    host: str
    api_url: str
    repository: str
    account: str
    git_app_id: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request of a connected project. `preview_ref` is what its deployments have as their ref."""

    number: int
    is_open: bool
    title: str
    author: str
    head_repository: str
    head_url: str | None
    head_ref: str
    head_sha: str
    is_fork: bool
    preview_ref: str
    approved_sha: str | None

    @property
    def waits_for_approval(self) -> bool:
        """Whether its newest commit is another repository's and nobody has approved it."""
        return self.is_open and self.is_fork and self.approved_sha != self.head_sha


@dataclass(frozen=True, slots=True)
class PastDelivery:
    """One delivery as it is kept. `outcome` is a word, `detail` the sentence behind it."""

    number: int
    delivery_id: str
    event: str
    ref: str | None
    state: str
    outcome: str | None
    detail: str
    deployment_id: str | None
    received_at: datetime


@dataclass(frozen=True, slots=True)
class GitReport:
    """Something a host was, or is to be, told; `problem` says why it wasn't."""

    part: str
    subject: str
    state: str
    problem: str
    attempt: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class GitApp:
    """An App at a git host. `app_id` None: the person hasn't come back from the host yet."""

    id: str
    host: str
    api_url: str
    app_id: str | None
    slug: str | None
    url: str | None
    created_at: datetime
