"""*resolve*, the second step of a request: which site a host is.

known -> served at once, looked up again in the background when due
missing -> refused at once, for seconds
unknown -> one look-up, however many requests wait for it
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

from cachetools import TTLCache

from vclone_core.errors import NoSuchSite, Unavailable, VcloneError
from vclone_core.log import get_log
from vclone_core.models import AliasMove, Site
from vclone_edge.cache import DomainCache, Known

LOOK_UPS_AT_ONCE: Final = 32
REFRESHES_AT_ONCE: Final = 16  # Fewer than look-ups, so that new hosts find a free slot while many others are due.
FLIGHT_LIMIT: Final = 2_000  # Made-up hosts by the thousand wait for nothing: they are refused at once.
RETRY_S: Final = 5.0
FAILURE_S: Final = 1.0

log = get_log(__name__)


class SiteSource(Protocol):
    async def look_up(self, host: str) -> Site: ...


@dataclass(slots=True)
class _Flight:
    """A look-up under way. A move that comes in meanwhile is newer than what the look-up will say."""

    task: asyncio.Task[Known | VcloneError]
    is_refresh: bool
    is_overtaken: bool = False


class Resolver:
    """Answers for hosts from the cache, and asks `source` for the others."""

    def __init__(self, cache: DomainCache, source: SiteSource) -> None:
        self.cache = cache
        self.source = source
        self.failures = 0
        self.look_ups = 0
        self._flights: dict[str, _Flight] = {}
        self._refreshes = 0
        self._is_failing = False
        self._slots = asyncio.Semaphore(LOOK_UPS_AT_ONCE)
        self._failed: TTLCache[str, VcloneError] = TTLCache(1024, FAILURE_S, timer=cache.clock)

    async def resolve(self, host: str) -> Known:
        """Return what is known of a host; raise `NoSuchSite`, or `Unavailable` for a new host while the API is away."""
        known = self.cache.find(host)
        if known is not None:
            if self.cache.is_due(known):
                self.refresh(host, known)
            return known
        if self.cache.is_missing(host):
            raise NoSuchSite()
        failed = self._failed.get(host)
        if failed is not None:
            raise failed.with_traceback(None)
        # Shielded: the visitor who asked first may leave, the others still wait.
        outcome = await asyncio.shield(self._fly(host).task)
        if isinstance(outcome, VcloneError):
            raise outcome.with_traceback(None)
        return outcome

    def refresh(self, host: str, known: Known) -> None:
        """Look a known host up again, in the background, at most every 5 s and few hosts at once."""
        known.due_s = self.cache.clock() + RETRY_S
        if host not in self._flights and self._refreshes < REFRESHES_AT_ONCE:
            self._fly(host, is_refresh=True)

    async def confirm(self, host: str) -> bool:
        """Look a host up again; say whether the API had an answer."""
        if host not in self._flights and len(self._flights) >= FLIGHT_LIMIT:
            return False
        return not isinstance(await asyncio.shield(self._fly(host).task), Unavailable)

    def forget_failures(self) -> None:
        """Let hosts be asked for at once whose look-up failed moments ago: the API is back."""
        self._failed.clear()

    def apply(self, move: AliasMove) -> None:
        """Put a pushed move into effect: what is known of the host is replaced, what is unknown stays so."""
        if (flight := self._flights.get(move.host)) is not None:
            flight.is_overtaken = True
        self._failed.pop(move.host, None)
        if move.site is None:
            self.cache.forget(move.host, move.version)
        elif self.cache.find(move.host) is not None or flight is not None:
            self.cache.put(move.site)
        else:
            self.cache.expect(move.host)

    async def close(self) -> None:
        """End the look-ups under way."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fly(self, host: str, *, is_refresh: bool = False) -> _Flight:
        flight = self._flights.get(host)
        if flight is None:
            if len(self._flights) >= FLIGHT_LIMIT:
                raise Unavailable(what="The API")
            flight = self._flights[host] = _Flight(asyncio.create_task(self._ask(host)), is_refresh)
            self._refreshes += is_refresh
        return flight

    def _land(self, host: str) -> _Flight:
        flight = self._flights.pop(host)
        self._refreshes -= flight.is_refresh
        return flight

    async def _ask(self, host: str) -> Known | VcloneError:
        """Look one host up and put what comes of it into the cache. Returns errors: a refresh has no one to tell."""
        try:
            async with self._slots:
                self.look_ups += 1
                asked_s = self.cache.clock()
                site = await self.source.look_up(host)
        except NoSuchSite as error:
            self._note(None)
            if self._land(host).is_overtaken:
                return self.cache.find(host) or error
            self.cache.forget(host)
            return error
        except VcloneError as error:
            self._land(host)
            self._note(error)
            if self.cache.find(host) is None:
                self._failed[host] = error
            return error
        except BaseException:
            self._land(host)
            raise
        self._note(None)
        if self._land(host).is_overtaken:
            return self.cache.find(host) or NoSuchSite()
        return self.cache.put(site, confirmed_s=asked_s) or NoSuchSite()

    def _note(self, error: VcloneError | None) -> None:
        """Count a failure; log when failing begins and when it ends, not once per host and visitor."""
        self.failures += error is not None
        if error is not None and not self._is_failing:
            log.error("resolve.failing", why=error.sentence)
        elif error is None and self._is_failing:
            log.info("resolve.recovered", failures=self.failures)
        self._is_failing = error is not None
