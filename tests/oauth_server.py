"""A recording server that stands in for GitHub's web application flow, and for nothing else of GitHub.

It keeps to what GitHub documents: a code is good once, for its client, its exact redirect URI and the PKCE challenge it
was asked with; a wrong one is answered with status 200 and `error`; `/user` and `/user/emails` want the token.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

CLIENT_ID, CLIENT_SECRET = "client-1", "client-secret-1"


@dataclass
class Person:
    """An account there. `emails` are GitHub's rows."""

    id: int
    login: str
    emails: list[dict[str, Any]]
    name: str | None = None


@dataclass
class OAuthServer:
    """The server's address and what it was asked. `is_broken`: it answers 500 to everything."""

    url: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    is_broken: bool = False
    _codes: dict[str, tuple[Person, dict[str, str]]] = field(default_factory=dict)
    _tokens: dict[str, Person] = field(default_factory=dict)

    def consent(self, authorise_url: str, person: Person) -> tuple[str, str]:
        """Do what GitHub does when `person` says yes on the page at `authorise_url`: return (code, state)."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(authorise_url).query).items()}
        assert authorise_url.startswith(self.url) and query["client_id"] == CLIENT_ID
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_hex(10)
        self._codes[code] = (person, query)
        return code, query["state"]

    async def give_token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(("token", form))
        if self.is_broken:
            return web.Response(status=500)
        person, query = self._codes.pop(form.get("code", ""), (None, {}))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        is_right = (
            (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
            and form.get("redirect_uri") == query.get("redirect_uri")
            and challenge == query.get("code_challenge")
        )
        if person is None or not is_right:
            return web.json_response({"error": "bad_verification_code"})
        token = f"gho_{secrets.token_hex(18)}"
        self._tokens[token] = person
        return web.json_response({"access_token": token, "token_type": "bearer", "scope": "read:user,user:email"})

    async def show_user(self, request: web.Request) -> web.Response:
        if (person := self._person(request)) is None:
            return web.json_response({"message": "Bad credentials"}, status=401)
        return web.json_response({"id": person.id, "login": person.login, "name": person.name})

    async def show_emails(self, request: web.Request) -> web.Response:
        if (person := self._person(request)) is None:
            return web.json_response({"message": "Bad credentials"}, status=401)
        return web.json_response(person.emails)

    def _person(self, request: web.Request) -> Person | None:
        self.asked.append((request.path, {"authorization": request.headers.get("Authorization", "")}))
        return self._tokens.get(request.headers.get("Authorization", "").removeprefix("Bearer "))


@asynccontextmanager
async def serve_oauth() -> AsyncIterator[OAuthServer]:
    """Run the server on a loopback port."""
    server = OAuthServer()
    app = web.Application()
    app.router.add_post("/login/oauth/access_token", server.give_token)
    app.router.add_get("/api/v3/user", server.show_user)
    app.router.add_get("/api/v3/user/emails", server.show_emails)
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
