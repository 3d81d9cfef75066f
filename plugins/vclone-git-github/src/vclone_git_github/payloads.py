"""GitHub's webhooks as events. https://docs.github.com/en/webhooks/webhook-events-and-payloads"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from vclone_core import errors, webhooks
from vclone_core.models import Delivery, GitEvent, Ignored, Ping, PullRequestChanged

Payload = Mapping[str, Any]

# The actions of `pull_request` after which its preview may have to be another one.
ACTIONS: Final = frozenset({"opened", "reopened", "synchronize", "closed", "ready_for_review", "edited"})


def read_deliveries(headers: Sequence[tuple[str, str]], body: bytes, secret: str) -> Sequence[Delivery]:
    """Return the delivery in a request whose `X-Hub-Signature-256` is right.

    `X-Hub-Signature` is SHA-1, which GitHub sends for old receivers; it never counts.
    """
    signature = webhooks.one_header(headers, "x-hub-signature-256")
    if not signature.startswith("sha256="):
        raise errors.BadSignature()
    webhooks.check_signature(secret, body, signature.removeprefix("sha256="))
    payload = webhooks.parse_payload(body, webhooks.one_header(headers, "content-type"))
    name = webhooks.one_header(headers, "x-github-event")
    delivery_id = webhooks.check_delivery_id(webhooks.one_header(headers, "x-github-delivery"))
    read = READERS.get(name)
    if read is None:
        event: GitEvent = Ignored(f"{name[:100] or 'an unnamed event'} asks for nothing here", repository_of(payload))
    else:
        event = read(payload)
    happened_at_s = webhooks.dig_moment(payload, "repository.pushed_at") if name == "push" else None
    return (Delivery(delivery_id, name[:100], event, happened_at_s),)


def repository_of(payload: Payload) -> str:
    return webhooks.dig_text(payload, "repository.full_name")


def read_ping(payload: Payload) -> GitEvent:
    return Ping(repository_of(payload))


def read_push(payload: Payload) -> GitEvent:
    return webhooks.read_push(
        repository_of(payload),
        webhooks.dig_text(payload, "ref"),
        webhooks.dig_text(payload, "before"),
        webhooks.dig_text(payload, "after"),
        message=webhooks.dig_text(payload, "head_commit.message", limit=2000),
        author=webhooks.dig_text(payload, "head_commit.author.name"),
        is_deleted=payload.get("deleted") is True,
    )


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


# `delete` tells nothing that the push before it hasn't told, and not which commit was there.
READERS: Final[Mapping[str, Callable[[Payload], GitEvent]]] = {
    "ping": read_ping,
    "push": read_push,
    "pull_request": read_pull_request,
}
