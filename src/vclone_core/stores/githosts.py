"""The APIs of git hosts, over the one guarded client: `HostClient` for plugins, made for one repository at a time."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from yarl import URL

from vclone_core.errors import AddressRefused, HostRefused, HostUnavailable
from vclone_core.protocols import HostAnswer
from vclone_core.stores.outbound import Outbound

ANSWER_S: Final = 10.0
ANSWER_LIMIT_BYTES: Final = 4 * 1024**2
REASON_LENGTH: Final = 300
# What says that it would do at another time.
_LATER: Final = frozenset({408, 423, 425, 429})


@dataclass(frozen=True, slots=True, repr=False)
class HostCaller:
    """A `HostClient`. `token` goes as `Bearer`, with an `account` beside it as a password (Basic)."""

    outbound: Outbound
    label: str
    api_url: str
    repository: str
    token: str
    account: str = ""

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        accept: Collection[int] = (),
        headers: Mapping[str, str] | None = None,
    ) -> HostAnswer:
        """Return an answer; see `HostClient`."""
        sent = {"User-Agent": "vclone", "Accept": "application/json", **self._authorise(), **(headers or {})}
        data = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        named = [(name.encode(), value.encode()) for name, value in sent.items()]
        url = URL(self.api_url + path, encoded=True)
        try:
            async with asyncio.timeout(ANSWER_S):
                async with self.outbound.request(method, url, headers=named, data=data) as response:
                    status, fields = response.status, response.headers
                    read = await _read_bounded(response)
        except AddressRefused as error:
            raise HostRefused(host=self.label, why=error.sentence, hint=error.advice) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise HostUnavailable(host=self.label, why=_tell(error)) from error
        found = _parse(read)
        if status < 300 or status in accept:
            return HostAnswer(status, found)
        why = f"{method} {path.partition('?')[0]} was answered with {status}{_reason(found, self.token)}"
        if status >= 500 or status in _LATER or _is_limit(status, fields):
            raise HostUnavailable(host=self.label, why=why, retry_after_s=_rest(fields))
        raise HostRefused(host=self.label, why=why)

    def _authorise(self) -> dict[str, str]:
        if not self.token:
            return {}
        if not self.account:
            return {"Authorization": f"Bearer {self.token}"}
        return {"Authorization": "Basic " + base64.b64encode(f"{self.account}:{self.token}".encode()).decode()}


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    found = bytearray()
    async for piece in response.content.iter_chunked(64 * 1024):
        found += piece
        if len(found) > ANSWER_LIMIT_BYTES:
            raise aiohttp.ClientPayloadError("the answer is too large")
    return bytes(found)


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _reason(found: Any, token: str) -> str:
    """Return what the host says of it, behind a colon; without the token, should it repeat that."""
    said = found.get("message") or found.get("error") if isinstance(found, Mapping) else None
    if isinstance(said, Mapping):
        said = said.get("message")
    if not isinstance(said, str) or not said:
        return ""
    if token:
        said = said.replace(token, "…")
    return f": {' '.join(said.split())[:REASON_LENGTH]}"


def _is_limit(status: int, fields: Mapping[str, str]) -> bool:
    # GitHub answers 403 to who asks too much: https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
    return status == 403 and ("retry-after" in fields or fields.get("x-ratelimit-remaining") == "0")


def _rest(fields: Mapping[str, str]) -> float | None:
    """Return the seconds that a host asks to be left alone for; None where it doesn't say."""
    if (after := fields.get("retry-after", "")).isdigit():
        return float(after)
    if (reset := fields.get("x-ratelimit-reset", "")).isdigit():
        return max(float(reset) - time.time(), 0.0)
    return None


def _tell(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_S:.0f} seconds"
    return str(error)[:REASON_LENGTH] or type(error).__name__
