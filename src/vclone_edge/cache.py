"""The domain cache: which site each host is, how surely that is known, and which hosts are known to be nobody's.

Bounded in both halves. It does no I/O: `resolve.py` fills it, `control.py` keeps it true, `snapshot.py` carries it over
a restart. Times are a monotonic clock's; an older version of a host never takes the place of a newer one.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from cachetools import TTLCache

from vclone_core.models import Site

HOST_LIMIT: Final = 100_000
MISSING_LIMIT: Final = 10_000


@dataclass(slots=True)
class Known:
    """A host's site. `fallback` is the one before it, until the manifest of this one was seen to be good.

    `is_current` ends when the cache knows something else of the host, or nothing: who holds this need not ask.
    """

    site: Site
    confirmed_s: float
    due_s: float
    fallback: Site | None = None
    is_current: bool = True


class DomainCache:
    """Hosts by name. A site is *due* for a look-up after the TTL, *stale* when nobody vouched for it that long."""

    def __init__(
        self,
        *,
        ttl_s: float = 300.0,
        negative_ttl_s: float = 5.0,
        stale_s: float = 86_400.0,
        limit: int = HOST_LIMIT,
        missing_limit: int = MISSING_LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ttl_s = ttl_s
        self.stale_s = stale_s
        self.clock = clock
        self.changes = 0
        """Grows with every change that a snapshot should carry."""
        self._limit = limit
        # The order is that of use. An entry past its TTL is still good to serve, which a TTLCache would not let it be.
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._missing: TTLCache[str, int] = TTLCache(missing_limit, negative_ttl_s, timer=clock)
        self._covered_from_s = float("-inf")
        self._covered_until_s = float("-inf")

    def __len__(self) -> int:
        return len(self._known)

    def find(self, host: str) -> Known | None:
        """Return what is known of a host; None also for what is older than may ever be served."""
        known = self._known.get(host)
        if known is None or self.age_s(known) > self.stale_s:
            return None
        self._known.move_to_end(host)
        return known

    def find_settled(self, host: str) -> Known | None:
        """Return what is known of a host if that is to be served as it is: neither due for a look-up nor stale."""
        known = self._known.get(host)
        if known is None:
            return None
        now_s = self.clock()
        if now_s >= known.due_s or now_s - known.confirmed_s > self.ttl_s:
            return None
        self._known.move_to_end(host)
        return known

    def is_missing(self, host: str) -> bool:
        """Say whether the API said moments ago that nothing is deployed at this host."""
        return host in self._missing

    def age_s(self, known: Known) -> float:
        """Return for how long nobody vouched for a site: neither a look-up, nor a stream that would have told."""
        vouched_s = known.confirmed_s
        if vouched_s >= self._covered_from_s:
            vouched_s = max(vouched_s, self._covered_until_s)
        return self.clock() - vouched_s

    def is_due(self, known: Known) -> bool:
        return self.clock() >= known.due_s

    def is_stale(self, known: Known) -> bool:
        return self.age_s(known) > self.ttl_s

    def is_suspect(self, known: Known) -> bool:
        """Say whether moves of this host may have been missed since it was last confirmed."""
        return known.confirmed_s < self._covered_from_s

    def suspects(self) -> list[str]:
        """Return the hosts whose moves may have been missed."""
        return [host for host, known in self._known.items() if self.is_suspect(known)]

    def put(self, site: Site, *, confirmed_s: float | None = None) -> Known | None:
        """Keep a site, confirmed now unless said otherwise; return what is known of the host after that.

        A version older than the known one, or than the host's removal, changes nothing.
        """
        now_s = self.clock() if confirmed_s is None else confirmed_s
        known = self._known.get(site.host)
        if known is not None and known.site.version > site.version and not self.is_suspect(known):
            return known
        if known is None and self._missing.get(site.host, -1) >= site.version:
            return None
        self._missing.pop(site.host, None)
        if known is not None and known.site == site:
            known.confirmed_s, known.due_s = now_s, now_s + self.ttl_s
            return known
        fallback = None
        if known is not None:
            known.is_current = False
            fallback = known.fallback or known.site
            if fallback.manifest_key == site.manifest_key:
                fallback = None
        fresh = self._known[site.host] = Known(site, now_s, now_s + self.ttl_s, fallback)
        self._known.move_to_end(site.host)
        if len(self._known) > self._limit:
            _, dropped = self._known.popitem(last=False)
            dropped.is_current = False
        self.changes += 1
        return fresh

    def forget(self, host: str, version: int = -1) -> None:
        """Take a host for nobody's, as of `version` of the event stream (-1: as the API said just now)."""
        known = self._known.get(host)
        if known is not None and version >= 0 and known.site.version > version:
            return
        if known is not None:
            del self._known[host]
            known.is_current = False
            self.changes += 1
        self._missing[host] = max(version, self._missing.get(host, -1))

    def expect(self, host: str) -> None:
        """Drop what is remembered of a missing host: it is there now."""
        self._missing.pop(host, None)

    def cover(self) -> None:
        """Note that the event stream is alive: whatever moved would have been told."""
        self._covered_until_s = self.clock()

    def suspect_all(self) -> None:
        """Note that moves may have been missed: every site is to be confirmed anew, and may become an older version."""
        self._covered_from_s = self.clock()
        self._missing.clear()

    def entries(self) -> Iterator[tuple[Site, float]]:
        """Yield every site with the seconds since somebody vouched for it, the least recently used first."""
        now_s, covered_from_s, covered_until_s = self.clock(), self._covered_from_s, self._covered_until_s
        for known in self._known.values():
            vouched_s = known.confirmed_s
            if covered_from_s <= vouched_s < covered_until_s:
                vouched_s = covered_until_s
            yield known.site, now_s - vouched_s
