"""How often who may call what: one table of classes, and every route and page falls into one of them.

Counted is by credential where one is sent (a token, a session), else by address. The count comes before the look-up of
who that is, so that a flood costs the database nothing. Of an address that keeps sending credentials which open nothing
(`REFUSED`) only those are looked at that are known to open something. Without Redis each process counts for itself:
exact within it, and never unlimited.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from cachetools import LRUCache
from quart import Request

from vclone_core.actions.platform import Platform
from vclone_core.errors import TooManyRequests
from vclone_core.rules.clients import address_group
from vclone_core.rules.limits import Rate, Verdict
from vclone_core.settings import Settings

from .auth import cookie_name
from .guard import EDGE, OPEN, SAFE_METHODS, Guarded

PROBES: Final = "probes"
# Calls in a minute. What a person's scripts and a build's uploads never reach, and a flood reaches at once.
RATES: Final[Mapping[str, Rate]] = {
    rate.name: rate
    for rate in (
        Rate("reads", 600),
        Rate("writes", 240),
        Rate("uploads", 1200),  # a folder's blobs come in many requests
        Rate("open", 240),  # what anybody may look at
        Rate("sign-in", 120),  # and whatever else changes something without a caller; actions count tries more tightly
        Rate("webhooks", 1200),  # git hosts call from few addresses for everybody
        Rate(PROBES, 1200),
    )
}
# Credentials that open nothing, from one address.
REFUSED: Final = Rate("refused", 60)
CREDENTIALS_KEPT: Final = 20_000

_WEBHOOKS: Final = ("/api/hooks/", "/api/webhooks/")
_PROBES: Final = frozenset({"/api/health", "/api/ready"})


def class_of(entry: Guarded) -> str | None:
    """Return the class that a route or page falls into, a key of `RATES`; None for what edges ask.

    Edges speak for everybody who visits a site, and hold a token of their own.
    """
    if entry.needs == EDGE:
        return None
    if entry.rate is not None:
        return entry.rate
    is_safe = entry.method in SAFE_METHODS
    if entry.needs == OPEN:
        if entry.path in _PROBES:
            return PROBES
        if entry.path.startswith(_WEBHOOKS):
            return "webhooks"
        return "open" if is_safe else "sign-in"
    return "reads" if is_safe else "writes"


@lru_cache(maxsize=64)
def rate_for(name: str, factor: float) -> Rate:
    """Return a class's rate as the operator has it: `VCLONE_API_RATE_FACTOR` times the table's."""
    rate = RATES.get(name, REFUSED)
    return replace(rate, count=max(1, round(rate.count * factor)))


@dataclass(frozen=True, slots=True)
class Quota:
    """What one call was counted against, and what came of it."""

    rate: Rate
    verdict: Verdict

    @property
    def fields(self) -> dict[str, str]:
        """The header fields that tell a client of its quota (draft-ietf-httpapi-ratelimit-headers-10 §3, §4).

        `q`: calls in `w` seconds; `r`: how many are left; `t`: seconds until all of them are there again.
        """
        name, verdict = self.rate.name, self.verdict
        return {
            "ratelimit-policy": f'"{name}";q={self.rate.depth};w={math.ceil(self.rate.per_s)}',
            "ratelimit": f'"{name}";r={verdict.remaining};t={math.ceil(verdict.reset_after_s)}',
        }

    def check(self) -> None:
        """Raise `TooManyRequests`, which says when to come again, unless the call is allowed."""
        if not self.verdict.is_allowed:
            raise TooManyRequests(retry_after_s=math.ceil(self.verdict.retry_after_s))


class Rates:
    """One process's counting of calls."""

    def __init__(self, platform: Platform) -> None:
        self._limiter = platform.limiter
        self._settings = platform.settings
        self._known: LRUCache[str, bool] = LRUCache(CREDENTIALS_KEPT)

    async def count_call(self, entry: Guarded, request: Request, *, address: str) -> Quota | None:
        """Count one more call and return what it was counted against; None where nothing is counted.

        Raises `TooManyRequests` for a credential that hasn't opened anything yet, from an address that has sent too
        many that don't. One that is known to open something is not held up by its neighbours.
        """
        name, factor = class_of(entry), self._settings.api_rate_factor
        if name is None or factor == 0:
            return None
        credential = "" if entry.needs == OPEN else credential_of(request, self._settings)
        refused = rate_for(REFUSED.name, factor)
        if credential and credential not in self._known and self._limiter.is_spent(refused, address_group(address)):
            raise TooManyRequests(retry_after_s=math.ceil(refused.interval_s))
        rate, key = rate_for(name, factor), credential or address_group(address)
        if name == PROBES:  # that a process answers must not hang on another
            return Quota(rate, self._limiter.take_here(rate, key))
        return Quota(rate, await self._limiter.take(rate, key))

    async def note_entry(self, request: Request, *, address: str, is_let_in: bool) -> None:
        """Remember a credential that opened something; count one that didn't.

        Raises `TooManyRequests` where the address has sent too many of those.
        """
        credential = credential_of(request, self._settings)
        if not credential:
            return
        if is_let_in:
            self._known[credential] = True
        elif factor := self._settings.api_rate_factor:
            rate = rate_for(REFUSED.name, factor)
            Quota(rate, await self._limiter.take(rate, address_group(address))).check()


def credential_of(request: Request, settings: Settings) -> str:
    """Return what the request shows to be let in, by its hash; empty where it shows nothing."""
    shown = request.headers.get("Authorization") or request.cookies.get(cookie_name(settings)) or ""
    return "credential:" + hashlib.sha256(shown.encode(errors="replace")).hexdigest() if shown else ""
