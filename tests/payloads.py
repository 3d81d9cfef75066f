"""Webhook requests of git hosts, written by hand: as small as what is read of them allows, signed as the host does."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

ZERO = "0" * 40
SHAS = tuple(letter * 40 for letter in "abcdef")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Request:
    """One request: header fields and raw body."""

    headers: tuple[tuple[str, str], ...]
    body: bytes

    def without(self, *names: str) -> Request:
        return replace(self, headers=tuple(one for one in self.headers if one[0].lower() not in names))

    def with_header(self, name: str, value: str) -> Request:
        return replace(self.without(name.lower()), headers=(*self.without(name.lower()).headers, (name, value)))

    def header(self, name: str) -> str:
        return next(value for key, value in self.headers if key.lower() == name)


@dataclass
class GitHubRepository:
    """A repository on GitHub whose webhook has `secret`."""

    name: str = "acme/shop"
    secret: str = "hook-secret"
    app_id: str = ""
    clock: itertools.count[int] = field(default_factory=lambda: itertools.count(int(time.time())))

    def request(self, event: str, payload: Mapping[str, Any], *, delivery: str | None = None) -> Request:
        body = json.dumps(payload).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("User-Agent", "GitHub-Hookshot/0000000"),
            ("X-GitHub-Event", event),
            ("X-GitHub-Delivery", delivery or f"d0000000-0000-0000-0000-{next(_numbers):012}"),
            ("X-Hub-Signature", f"sha1={hmac.new(self.secret.encode(), body, hashlib.sha1).hexdigest()}"),
            ("X-Hub-Signature-256", f"sha256={hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()}"),
        ]
        if self.app_id:
            headers += [
                ("X-GitHub-Hook-Installation-Target-Type", "integration"),
                ("X-GitHub-Hook-Installation-Target-ID", self.app_id),
            ]
        return Request(tuple(headers), body)

    def ping(self) -> Request:
        return self.request("ping", {"zen": "Design for failure.", "repository": self.repository()})

    def push(
        self,
        branch: str,
        before: str,
        after: str,
        *,
        message: str = "Change it",
        delivery: str | None = None,
        pushed_s: int | None = None,
    ) -> Request:
        is_gone = after == ZERO
        commit = {"id": after, "message": message, "author": {"name": "Ada"}}
        payload = {
            "ref": f"refs/heads/{branch}",
            "before": before,
            "after": after,
            "created": before == ZERO,
            "deleted": is_gone,
            "head_commit": None if is_gone else commit,
            "repository": {**self.repository(), **({} if pushed_s is None else {"pushed_at": pushed_s})},
        }
        return self.request("push", payload, delivery=delivery)

    def pull(
        self,
        number: int,
        branch: str,
        sha: str,
        *,
        action: str = "opened",
        fork: str | None = None,
        clone_url: str | None = "https://github.example/x.git",
        updated_s: int | None = None,
    ) -> Request:
        seconds = next(self.clock) if updated_s is None else updated_s
        head = None if clone_url is None else {"full_name": fork or self.name, "clone_url": clone_url}
        payload = {
            "action": action,
            "number": number,
            "pull_request": {
                "number": number,
                "state": "closed" if action == "closed" else "open",
                "title": "A <b>better</b> shop",
                "user": {"login": "eve" if fork else "ada"},
                "head": {"ref": branch, "sha": sha, "repo": head},
                "base": {"ref": "main"},
                "updated_at": f"{_iso(seconds)}",
            },
            "repository": self.repository(),
        }
        return self.request("pull_request", payload)

    def repository(self) -> dict[str, Any]:
        return {"full_name": self.name, "id": 7, "pushed_at": next(self.clock)}


def _iso(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
