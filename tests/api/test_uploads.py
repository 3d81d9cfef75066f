"""Blobs from a client: stored whole under their hash, or not at all."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator

import pytest

from vclone_core.actions.uploads import PUTS_AT_ONCE, SMALL_BYTES, receive_blobs
from vclone_core.errors import TooLarge
from vclone_core.rules.blobframes import encode_frame, encode_header
from vclone_core.rules.objectkeys import blob_key

from .conftest import Api


async def stored(api: Api) -> int:
    return len([info async for info in api.platform.objects.list("")])


async def test_blobs_are_stored_and_then_not_missing(api: Api) -> None:
    project = await api.project()
    blobs = [b"", b"one", secrets.token_bytes(SMALL_BYTES), secrets.token_bytes(3 * SMALL_BYTES + 17)]
    hashes = [hashlib.sha256(blob).hexdigest() for blob in blobs]
    missing = f"/api/projects/{project.name}/blobs/missing"
    assert (await api.ask("POST", missing, json={"sha256": hashes}))[1] == {"missing": hashes}
    assert await api.upload(project, *blobs) == (200, {"stored": 4})
    assert (await api.ask("POST", missing, json={"sha256": hashes}))[1] == {"missing": []}
    for blob, sha256 in zip(blobs, hashes, strict=True):
        async with api.platform.objects.open(blob_key(project.id, sha256)) as body:
            assert b"".join([chunk async for chunk in body.chunks]) == blob
    # Sent again, large ones included, they are taken and dropped.
    assert await api.upload(project, *blobs, *blobs) == (200, {"stored": 8})
    assert await stored(api) == 4


async def test_more_blobs_than_puts_at_once(api: Api) -> None:
    project = await api.project()
    blobs = [f"file {number}".encode() for number in range(20 * PUTS_AT_ONCE)]
    assert await api.upload(project, *blobs) == (200, {"stored": len(blobs)})
    assert await stored(api) == len(blobs)


GOOD = encode_frame(b"good")
LARGE = secrets.token_bytes(2 * SMALL_BYTES)
WRONG = hashlib.sha256(b"other").hexdigest()
ABUSE: list[tuple[str, bytes, int, str]] = [
    ("a wrong hash", encode_header(WRONG, 4) + b"evil", 400, "invalid"),
    ("a wrong hash of a large one", encode_header(WRONG, len(LARGE)) + LARGE, 400, "invalid"),
    ("cut in a header", encode_frame(b"four")[:30], 400, "invalid"),
    ("cut in a small one", encode_frame(b"four")[:-1], 400, "invalid"),
    ("cut in a large one", encode_frame(LARGE)[:-1], 400, "invalid"),
    ("over the limit", encode_header(WRONG, 100 * 1024**2 + 1), 413, "too_large"),
    ("over every limit", encode_header(WRONG, 2**64 - 1) + b"x", 413, "too_large"),
    ("not frames", b"<html>" * 20, 413, "too_large"),
]


@pytest.mark.parametrize(("body", "status", "code"), [row[1:] for row in ABUSE], ids=[row[0] for row in ABUSE])
async def test_a_bad_frame_stores_nothing(api: Api, body: bytes, status: int, code: str) -> None:
    project = await api.project()
    answered, problem = await api.send_blobs(project, body)
    assert (answered, problem["code"]) == (status, code)
    assert await stored(api) == 0


async def test_after_a_bad_frame_the_same_blobs_can_be_sent_again(api: Api) -> None:
    project = await api.project()
    assert (await api.send_blobs(project, GOOD + encode_frame(b"four")[:-1]))[0] == 400
    hashes = [hashlib.sha256(blob).hexdigest() for blob in (b"good", b"four")]
    _, answer = await api.ask("POST", f"/api/projects/{project.id}/blobs/missing", json={"sha256": hashes})
    assert hashes[1] in answer["missing"]
    assert await api.upload(project, b"good", b"four") == (200, {"stored": 2})
    _, answer = await api.ask("POST", f"/api/projects/{project.id}/blobs/missing", json={"sha256": hashes})
    assert answer["missing"] == []


async def test_the_limit_of_a_frame_is_a_parameter(api: Api) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield encode_frame(b"12345")

    with pytest.raises(TooLarge):
        await receive_blobs(api.platform, await api.project(), pieces(), limit_bytes=4)


async def test_blobs_need_their_media_type(api: Api) -> None:
    project = await api.project()
    status, problem = await api.ask("POST", f"/api/projects/{project.id}/blobs", data=GOOD)
    assert (status, problem["code"]) == (415, "wrong_media_type")
