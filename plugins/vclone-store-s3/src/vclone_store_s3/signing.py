"""Presigned URLs, made locally and reused within their life."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cachetools import LRUCache
from yarl import URL

from vclone_core import errors
from vclone_store_s3.config import BucketConfig

LIFE_S: Final = 3600
REUSED_S: Final = 2700.0  # the rest of the life is for clocks that differ
FRESH_S: Final = 5.0
REMEMBERED: Final = 4096
LONGEST_S: Final = 7 * 24 * 3600  # the signature's own limit


class Presigner:
    """Signs URLs of one bucket's objects. Does no I/O; a key must have been checked."""

    def __init__(self, config: BucketConfig, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._clock = clock
        self._credentials = Credentials(config.access_key, config.secret_key)
        self._remembered: LRUCache[str, tuple[URL, float]] = LRUCache(REMEMBERED)

    def sign(self, method: str, key: str, *, expires_s: int) -> str:
        """Return a URL that allows one method on one object, from now on for `expires_s` seconds."""
        if not 1 <= expires_s <= LONGEST_S:
            raise errors.Invalid(what=f"a URL can be signed for 1 to {LONGEST_S} seconds, not {expires_s}")
        request = AWSRequest(method, self._config.base + key)
        S3SigV4QueryAuth(self._credentials, "s3", self._config.region, expires=expires_s).add_auth(request)
        url: str = request.url
        return url

    def read_url(self, key: str) -> URL:
        """Return a URL to GET an object with: a remembered one while its life is long enough."""
        found = self._remembered.get(key)
        if found is None or self._clock() - found[1] > REUSED_S:
            # Never parsed anew: requoting would break the signature.
            url = URL(self.sign("GET", key, expires_s=LIFE_S), encoded=True)
            found = self._remembered[key] = (url, self._clock())
        return found[0]

    def forget(self, key: str) -> bool:
        """Drop a remembered URL that was refused; say whether it had been used before."""
        found = self._remembered.pop(key, None)
        return found is not None and self._clock() - found[1] > FRESH_S
