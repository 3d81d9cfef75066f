"""Object store in an S3 bucket, for `VCLONE_STORE=s3://bucket?endpoint=…`."""

from __future__ import annotations

from collections.abc import Mapping

from vclone_core import ObjectStore, ObjectStoreFactory, StoreConfig, hookimpl

__all__ = ["make_store", "register_object_stores"]


def make_store(config: StoreConfig) -> ObjectStore:
    """Return a store in the bucket that `config` names; raise `BadSettings` with all that is wrong in it."""
    # The driver takes 0.4 s to import: half the start of a process that may keep its objects elsewhere.
    from vclone_store_s3.config import parse_config
    from vclone_store_s3.store import BucketStore

    return BucketStore(parse_config(config))


@hookimpl
def register_object_stores() -> Mapping[str, ObjectStoreFactory]:
    return {"s3": make_store}
