"""A recording server that stands in for the REST side of git hosts, and for nothing else of them.

It keeps what it was asked, gives ids, and remembers statuses, entries and comments as the hosts document them. It is no
GitHub: it checks the token, and neither rights nor fields that vclone doesn't send.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

TOKEN = "host-token-0123456789"


@dataclass
class HostServer:
    """The server's address and what it holds. `answers_with`: a status it answers everything with, for a while."""

    url: str = ""
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    statuses: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    entries: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, dict[str, Any]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    answers_with: int | None = None
    says: str = "Not now"
    answer_headers: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(101))

    def of_sha(self, sha: str) -> list[str]:
        """The states a commit was given, in their order."""
        return [status["state"] for one, status in self.statuses if one == sha]

    def comments_on(self, number: int) -> list[str]:
        return [one["body"] for one in self.comments.values() if one["number"] == number]

    async def answer(self, request: web.Request) -> web.Response:
        text = await request.text()
        body = json.loads(text) if text else None
        self.asked.append((request.method, request.path, body))
        if self.answers_with is not None:
            return web.json_response({"message": self.says}, status=self.answers_with, headers=self.answer_headers)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            given = base64.b64decode(given).decode().partition(":")[2]
        is_open = request.path.startswith("/app-manifests/")
        if not is_open and given not in self.tokens and not given.startswith("eyJ"):
            return web.json_response({"message": "Bad credentials"}, status=401)
        for method, pattern, view in self.views():
            if request.method == method and (found := _match(pattern, request.path)) is not None:
                return view(found, body, request)
        return web.json_response({"message": "Not Found"}, status=404)

    def views(self) -> list[tuple[str, str, Any]]:
        return [
            ("POST", "/repos/*/*/statuses/*", self.take_status),
            ("GET", "/repos/*/*/deployments", lambda found, body, request: web.json_response([])),
            ("POST", "/repos/*/*/deployments", self.take_entry),
            ("POST", "/repos/*/*/deployments/*/statuses", self.take_entry_status),
            ("GET", "/repos/*/*/issues/*/comments", self.list_comments),
            ("POST", "/repos/*/*/issues/*/comments", self.take_comment),
            ("PATCH", "/repos/*/*/issues/comments/*", self.change_comment),
            ("POST", "/app-manifests/*/conversions", self.convert),
            ("GET", "/repos/*/*/installation", lambda found, body, request: web.json_response({"id": 55})),
            ("POST", "/app/installations/*/access_tokens", self.give_token),
        ]

    def take_status(self, found: list[str], body: Any, request: web.Request) -> web.Response:
        self.statuses.append((found[2], body))
        return web.json_response({"id": next(self._ids)}, status=201)

    def take_entry(self, found: list[str], body: Any, request: web.Request) -> web.Response:
        number = next(self._ids)
        self.entries[number] = {**body, "states": []}
        return web.json_response({"id": number}, status=201)

    def take_entry_status(self, found: list[str], body: Any, request: web.Request) -> web.Response:
        self.entries[int(found[2])]["states"].append(body["state"])
        return web.json_response({"id": next(self._ids)}, status=201)

    def list_comments(self, found: list[str], body: Any, request: web.Request) -> web.Response:
        number = int(found[2])
        return web.json_response([{"id": key, **one} for key, one in self.comments.items() if one["number"] == number])

    def take_comment(self, found: list[str], body: Any, request: web.Request) -> web.Response:
        key = next(self._ids)
        self.comments[key] = {"number": int(found[2]), "body": body["body"]}
        return web.json_response({"id": key}, status=201)

    def change_comment(self, found: list[str], body: Any, request: web.Request) -> web.Response:
        key = int(found[2])
        if key not in self.comments:
            return web.json_response({"message": "Not Found"}, status=404)
        self.comments[key]["body"] = body["body"]
        return web.json_response({"id": key})

    def convert(self, found: list[str], body: Any, request: web.Request) -> web.Response:
        made = self.manifests.pop(found[0], None)
        return web.json_response(made or {"message": "Not Found"}, status=201 if made else 404)

    def give_token(self, found: list[str], body: Any, request: web.Request) -> web.Response:
        token = f"ghs_{next(self._ids):036}"
        self.tokens.add(token)
        return web.json_response({"token": token, "expires_at": "2100-01-01T00:00:00Z"}, status=201)


def _match(pattern: str, path: str) -> list[str] | None:
    """Return what stands for the stars of a pattern; None where the path is another."""
    wanted, given = pattern.split("/"), path.split("/")
    if len(wanted) != len(given):
        return None
    if any(want not in ("*", got) for want, got in zip(wanted, given, strict=True)):
        return None
    return [got for want, got in zip(wanted, given, strict=True) if want == "*"]


@asynccontextmanager
async def serve_host() -> AsyncIterator[HostServer]:
    """Run the server on a loopback port."""
    server = HostServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()
