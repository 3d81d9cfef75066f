"""What becomes of what a git host tells: which pushes deploy, which are late, what a pull request asks for; and the
words in which a host is told how it went.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from vclone_core.models import (
    Deployment,
    DeploymentEntry,
    Project,
    PullComment,
    PullRequest,
    PullRequestChanged,
    State,
    StatusState,
    Target,
)
from vclone_core.rules.webhooks import is_nothing

# As GitHub's own refs/pull/7/head. It is only a name here: a fork's commit is asked for by its id.
_FORK_REF: Final = "pull/{number}"
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]<>()#+!|~@&])")


class Outcome(StrEnum):
    """What came of a delivery."""

    DEPLOYED = "deployed"
    KNOWN = "known"  # the commit is deployed already, or on its way
    OLDER = "older"  # something newer has arrived before it
    REMOVED = "removed"  # its preview is gone
    NOTED = "noted"
    WAITS = "waits"  # a fork's commit that nobody has approved yet
    IGNORED = "ignored"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PastPush:
    """One earlier push of a branch that counted; `sha` is empty where the branch was deleted."""

    before: str
    sha: str


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest deployment of a ref: its commit, and whether it came to anything or still may."""

    deployment_id: str
    sha: str | None
    state: State


def is_late(*, before: str, sha: str, past: Sequence[PastPush]) -> bool:
    """Say whether a push (a deletion has no `sha`) is older than what has arrived of its branch already.

    `past` is in the order of arrival. Hosts send each push on its own, and again what failed: the commits before and
    after tell the order where times can't. A push that nothing is known of counts as newer.

    >>> is_late(before="a", sha="b", past=[PastPush("b", "c")])
    True
    >>> is_late(before="c", sha="b", past=[PastPush("b", "c")])
    False
    """
    if not past or (before or "") == past[-1].sha:
        return False
    if is_nothing(sha):
        return before in {push.sha for push in past}
    return sha in {push.before for push in past}


def is_whole(sha: str) -> bool:
    """Say whether a commit's id is all of it."""
    return len(sha) in (40, 64)


def is_there(sha: str, newest: Newest | None) -> bool:
    """Say whether a commit needs no deployment, given the newest one of its branch."""
    return newest is not None and newest.sha == sha and newest.state not in (State.FAILED, State.CANCELLED)


def name_preview(event: PullRequestChanged) -> str:
    """Return the ref of a pull request's deployments: its branch, or for a fork a name of its own.

    A fork's branch may be called as one of the project's: it must get neither that one's host nor its place.
    """
    return _FORK_REF.format(number=event.number) if is_fork(event) else event.head_ref


def is_fork(event: PullRequestChanged) -> bool:
    """Say whether a pull request comes from another repository; where that isn't known it does."""
    return event.head_repository.lower() != event.repository.lower()


def is_same_origin(url: str | None, other: str | None) -> bool:
    """Say whether two addresses are of one server: a fork lies where its project lies."""
    if not url or not other:
        return False
    try:
        one, two = urlsplit(url), urlsplit(other)
        return (one.scheme, one.netloc.lower()) == (two.scheme, two.netloc.lower())
    except ValueError:
        return False


def find_repository(git_url: str) -> tuple[str, str]:
    """Return the server of a clone address (`https://host[:port]`) and the repository's full name.

    >>> find_repository("https://git.example:8443/group/sub/app.git")
    ('https://git.example:8443', 'group/sub/app')
    """
    parts = urlsplit(git_url)
    return f"{parts.scheme}://{parts.netloc}", parts.path.strip("/").removesuffix(".git")


def is_of_repository(git_url: str | None, repository: str) -> bool:
    """Say whether a clone address is of a repository that its host calls so.

    >>> is_of_repository("https://x/git/acme/Shop.git", "acme/shop"), is_of_repository("https://x/acme/shop", "e/shop")
    (True, False)
    """
    return f"/{find_repository(git_url or '')[1]}".lower().endswith(f"/{repository.lower()}")


