"""A store that fails at the N-th object of a build, for each N: no manifest, and the next one needs the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from tests.build.conftest import Place

from vclone_core.errors import StoreUnavailable
from vclone_core.models import ProjectSettings, Source
from vclone_core.protocols import ObjectStore

FILES = {f"pages/{number}.html": f"<p>{number}</p>" * 200 for number in range(4)}
COPIED = ProjectSettings(
    framework="static",
    build_command="mkdir dist; for page in pages/*; do (cat $page; echo built) > dist/${page##*/}; done",
    output_directory="dist",
)


class Failing:
    """A store whose puts fail from one on, as a real one's do when it is away."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner
        self.left = 0
        self.puts: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def put(self, key: str, *args: Any, **more: Any) -> bool:
        if len(self.puts) >= self.left:
            raise StoreUnavailable(why="503 Slow Down")
        self.puts.append(key)
        return await self._inner.put(key, *args, **more)


@pytest.mark.reliability("R8.3")
async def test_a_store_that_fails_at_any_object_leaves_no_manifest(place: Place) -> None:
    failing = Failing(place.objects)
    whole = replace(place)
    # What was uploaded is there; the pages that the build makes, and their variants, are not.
    await whole.store_files("dep_00000000000000000001", FILES)
    place.objects = cast(ObjectStore, failing)
    place.listed = whole.listed
    for allowed in range(100):
        failing.left, place.number = allowed, 0
        failing.puts.clear()
        try:
            await place.deploy(Source("upload"), settings=COPIED)
        except StoreUnavailable:
            # Those that are stored stay known, and only they.
            assert not [one.key async for one in whole.objects.list("prj_x/dep_")]
            for sha256 in place.blobs.known:
                assert await whole.objects.head(f"prj_x/blobs/{sha256}") is not None
        else:
            break
    assert 5 <= allowed < 50
