"""Object store in a local folder, for `VCLONE_STORE=file:///…`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vclone_core import ObjectStoreFactory, StoreConfig, errors, hookimpl
from vclone_store_local.store import FolderStore

__all__ = ["FolderStore", "make_store", "register_object_stores"]


def make_store(config: StoreConfig) -> FolderStore:
    """Return a store in the folder that `config.url` names; raise `BadSettings` where it names none."""
    parts = urlsplit(config.url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise errors.BadSettings(problems=f"{config.url!r} names no folder; write file:///absolute/path.")
    return FolderStore(Path(path))


@hookimpl
def register_object_stores() -> Mapping[str, ObjectStoreFactory]:
    return {"file": make_store}
