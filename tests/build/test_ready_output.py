"""Finished outputs of the Build Output API: their routes and overrides, and what of them can't be served."""

from __future__ import annotations

import json

import pytest
from tests.build.conftest import Place

from vclone_core.errors import DetectFailed, OutputRefused
from vclone_core.models import Source

PREBUILT = Source("prebuilt")
UPLOAD = Source("upload")

CONFIG = {"version": 3, "routes": [{"src": "/old", "headers": {"Location": "/"}, "status": 308}],
          "overrides": {"about.html": {"path": "about"}, "data": {"contentType": "application/json"}}}  # fmt: skip


@pytest.mark.parametrize("prefix", ["", ".vercel/output/"])
async def test_ready_output_brings_its_routes_and_overrides(place: Place, prefix: str) -> None:
    files = {"config.json": json.dumps(CONFIG), "static/about.html": "x", "static/data": "{}"}
    manifest = await place.deploy(PREBUILT, files={prefix + path: text for path, text in files.items()})
    assert {path: entry.type for path, entry in manifest.files.items()} == {
        "/about": "text/html; charset=utf-8",
        "/data": "application/json",
    }
    assert manifest.routes[0].src == "/old"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "config.json is no JSON"),
        ("[]", "version must be 3"),
        ('{"version": 2}', "version must be 3"),
        ('{"version": 3, "routes": {}}', "routes must be a list"),
        ('{"version": 3, "routes": [{"src": "/a"}, {"dest": "/b"}]}', "routes[1].src is missing"),
        ('{"version": 3, "routes": [{"handle": "odd"}]}', "routes[0].handle"),
        ('{"version": 3, "routes": [{"src": "/a", "status": "308"}]}', "routes[0].status"),
        ('{"version": 3, "routes": [{"src": "/(a"}]}', "routes[0]"),
        ('{"version": 3, "overrides": {"a": 1}}', "overrides.a"),
    ],
)
async def test_bad_ready_output_names_the_place(place: Place, config: str, words: str) -> None:
    with pytest.raises(DetectFailed) as caught:
        await place.deploy(PREBUILT, files={".vercel/output/config.json": config, ".vercel/output/static/a": "x"})
    assert words in caught.value.sentence


async def test_functions_are_refused_as_long_as_nothing_runs_them(place: Place) -> None:
    files = {"config.json": '{"version": 3}', "static/a": "x", "functions/api.func/.vc-config.json": "{}"}
    with pytest.raises(OutputRefused, match="functions"):
        await place.deploy(PREBUILT, files={f".vercel/output/{path}": text for path, text in files.items()})
