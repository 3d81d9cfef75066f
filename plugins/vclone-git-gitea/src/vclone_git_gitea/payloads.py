"""Gitea's and Forgejo's webhooks as events. https://docs.gitea.com/usage/repository/webhooks"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from vclone_core import webhooks
from vclone_core.models import BranchDeleted, Delivery, GitEvent, Ignored, PullRequestChanged

Payload = Mapping[str, Any]

ACTIONS: Final = frozenset({"opened", "reopened", "synchronized", "closed", "edited"})


def read_deliveries(headers: Sequence[tuple[str, str]], body: bytes, secret: str) -> Sequence[Delivery]:
    """Return the delivery in a request whose signature is right; Forgejo sends its own fields beside Gitea's."""
    webhooks.check_signature(secret, body, field(headers, "signature"))
    payload = webhooks.parse_payload(body, webhooks.one_header(headers, "content-type"))
    name, delivery_id = field(headers, "event")[:100], webhooks.check_delivery_id(field(headers, "delivery"))
    read = READERS.get(name)
    if read is None:
        event: GitEvent = Ignored(f"{name or 'an unnamed event'} asks for nothing here", repository_of(payload))
    else:
        event = read(payload)
    return (Delivery(delivery_id, name, event),)


def field(headers: Sequence[tuple[str, str]], name: str) -> str:
    return webhooks.one_header(headers, f"x-gitea-{name}") or webhooks.one_header(headers, f"x-forgejo-{name}")


def repository_of(payload: Payload) -> str:
    return webhooks.dig_text(payload, "repository.full_name")


def read_push(payload: Payload) -> GitEvent:
    return webhooks.read_push(
        repository_of(payload),
        webhooks.dig_text(payload, "ref"),
        webhooks.dig_text(payload, "before"),
        webhooks.dig_text(payload, "after"),
        message=webhooks.dig_text(payload, "head_commit.message", limit=2000),
        author=webhooks.dig_text(payload, "head_commit.author.name"),
    )


def read_delete(payload: Payload) -> GitEvent:
    repository, ref = repository_of(payload), webhooks.dig_text(payload, "ref")
    if webhooks.dig_text(payload, "ref_type") != "branch" or not ref:
        return Ignored("a deleted tag had no preview", repository)
    return BranchDeleted(repository, webhooks.branch_of(ref) or ref, "")


def read_pull_request(payload: Payload) -> GitEvent:
    repository, action = repository_of(payload), webhooks.dig_text(payload, "action", limit=50)
    pull = webhooks.dig(payload, "pull_request")
    if action not in ACTIONS:
        return Ignored(f"{action or 'this'} changes nothing of a preview", repository)
    return PullRequestChanged(
        repository,
        webhooks.dig_number(pull, "number", what="pull request"),
        is_open=webhooks.dig_text(pull, "state") == "open",
        head_repository=webhooks.dig_text(pull, "head.repo.full_name"),
        head_url=webhooks.dig_text(pull, "head.repo.clone_url") or None,
        head_ref=webhooks.dig_text(pull, "head.ref"),
        head_sha=webhooks.dig_text(pull, "head.sha"),
        title=webhooks.dig_text(pull, "title"),
        author=webhooks.dig_text(pull, "user.login"),
        changed_at_s=webhooks.read_time(webhooks.dig_text(pull, "updated_at")),
    )


READERS: Final[Mapping[str, Callable[[Payload], GitEvent]]] = {
    "push": read_push,
    "delete": read_delete,
    "pull_request": read_pull_request,
    "pull_request_sync": read_pull_request,
}
