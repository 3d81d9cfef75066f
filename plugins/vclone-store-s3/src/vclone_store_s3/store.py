"""The store itself: writes, lists and deletes through the SDK, reads through plain HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

from vclone_core import ObjectBody, ObjectInfo, Span, check_object_key, check_object_prefix, errors, get_log
from vclone_store_s3.config import BucketConfig
from vclone_store_s3.content import cut
from vclone_store_s3.reading import BucketReader
from vclone_store_s3.retrying import Retries
from vclone_store_s3.sdk import BucketClient
from vclone_store_s3.signing import Presigner

SINGLE_BYTES: Final = 16 * 1024**2
PART_BYTES: Final = 5 * 1024**2  # S3's least; one is sent while the next is filled
PARTS_LIMIT: Final = 10_000  # S3's
DELETED_AT_ONCE: Final = 1000  # S3's

log = get_log(__name__)


class BucketStore:
    """`ObjectStore` over one bucket."""

    def __init__(self, config: BucketConfig) -> None:
        self._presigner = Presigner(config)
        self.config = config
        retries = Retries()
        self._client = BucketClient(config, retries)
        self._reader = BucketReader(config, self._presigner, retries)
        self._putting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def start(self) -> None:
        await self._reader.start()
        await self._client.start()

    async def close(self) -> None:
        await self._client.close()
        await self._reader.close()

    async def put(
        self,
        key: str,
        body: bytes | Path | AsyncIterator[bytes],
        *,
        size: int,
        sha256: str | None = None,
        content_type: str = "application/octet-stream",
        overwrite: bool = False,
    ) -> bool:
        check_object_key(key)
        # Many servers ignore conditional writes, so: ask, then write; within this process one after the other.
        async with self._putting.setdefault(key, asyncio.Lock()):
            if not overwrite and await self._reader.head(key) is not None:
                return False
            is_single = size <= SINGLE_BYTES
            piece_bytes = SINGLE_BYTES if is_single else max(PART_BYTES, -(-size // PARTS_LIMIT))
            async with aclosing(cut(body, piece_bytes, size=size, sha256=sha256)) as pieces:
                target = {"Key": key, "ContentType": content_type}
                await (self._put_single if is_single else self._put_parts)(target, pieces)
        return True

    async def _put_single(self, target: dict[str, str], pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            await self._client.call("put_object", {**target, "Body": piece}, sent_bytes=len(piece))

    async def _put_parts(self, target: dict[str, str], pieces: AsyncIterator[bytes]) -> None:
        answer = await self._client.call("create_multipart_upload", target)
        upload = {"Key": target["Key"], "UploadId": answer["UploadId"]}
        parts: list[dict[str, Any]] = []
        sending: asyncio.Task[dict[str, Any]] | None = None
        try:
            async for piece in pieces:
                if sending is not None:
                    parts.append(await sending)
                sending = asyncio.create_task(self._put_part(upload, len(parts) + 1, piece))
            if sending is not None:
                parts.append(await sending)
            await self._client.call("complete_multipart_upload", {**upload, "MultipartUpload": {"Parts": parts}})
        except BaseException:
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            await asyncio.shield(asyncio.create_task(self._abort(upload)))
            raise

    async def _put_part(self, upload: dict[str, str], number: int, piece: bytes) -> dict[str, Any]:
        part = {**upload, "PartNumber": number, "Body": piece}
        answer = await self._client.call("upload_part", part, sent_bytes=len(piece))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    async def _abort(self, upload: dict[str, str]) -> None:
        try:
            await self._client.call("abort_multipart_upload", upload)
        except errors.StoreUnavailable as error:
            log.warning("upload.left_behind", key=upload["Key"], upload=upload["UploadId"], why=str(error))

    async def head(self, key: str) -> ObjectInfo | None:
        return await self._reader.head(check_object_key(key))

    def open(
        self, key: str, span: Span | None = None, *, etag: str | None = None
    ) -> AbstractAsyncContextManager[ObjectBody]:
        return self._reader.open(check_object_key(key), span, etag)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        check_object_prefix(prefix)
        place: dict[str, str] = {}
        while True:
            page = await self._client.call("list_objects_v2", {"Prefix": prefix, **place})
            found = page.get("Contents", [])
            for item in found:
                yield ObjectInfo(item["Key"], item["Size"], item["ETag"], item["LastModified"].timestamp())
            if not page.get("IsTruncated") or not found:
                return
            token = page.get("NextContinuationToken")
            place = {"ContinuationToken": token} if token else {"StartAfter": found[-1]["Key"]}

    async def delete(self, keys: Sequence[str]) -> None:
        objects = [{"Key": check_object_key(key)} for key in keys]
        for start in range(0, len(objects), DELETED_AT_ONCE):
            some = objects[start : start + DELETED_AT_ONCE]
            answer = await self._client.call("delete_objects", {"Delete": {"Objects": some, "Quiet": True}})
            failed = [item for item in answer.get("Errors", []) if item.get("Code") != "NoSuchKey"]
            if failed:
                code = failed[0].get("Code", "?")
                raise errors.StoreUnavailable(why=f"it did not remove {len(failed)} objects ({code})")

    def find_path(self, key: str) -> None:
        return None

    def presign(self, key: str, *, expires_s: int) -> str | None:
        return self._presigner.sign("GET", check_object_key(key), expires_s=expires_s)
