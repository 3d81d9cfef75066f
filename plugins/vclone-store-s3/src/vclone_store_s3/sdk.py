"""The SDK's client for one bucket: how it is set up, and calls that end in time and fail in our words."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError

from vclone_core import errors
from vclone_store_s3.config import BucketConfig
from vclone_store_s3.failures import TRANSPORT_ERRORS, refused_call, unreachable
from vclone_store_s3.retrying import Retries

SLOWEST_BYTES_PER_S: Final = 256 * 1024


class BucketClient:
    """S3 operations on one bucket."""

    def __init__(self, config: BucketConfig, retries: Retries) -> None:
        self._retries = retries
        self._config = config
        self._exits = AsyncExitStack()
        self._client: Any = None
        self._places = asyncio.Semaphore(config.connections)

    async def start(self) -> None:
        """Make the client, and the bucket where it is missing."""
        try:
            self._client = await self._exits.enter_async_context(_create_client(self._config))
        except TRANSPORT_ERRORS as error:
            raise errors.StoreUnavailable(why=f"its client can't be made ({error})") from error
        # aiohttp would wait without limit for "100 Continue" before it sends a body; the header is not signed.
        self._client.meta.events.register("before-send.s3", _drop_expect)
        await self._ensure_bucket()

    async def close(self) -> None:
        """Close every connection."""
        self._client = None
        await self._exits.aclose()

    async def call(self, operation: str, arguments: Mapping[str, Any], *, sent_bytes: int = 0) -> Any:
        """Return the answer of an S3 operation on the bucket. `sent_bytes` gives a large body the time it needs."""
        return await self._retries.run(lambda: self._try(operation, arguments, sent_bytes))

    async def _try(self, operation: str, arguments: Mapping[str, Any], sent_bytes: int) -> Any:
        if self._client is None:
            raise errors.StoreUnavailable(why="it is closed")
        config = self._config
        limit_s = config.connect_timeout_s + config.read_timeout_s + sent_bytes / SLOWEST_BYTES_PER_S
        try:
            # Waiting for a connection that others use is no time the store takes.
            async with self._places, asyncio.timeout(limit_s):
                return await getattr(self._client, operation)(Bucket=config.bucket, **arguments)
        except ClientError as error:
            raise refused_call(error) from error
        except TRANSPORT_ERRORS as error:
            raise unreachable(error, config.endpoint) from error

    async def _ensure_bucket(self) -> None:
        try:
            await self.call("head_bucket", {})
        except errors.StoreUnavailable as failure:
            if failure.facts.get("status") != 404:
                raise
        else:
            return
        place: dict[str, Any] = {}
        if self._config.region != "us-east-1":
            place["CreateBucketConfiguration"] = {"LocationConstraint": self._config.region}
        try:
            await self.call("create_bucket", place)
        except errors.StoreUnavailable as failure:
            # Processes that start together all find it missing.
            if failure.facts.get("s3_code") not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise


def _create_client(config: BucketConfig) -> Any:
    return AioSession().create_client(
        "s3",
        endpoint_url=config.endpoint,
        region_name=config.region,
        aws_access_key_id=config.access_key,
        aws_secret_access_key=config.secret_key,
        verify=ssl.get_default_verify_paths().cafile or True,
        config=AioConfig(
            signature_version="s3v4",
            s3={"addressing_style": "path" if config.is_path_style else "virtual"},
            # Other servers than Amazon's fail on the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=config.connect_timeout_s,
            read_timeout=config.read_timeout_s,
            retries={"total_max_attempts": 1},  # ours are for reads and writes alike, and bounded in all
            max_pool_connections=config.connections,
            proxies={},
        ),
    )


def _drop_expect(request: Any, **_: Any) -> None:
    request.headers.pop("Expect", None)
