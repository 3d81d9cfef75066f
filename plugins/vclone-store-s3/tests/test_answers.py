"""Answers no good server gives: each, word for word, is either used rightly or refused. One row is one answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from vclone_core import Span, StoreConfig
from vclone_core.errors import BadSettings, Invalid, NotFound, StoreUnavailable, VcloneError
from vclone_store_s3 import make_store
from vclone_store_s3.reading import BucketReader
from vclone_store_s3.retrying import Retries
from vclone_store_s3.signing import REMEMBERED, REUSED_S, Presigner
from vclone_store_s3.store import BucketStore

BODY = b"0123456789"


@dataclass
class Canned:
    """An HTTP server that gives its answers in turn, the last one for ever, then closes the connection."""

    answers: list[bytes]
    requests: list[bytes] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        await writer.drain()
        writer.close()


@asynccontextmanager
async def canned(*answers: bytes) -> AsyncIterator[Canned]:
    server = Canned(list(answers))
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


@asynccontextmanager
async def reading(server: Canned, *, connections: int = 64) -> AsyncIterator[BucketReader]:
    endpoint = f"http://127.0.0.1:{server.port}"
    url = f"s3://bucket?endpoint={endpoint}&read_timeout_s=1&connections={connections}"
    store: BucketStore = make_store(StoreConfig(url, "key", "secret"))
    reader = BucketReader(store.config, Presigner(store.config), Retries())
    await reader.start()
    try:
        yield reader
    finally:
        await reader.close()


def answer(status: str, *headers: str, body: bytes = BODY, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", 'ETag: "e"', *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def failure(status: str, code: str) -> bytes:
    return answer(status, body=f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode())


WHOLE = answer("200 OK")
PART = answer("206 Partial Content", "Content-Range: bytes 2-5/10", body=b"2345")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n"
SPAN = Span(2, 5)

USED = [
    pytest.param(None, WHOLE, BODY, id="whole"),
    pytest.param(None, answer("200 OK", body=b""), b"", id="empty"),
    pytest.param(SPAN, PART, b"2345", id="part"),
    pytest.param(SPAN, answer("200 OK", "Content-Range: bytes 2-5/10", body=b"2345"), b"2345", id="part with 200"),
    pytest.param(SPAN, WHOLE, b"2345", id="range ignored"),
    pytest.param(Span(0, 9), WHOLE, BODY, id="range of all ignored"),
]
REFUSED = [
    pytest.param(None, answer("200 OK", length=11), StoreUnavailable, "broke", id="short"),
    pytest.param(SPAN, answer("200 OK", body=b"012", length=10), StoreUnavailable, "broke", id="short, range ignored"),
    pytest.param(None, CHUNKED, StoreUnavailable, "how large", id="no length"),
    pytest.param(None, PART, StoreUnavailable, "206", id="a part of a whole"),
    pytest.param(SPAN, answer("206 OK", body=b"2345"), StoreUnavailable, "which part", id="part unnamed"),
    pytest.param(
        SPAN,
        answer("206 OK", "Content-Range: bytes 3-6/10", body=b"3456"),
        StoreUnavailable,
        "another part",
        id="moved",
    ),
    pytest.param(
        SPAN, answer("206 OK", "Content-Range: bytes 2-4/10", body=b"234"), StoreUnavailable, "another part", id="less"
    ),
    pytest.param(
        SPAN, answer("206 OK", "Content-Range: bytes 2-5/10", body=b"234"), StoreUnavailable, "another part", id="lied"
    ),
    pytest.param(
        SPAN, answer("206 OK", "Content-Range: bytes 2-5/*", body=b"2345"), StoreUnavailable, "another part", id="star"
    ),
    pytest.param(SPAN, answer("206 OK", "Content-Range: bytes 2-3/4", body=b"23"), Invalid, "2-5", id="object ends"),
    pytest.param(SPAN, answer("200 OK", body=b"0123"), Invalid, "2-5", id="object ends, range ignored"),
    pytest.param(SPAN, failure("416 No", "InvalidRange"), Invalid, "2-5", id="416"),
    pytest.param(None, failure("404 Not Found", "NoSuchKey"), NotFound, "object", id="missing"),
    pytest.param(None, failure("404 Not Found", "NoSuchBucket"), StoreUnavailable, "bucket is gone", id="no bucket"),
    pytest.param(
        None, failure("403 Forbidden", "SignatureDoesNotMatch"), StoreUnavailable, "SECRET_KEY", id="wrong secret"
    ),
    pytest.param(None, failure("403 Forbidden", "AccessDenied"), StoreUnavailable, "policy", id="denied"),
    pytest.param(None, failure("403 Forbidden", "RequestTimeTooSkewed"), StoreUnavailable, "clock", id="clock"),
    pytest.param(None, answer("403 Forbidden", body=b"<html>"), StoreUnavailable, "403", id="403 of a proxy"),
    pytest.param(
        None, answer("307 Moved", "Location: http://127.0.0.1:1/"), StoreUnavailable, "elsewhere", id="redirect"
    ),
    pytest.param(None, failure("500 Oh", "InternalError"), StoreUnavailable, "500 InternalError", id="500"),
    pytest.param(None, failure("503 Oh", "SlowDown"), StoreUnavailable, "overloaded", id="503"),
    pytest.param(None, failure("507 Full", "XMinioStorageFull"), StoreUnavailable, "full", id="507"),
    pytest.param(None, b"SSH-2.0-OpenSSH\r\n\r\n", StoreUnavailable, "broke", id="not HTTP"),
    pytest.param(None, b"", StoreUnavailable, "broke", id="nothing"),
]


async def read(reader: BucketReader, span: Span | None) -> bytes:
    async with reader.open("a", span) as body:
        return b"".join([chunk async for chunk in body.chunks])


@pytest.mark.parametrize(("span", "given", "expected"), USED)
async def test_used(span: Span | None, given: bytes, expected: bytes) -> None:
    async with canned(given) as server, reading(server) as reader:
        assert await read(reader, span) == expected
        if span is not None:
            assert f"Range: bytes={span.start}-{span.end}\r\n".encode() in server.requests[0]


@pytest.mark.parametrize(("span", "given", "error", "words"), REFUSED)
async def test_refused(span: Span | None, given: bytes, error: type[VcloneError], words: str) -> None:
    async with canned(given) as server, reading(server) as reader:
        with pytest.raises(error, match=words):
            await read(reader, span)
        assert len(server.requests) <= 6  # ours are 3; aiohttp repeats one that got no byte of an answer


@pytest.mark.parametrize("first", [b"", failure("503 Oh", "SlowDown")])
@pytest.mark.product("B15.3")
async def test_a_passing_failure_is_tried_again(first: bytes) -> None:
    async with canned(first, WHOLE) as server, reading(server) as reader:
        assert await read(reader, None) == BODY
        assert len(server.requests) == 2


async def test_retries_stop_when_everything_fails() -> None:
    async with canned(failure("503 Oh", "SlowDown")) as server, reading(server) as reader:
        results = await asyncio.gather(*(reader.head("a") for _ in range(50)), return_exceptions=True)
        assert {type(result) for result in results} == {StoreUnavailable}
        assert 50 < len(server.requests) <= 50 + 32 + 5


async def test_a_refused_key_is_not_tried_again() -> None:
    async with canned(failure("403 Forbidden", "AccessDenied")) as server, reading(server) as reader:
        with pytest.raises(StoreUnavailable):
            await read(reader, None)
        assert len(server.requests) == 1


async def test_a_reader_without_a_connection_is_told_so() -> None:
    async with canned(WHOLE) as server, reading(server, connections=1) as reader:
        async with reader.open("a", None) as body:
            with pytest.raises(StoreUnavailable, match="all of our 1 connections to it stayed in use"):
                await reader.head("a")
            assert b"".join([chunk async for chunk in body.chunks]) == BODY
        assert await read(reader, None) == BODY


async def test_a_read_bound_to_one_version_says_so() -> None:
    async with canned(PART, WHOLE, failure("412 No", "PreconditionFailed")) as server, reading(server) as reader:
        async with reader.open("a", SPAN, '"e"') as body:
            assert b"".join([chunk async for chunk in body.chunks]) == b"2345"
        assert b'If-Match: "e"\r\n' in server.requests[0]
        for etag in ('"other"', '"e"'):  # A server that ignores the condition, and one that doesn't.
            with pytest.raises(StoreUnavailable, match="another object"):
                async with reader.open("a", None, etag):
                    pass
        assert len(server.requests) == 3


@pytest.mark.product("B15.1")
async def test_a_url_is_reused() -> None:
    async with canned(WHOLE) as server, reading(server) as reader:
        await read(reader, None)
        await read(reader, SPAN)
        first, second = (request.split(b" ")[1] for request in server.requests)
        assert first == second


@pytest.mark.product("B15.1")
def test_a_url_is_reused_within_its_life_and_remembered_urls_are_bounded() -> None:
    now = [0.0]
    presigner = Presigner(make_store(StoreConfig("s3://bucket", "key", "secret")).config, clock=lambda: now[0])

    def is_old_after(age_s: float) -> bool:
        """Read twice, `age_s` apart; say whether the second read used the URL of the first."""
        presigner.read_url("a")
        now[0] += age_s
        presigner.read_url("a")
        return presigner.forget("a")

    assert is_old_after(60) is True
    assert is_old_after(REUSED_S - 1) is True
    assert is_old_after(REUSED_S + 1) is False
    assert is_old_after(0) is False  # just signed: another would be refused as well
    presigner.read_url("a")
    now[0] += 60
    for number in range(REMEMBERED + 1):
        presigner.read_url(f"other/{number}")
    assert presigner.forget("a") is False


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://", "names no bucket"),
        ("s3://Bucket", "names no bucket"),
        ("s3://bucket/folder", "names no bucket"),
        ("s3://bucket?endpoint=127.0.0.1:9000", "no origin"),
        ("s3://bucket?endpoint=http://host/path", "no origin"),
        ("s3://bucket?path_style=maybe", "path_style"),
        ("s3://bucket?connections=0", "connections"),
        ("s3://bucket?read_timeout_s=soon", "read_timeout_s"),
        ("s3://bucket?regoin=eu", "unknown parameter 'regoin'"),
    ],
)
def test_settings_that_cannot_be_used(url: str, words: str) -> None:
    with pytest.raises(BadSettings, match=words):
        make_store(StoreConfig(url, "key", "secret"))


def test_every_problem_at_once_and_no_secret() -> None:
    with pytest.raises(BadSettings) as caught:
        make_store(StoreConfig("s3://?path_style=x", None, "hidden"))
    text = str(caught.value)
    assert all(words in text for words in ("no bucket", "path_style", "VCLONE_STORE_ACCESS_KEY is empty"))
    assert "hidden" not in text + repr(make_store(StoreConfig("s3://bucket", "key", "hidden")).config)


@pytest.mark.parametrize(
    ("url", "start"),
    [
        ("s3://bucket", "https://s3.us-east-1.amazonaws.com/bucket/a?"),
        ("s3://bucket?region=eu-west-1&path_style=false", "https://bucket.s3.eu-west-1.amazonaws.com/a?"),
        ("s3://bucket?endpoint=http://127.0.0.1:9000/", "http://127.0.0.1:9000/bucket/a?"),
    ],
)
def test_addresses(url: str, start: str) -> None:
    signed = make_store(StoreConfig(url, "key", "secret")).presign("a", expires_s=60)
    assert signed is not None
    assert signed.startswith(start)


@pytest.mark.parametrize("expires_s", [0, -1, 8 * 24 * 3600])
def test_a_life_that_cannot_be_signed(expires_s: int) -> None:
    with pytest.raises(Invalid):
        make_store(StoreConfig("s3://bucket", "key", "secret")).presign("a", expires_s=expires_s)
