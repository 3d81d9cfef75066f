"""Every object store the contract suite runs on; what a server can't do stands in one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.contracts import s3_servers

from vclone_core import ObjectStore
from vclone_core.plugins import load_plugins
from vclone_core.settings import load_settings
from vclone_core.stores.objects import open_object_store
from vclone_core.testing.object_stores import StoreTraits

STORES = {
    "folder": StoreTraits(is_remote=False, has_one_winner=True),
    # moto accepts any signature unless IAM is set up in it, and runs in this process.
    "moto": StoreTraits(checks_signatures=False, is_in_process=True),
    "rclone": StoreTraits(),
    "minio": StoreTraits(),
}


@dataclass(frozen=True)
class Place:
    """One kind of store, ready to be opened. `folder` is a local store's, `server` any other's."""

    name: str
    traits: StoreTraits
    url: str
    folder: Path | None = None
    server: s3_servers.Server | None = None

    def new_store(
        self, *, endpoint: str | None = None, secret_key: str = s3_servers.SECRET_KEY, **parameters: object
    ) -> ObjectStore:
        """Return a store of its own, through the plugin's public door; not started yet."""
        url = self.url
        if self.server is not None:
            url += f"?endpoint={endpoint or self.server.endpoint}&region=us-east-1"
            url += "".join(f"&{name}={value}" for name, value in parameters.items())
        settings = load_settings(
            {
                "VCLONE_STORE": url,
                "VCLONE_STORE_ACCESS_KEY": s3_servers.ACCESS_KEY,
                "VCLONE_STORE_SECRET_KEY": secret_key,
            }
        )
        return open_object_store(settings, load_plugins())
