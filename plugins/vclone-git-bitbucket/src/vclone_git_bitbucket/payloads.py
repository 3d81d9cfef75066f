"""Bitbucket Cloud's webhooks as events. https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from vclone_core import errors, webhooks
from vclone_core.models import BranchDeleted, Delivery, GitEvent, Ignored, PullRequestChanged, Push

Payload = Mapping[str, Any]

PULL_EVENTS: Final = frozenset(f"pullrequest:{name}" for name in ("created", "updated", "fulfilled", "rejected"))
# Bitbucket puts at most five changed refs into one delivery, unless it is told otherwise.
CHANGES_LIMIT: Final = 100


def read_deliveries(headers: Sequence[tuple[str, str]], body: bytes, secret: str) -> Sequence[Delivery]:
    """Return what a request whose signature is right tells: one push may have changed several branches."""
    signature = webhooks.one_header(headers, "x-hub-signature")
    if not signature.startswith("sha256="):
        raise errors.BadSignature()
    webhooks.check_signature(secret, body, signature.removeprefix("sha256="))
    payload = webhooks.parse_payload(body, webhooks.one_header(headers, "content-type"))
    name = webhooks.one_header(headers, "x-event-key")[:100]
    delivery_id = webhooks.check_delivery_id(webhooks.one_header(headers, "x-request-uuid"))
    events = read_events(name, payload)
    if len(events) == 1:
        return (Delivery(delivery_id, name, events[0]),)
    return tuple(Delivery(f"{delivery_id[:90]}#{index}", name, event) for index, event in enumerate(events))


def read_events(name: str, payload: Payload) -> Sequence[GitEvent]:
    repository = repository_of(payload)
    if name in PULL_EVENTS:
        return (read_pull_request(payload),)
    changes = webhooks.dig(payload, "push.changes")
    if name == "repo:push" and isinstance(changes, list) and changes:
        return [read_change(repository, one) for one in changes[:CHANGES_LIMIT]]
    return (Ignored(f"{name or 'an unnamed event'} asks for nothing here", repository),)


def repository_of(payload: Payload) -> str:
    return webhooks.dig_text(payload, "repository.full_name")


def read_change(repository: str, change: Any) -> GitEvent:
    old, new = webhooks.dig(change, "old"), webhooks.dig(change, "new")
    named = new or old
    branch, before = webhooks.dig_text(named, "name"), webhooks.dig_text(old, "target.hash")
    if webhooks.dig_text(named, "type") not in ("branch", "named_branch") or not branch:
        return Ignored("a push of no branch deploys nothing", repository)
    if new is None:
        return BranchDeleted(repository, branch, before)
    author = webhooks.dig(new, "target.author")
    return Push(
        repository,
        branch,
        before,
        webhooks.dig_text(new, "target.hash"),
        message=webhooks.dig_text(new, "target.message", limit=2000),
        author=webhooks.dig_text(author, "user.display_name") or webhooks.dig_text(author, "raw"),
    )


def read_pull_request(payload: Payload) -> GitEvent:
    repository, pull = repository_of(payload), webhooks.dig(payload, "pullrequest")
    head = webhooks.dig_text(pull, "source.repository.full_name")
    return PullRequestChanged(
        repository,
        webhooks.dig_number(pull, "id", what="pull request"),
        is_open=webhooks.dig_text(pull, "state") == "OPEN",
        head_repository=head,
        head_url=f"https://bitbucket.org/{head}.git" if head else None,
        head_ref=webhooks.dig_text(pull, "source.branch.name"),
        head_sha=webhooks.dig_text(pull, "source.commit.hash"),
        title=webhooks.dig_text(pull, "title"),
        author=webhooks.dig_text(pull, "author.nickname") or webhooks.dig_text(pull, "author.display_name"),
        changed_at_s=webhooks.read_time(webhooks.dig_text(pull, "updated_on")),
    )
