"""GitLab's webhooks as events. https://docs.gitlab.com/user/project/integrations/webhook_events/"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from vclone_core import webhooks
from vclone_core.models import Delivery, GitEvent, Ignored, PullRequestChanged

Payload = Mapping[str, Any]

# Which field has an id depends on GitLab's version; the first stays the same when a delivery is sent again.
IDS: Final = ("idempotency-key", "x-gitlab-event-uuid", "x-gitlab-webhook-uuid")
# Everything else a merge request is told of changes nothing of a preview.
ACTIONS: Final = frozenset({"open", "reopen", "update", "close", "merge"})


def read_deliveries(headers: Sequence[tuple[str, str]], body: bytes, secret: str) -> Sequence[Delivery]:
    """Return the delivery in a request that carries the webhook's secret."""
    webhooks.check_token(secret, webhooks.one_header(headers, "x-gitlab-token"))
    payload = webhooks.parse_payload(body, webhooks.one_header(headers, "content-type"))
    name = webhooks.one_header(headers, "x-gitlab-event")[:100]
    found = next((text for one in IDS if (text := webhooks.one_header(headers, one))), "")
    delivery_id = webhooks.check_delivery_id(found)
    read = READERS.get(webhooks.dig_text(payload, "object_kind"))
    if read is None:
        event: GitEvent = Ignored(f"{name or 'an unnamed event'} asks for nothing here", repository_of(payload))
    else:
        event = read(payload)
    return (Delivery(delivery_id, name, event),)


def repository_of(payload: Payload) -> str:
    return webhooks.dig_text(payload, "project.path_with_namespace")


def read_push(payload: Payload) -> GitEvent:
    after, commits = webhooks.dig_text(payload, "after"), webhooks.dig(payload, "commits")
    listed = commits if isinstance(commits, list) else []
    commit = next((one for one in listed if webhooks.dig_text(one, "id") == after), None)
    return webhooks.read_push(
        repository_of(payload),
        webhooks.dig_text(payload, "ref"),
        webhooks.dig_text(payload, "before"),
        after,
        message=webhooks.dig_text(commit, "message", limit=2000),
        author=webhooks.dig_text(commit, "author.name") or webhooks.dig_text(payload, "user_name"),
    )


def read_merge_request(payload: Payload) -> GitEvent:
    repository = repository_of(payload)
    request = webhooks.dig(payload, "object_attributes")
    action = webhooks.dig_text(request, "action", limit=50)
    if action not in ACTIONS:
        return Ignored(f"{action or 'this'} changes nothing of a preview", repository)
    return PullRequestChanged(
        repository,
        webhooks.dig_number(request, "iid", what="merge request"),
        # `locked` is a merge under way.
        is_open=webhooks.dig_text(request, "state") in ("opened", "locked"),
        head_repository=webhooks.dig_text(request, "source.path_with_namespace"),
        head_url=webhooks.dig_text(request, "source.git_http_url") or None,
        head_ref=webhooks.dig_text(request, "source_branch"),
        head_sha=webhooks.dig_text(request, "last_commit.id"),
        title=webhooks.dig_text(request, "title"),
        author=webhooks.dig_text(payload, "user.username"),
        changed_at_s=webhooks.read_time(webhooks.dig_text(request, "updated_at")),
    )


READERS: Final[Mapping[str, Callable[[Payload], GitEvent]]] = {
    "push": read_push,
    "merge_request": read_merge_request,
}
