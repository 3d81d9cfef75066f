"""GitHub's web application flow: authorise -> code -> access token -> user and verified addresses.

https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp

from vclone_core import Identity, errors

SCOPE: Final = "read:user user:email"
TIMEOUT_S: Final = 8.0
ANSWER_LIMIT_BYTES: Final = 1024**2


class GitHubProvider:
    """Who somebody is at GitHub. Its access token is used for two reads and kept nowhere."""

    label = "GitHub"

    def __init__(self, client_id: str, client_secret: str, *, url: str, api_url: str) -> None:
        self._client_id = client_id
        self._client_secret = client_secret
        self._url = url
        self._api_url = api_url
        self._session: aiohttp.ClientSession | None = None

    def authorise_url(self, *, state: str, code_challenge: str, redirect_uri: str) -> str:
        query = {
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": SCOPE,
            "state": state,
            "code_challenge": code_challenge,
            "code_challenge_method": "S256",
        }
        return f"{self._url}/login/oauth/authorize?{urlencode(query)}"

    async def identify(self, *, code: str, code_verifier: str, redirect_uri: str) -> Identity:
        form = {
            "client_id": self._client_id,
            "client_secret": self._client_secret,
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": code_verifier,
        }
        granted = await self._ask("POST", f"{self._url}/login/oauth/access_token", data=form)
        # GitHub answers 200 to a code that is wrong or used, with the reason in the body.
        token = granted.get("access_token") if isinstance(granted, dict) else None
        if not isinstance(token, str) or not token:
            raise errors.Unauthorised(sentence="GitHub refused this sign-in.", hint="Begin again.")
        user = await self._read("/user", token)
        addresses = await self._read("/user/emails", token)
        if not isinstance(user, dict) or not isinstance(user.get("id"), int) or not isinstance(addresses, list):
            raise errors.Unavailable(what="GitHub")
        return Identity(
            subject=str(user["id"]),
            name=str(user.get("name") or user.get("login") or ""),
            emails=verified_addresses(addresses),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _read(self, path: str, token: str) -> Any:
        headers = {"Authorization": f"Bearer {token}", "X-GitHub-Api-Version": "2022-11-28"}
        return await self._ask("GET", self._api_url + path, headers=headers)

    async def _ask(self, method: str, url: str, *, headers: dict[str, str] | None = None, **request: Any) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), cookie_jar=aiohttp.DummyCookieJar()
            )
        sent = {"Accept": "application/json", "User-Agent": "vclone", **(headers or {})}
        try:
            async with self._session.request(method, url, headers=sent, allow_redirects=False, **request) as answer:
                body = await read_bounded(answer)
                if answer.status in (400, 401, 403):
                    raise errors.Unauthorised(sentence="GitHub refused this sign-in.", hint="Begin again.")
                if answer.status != 200:
                    raise errors.Unavailable(what=f"GitHub ({answer.status})")
                return json.loads(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise errors.Unavailable(what="GitHub") from error


async def read_bounded(answer: aiohttp.ClientResponse) -> bytes:
    """Return a body of at most `ANSWER_LIMIT_BYTES`; raise `ValueError` for a larger one."""
    body = bytearray()
    async for chunk in answer.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > ANSWER_LIMIT_BYTES:
            raise ValueError("the answer is too large")
    return bytes(body)


def verified_addresses(addresses: list[Any]) -> tuple[str, ...]:
    """Return the addresses GitHub has verified, the primary one first.

    >>> verified_addresses([{"email": "a@x.y", "verified": False}, {"email": "b@x.y", "verified": True}])
    ('b@x.y',)
    """
    verified = [one for one in addresses if isinstance(one, dict) and one.get("verified") is True]
    verified.sort(key=lambda one: one.get("primary") is not True)
    return tuple(one["email"] for one in verified if isinstance(one.get("email"), str))
