"""Variants that lie in a pack: sent as if each were an object of its own, from memory and straight from the store."""

from __future__ import annotations

import hashlib

import pytest

from vclone_core.rules.objectkeys import blob_key
from vclone_edge.app import build_app
from vclone_edge.explain import explain

from .client import Client
from .conftest import Platform

EXTENSIONS = {"http.response.pathsend": {}}
HOST = "shop.localhost"
COPIES = {"br": b"br-0123456789", "gzip": b"gzip-0123456789"}


@pytest.mark.product("B7.1")
@pytest.mark.parametrize("hot_bytes", [64 * 1024 * 1024, 16])
async def test_packed_variants_are_sent_whole_and_in_ranges(platform: Platform, hot_bytes: int) -> None:
    edge = await platform.start_edge(edge_hot_bytes=hot_bytes)
    await platform.publish(HOST, {"/index.html": b"<p>" * 99}, variants={"/index.html": COPIES}, is_packed=True)
    client, url = Client(build_app(edge)), f"http://{HOST}/"
    for coding, copy in COPIES.items():
        for _ in range(2):
            reply = await client.get(
                url, headers={"accept-encoding": coding}, extensions={"http.response.pathsend": {}}
            )
            assert (reply.status, reply["content-encoding"], reply.body) == (200, coding, copy)
            assert reply["content-length"] == str(len(copy))
        part = await client.get(url, headers={"accept-encoding": coding, "range": "bytes=3-6"})
        assert (part.status, part.body, part["content-range"]) == (206, copy[3:7], f"bytes 3-6/{len(copy)}")
        last = await client.get(url, headers={"accept-encoding": coding, "range": "bytes=-2"})
        assert last.body == copy[-2:]
        head = await client.get(url, method="HEAD", headers={"accept-encoding": coding})
        assert (head.body, head["content-length"]) == (b"", str(len(copy)))
        same = await client.get(url, headers={"accept-encoding": coding, "if-none-match": reply["etag"] or ""})
        assert same.status == 304
    assert (await client.get(url)).body == b"<p>" * 99


async def test_explain_names_the_pack(platform: Platform) -> None:
    edge = await platform.start_edge()
    await platform.publish(HOST, {"/index.html": b"<p>" * 99}, variants={"/index.html": COPIES}, is_packed=True)
    told = await explain(edge, f"http://{HOST}/", headers={"accept-encoding": "br"})
    pack = b"before" + b"".join(COPIES.values())
    assert told.object_key == blob_key("prj_1", hashlib.sha256(pack).hexdigest())


@pytest.mark.parametrize("hot_bytes", [64 * 1024 * 1024, 16])
async def test_damaged_pack_is_an_error_and_never_other_bytes(platform: Platform, hot_bytes: int) -> None:
    edge = await platform.start_edge(edge_hot_bytes=hot_bytes)
    await platform.publish(HOST, {"/index.html": b"<p>" * 99}, variants={"/index.html": COPIES}, is_packed=True)
    pack = hashlib.sha256(b"before" + b"".join(COPIES.values())).hexdigest()
    await platform.put(blob_key("prj_1", pack), b"before" + b"br-")
    reply = await Client(build_app(edge)).get(f"http://{HOST}/", headers={"accept-encoding": "br"})
    assert reply.status in (502, 503)
    assert b"br-" not in reply.body