# What a deployment's state is called at a host, and in words.
_WORDS: Final[Mapping[State, tuple[StatusState, str]]] = MappingProxyType(
    {
        State.QUEUED: (StatusState.PENDING, "Waiting to be built"),
        State.BUILDING: (StatusState.PENDING, "Being built"),
        State.READY: (StatusState.SUCCESS, "Ready"),
        State.FAILED: (StatusState.FAILURE, "Failed"),
        State.CANCELLED: (StatusState.CANCELLED, "Cancelled"),
        State.SKIPPED: (StatusState.SUCCESS, "Skipped"),
    }
)
DESCRIPTION_LENGTH: Final = 140  # GitHub's limit for a status, the shortest of all


def describe_state(deployment: Deployment) -> tuple[StatusState, str]:
    """Return a deployment's state as a host is told it, and one line about it."""
    state, words = _WORDS[deployment.state]
    if deployment.failure is not None:
        words = f"{words}: {deployment.failure.sentence}"
    elif deployment.reason:
        words = f"{words}: {deployment.reason}"
    line = " ".join(words.split())
    return state, line if len(line) <= DESCRIPTION_LENGTH else f"{line[: DESCRIPTION_LENGTH - 1]}…"


def describe_entry(project: Project, deployment: Deployment, *, url: str, log_url: str) -> DeploymentEntry:
    """Return the entry of a deployment at its host."""
    state, words = describe_state(deployment)
    is_production = deployment.target is Target.PRODUCTION
    return DeploymentEntry(
        sha=deployment.source.sha or "",
        environment=f"{project.name} {'production' if is_production else 'preview'}",
        is_production=is_production,
        state=state,
        is_under_way=deployment.state is State.BUILDING,
        description=words,
        url=url if deployment.state is State.READY else "",
        log_url=log_url,
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """Where a deployment is seen: its own address, its branch's (empty: none), and its page with the log."""

    url: str
    branch_url: str
    log_url: str


def write_comment(
    project: Project,
    pull: PullRequest,
    deployment: Deployment | None,
    shown: Shown | None,
    *,
    project_url: str,
    marker: str,
) -> PullComment:
    """Return the comment on a pull request as things stand; it begins with `marker`, which is not shown."""
    name = escape_markdown(project.name)
    commit = f"`{pull.head_sha[:12]}`"
    if not pull.is_open:
        lines = [f"The preview of **{name}** is gone, since this pull request is closed."]
    elif pull.waits_for_approval:
        lines = [
            f"**{name}**: {commit} comes from another repository. A member of the team looks at it and"
            f" [approves it]({project_url}), then it is built, without the project's secrets."
        ]
    elif deployment is None or shown is None:
        lines = [f"**{name}**: {commit} is not deployed yet."]
    else:
        _, words = describe_state(deployment)
        sha = (deployment.source.sha or "")[:12]
        ready = deployment.state is State.READY
        lines = [
            f"| Project | Deployment | Commit | Preview | Log |\n|---|---|---|---|---|\n| **{name}** |"
            f" {escape_markdown(words)} | `{sha or pull.head_sha[:12]}` |"
            f" {f'[Visit]({shown.branch_url or shown.url})' if ready else ''} | [Log]({shown.log_url}) |"
        ]
        if ready:
            lines.append(f"This very build: {shown.url}")
    return PullComment(pull.number, "\n\n".join([marker, *lines]), marker)


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, on one line.

    >>> escape_markdown("a|b <x>")
    'a\\\\|b \\\\<x\\\\>'
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


BACKOFF_S: Final = (5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0)


def decide_rest(attempt: int, *, asked_s: float | None = None) -> float | None:
    """Return how long to wait after the failure of an attempt (from 1); None: it is given up.

    `asked_s` is what the host asked for.

    >>> decide_rest(1), decide_rest(2, asked_s=40.0), decide_rest(8)
    (5.0, 40.0, None)
    """
    if attempt > len(BACKOFF_S):
        return None
    return min(max(BACKOFF_S[attempt - 1], asked_s or 0.0), BACKOFF_S[-1])
