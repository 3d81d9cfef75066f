"""manifests and sites: what is written is read back, and nothing else is accepted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import Invalid
from vclone_core.models import AliasKind, AliasMove, EarlierFile, FileEntry, Manifest, Pack, Route, Site, Variant
from vclone_core.rules.manifests import decode_manifest, encode_manifest, list_blobs
from vclone_core.rules.sites import decode_move, decode_site, encode_move, encode_site

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
SIZE = st.integers(min_value=0, max_value=2**40)
PACK = st.none() | st.builds(Pack, HEX, SIZE, SIZE)
ENTRY = st.builds(
    FileEntry,
    sha256=HEX,
    size=SIZE,
    type=st.sampled_from(["text/html; charset=utf-8", "image/png"]),
    immutable=st.booleans(),
    variants=st.dictionaries(st.sampled_from(["br", "gzip", "zstd"]), st.builds(Variant, HEX, SIZE, PACK)),
)
ROUTE = st.builds(
    Route,
    src=st.none() | st.text(max_size=20),
    dest=st.none() | st.text(max_size=20),
    headers=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    status=st.none() | st.integers(200, 599),
    methods=st.lists(st.sampled_from(["GET", "POST"])).map(tuple),
    is_continue=st.booleans(),
    check=st.booleans(),
    case_sensitive=st.booleans(),
    handle=st.none() | st.sampled_from(["filesystem", "error"]),
)
MANIFEST = st.builds(
    Manifest,
    deployment_id=st.text(max_size=30),
    project_id=st.text(max_size=30),
    framework=st.none() | st.text(max_size=10),
    files=st.dictionaries(st.text(max_size=30).map(lambda name: "/" + name), ENTRY, max_size=5),
    routes=st.lists(ROUTE, max_size=5).map(tuple),
    earlier=st.dictionaries(st.text(max_size=30), st.builds(EarlierFile, ENTRY, SIZE), max_size=3),
)
SITE = Site("a.test", "prj_1", "dep_1", "prj_1/dep_1/manifest.json", AliasKind.PRODUCTION, 3)


@given(MANIFEST)
def test_a_manifest_survives_the_journey(manifest: Manifest) -> None:
    data = encode_manifest(manifest)
    assert decode_manifest(data) == manifest
    assert encode_manifest(decode_manifest(data)) == data


@given(
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_anything_else_is_refused_and_never_crashes(data: bytes) -> None:
    with pytest.raises(Invalid):
        decode_manifest(data)


def test_a_newer_manifest_is_refused_by_its_version() -> None:
    raw = json.loads(encode_manifest(Manifest("d", "p", None, {}, ())))
    with pytest.raises(Invalid, match="version 3"):
        decode_manifest(json.dumps({**raw, "version": 3}).encode())


def test_a_manifest_of_the_first_version_is_read() -> None:
    entry = FileEntry("1" * 64, 9, "text/html", variants={"br": Variant("2" * 64, 3)})
    manifest = Manifest("d", "p", None, {"/a": entry}, ())
    raw = json.loads(encode_manifest(manifest))
    assert decode_manifest(json.dumps({**raw, "version": 1}).encode()) == manifest


def test_a_packed_variant_needs_its_pack() -> None:
    pack = Pack("3" * 64, 500, 20)
    variants = {"br": Variant("2" * 64, 30, pack), "gzip": Variant("4" * 64, 40)}
    entry = FileEntry("1" * 64, 90, "text/html", variants=variants)
    assert list_blobs([entry]) == {"1" * 64: 90, "3" * 64: 500, "4" * 64: 40}


def test_sites_and_moves_survive_the_journey() -> None:
    assert decode_site(json.loads(json.dumps(encode_site(SITE)))) == SITE
    for move in (AliasMove(3, "a.test", SITE), AliasMove(4, "a.test", None)):
        assert decode_move(json.loads(json.dumps(encode_move(move)))) == move


@pytest.mark.parametrize(
    "change", [{"version": "3"}, {"version": True}, {"host": ""}, {"kind": "other"}, {"manifest_key": None}]
)
def test_a_site_with_a_wrong_field_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        decode_site({**encode_site(SITE), **change})
