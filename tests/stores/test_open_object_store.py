"""Which plugin opens which `VCLONE_STORE`."""

from __future__ import annotations

from pathlib import Path

import pytest

from vclone_core.errors import BadSettings
from vclone_core.plugins import load_plugins
from vclone_core.settings import load_settings
from vclone_core.stores.objects import open_object_store


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("", "VCLONE_STORE names no object store"),
        ("/var/lib/objects", "VCLONE_STORE names no object store"),
        ("ftp://host/objects", "No plugin offers object_stores 'ftp'; installed: file, s3"),
        ("file:objects", "names no folder"),
        ("s3://bucket", "VCLONE_STORE_ACCESS_KEY is empty"),
    ],
)
def test_a_store_that_cannot_be_opened(store: str, words: str) -> None:
    with pytest.raises(BadSettings, match=words):
        open_object_store(load_settings({"VCLONE_STORE": store}), load_plugins())


async def test_a_folder_is_opened_and_used(tmp_path: Path) -> None:
    store = open_object_store(load_settings({"VCLONE_STORE": f"file://{tmp_path}/objects"}), load_plugins())
    await store.start()
    assert await store.put("a", b"x", size=1) is True
    await store.close()
    assert (tmp_path / "objects/a").read_bytes() == b"x"
