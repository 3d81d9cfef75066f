"""Opens the object store that the settings name, through the plugin that offers its scheme."""

from __future__ import annotations

import re

from vclone_core.errors import BadSettings
from vclone_core.plugins import Plugins
from vclone_core.protocols import ObjectStore, StoreConfig
from vclone_core.settings import Settings


def open_object_store(settings: Settings, plugins: Plugins) -> ObjectStore:
    """Return the store of `VCLONE_STORE`, not yet started; raise `BadSettings` where no plugin can serve it."""
    found = re.match(r"([a-z][a-z0-9+.-]*):", settings.store)
    if found is None:
        raise BadSettings(
            problems="VCLONE_STORE names no object store; write file:///absolute/path or "
            "s3://bucket?endpoint=https://host&region=name."
        )
    store: ObjectStore = plugins.make(
        "object_stores",
        found[1],
        StoreConfig(
            url=settings.store,
            access_key=settings.store_access_key.get_secret_value() or None,
            secret_key=settings.store_secret_key.get_secret_value() or None,
        ),
    )
    return store
