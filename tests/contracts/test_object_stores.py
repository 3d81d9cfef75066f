"""What every object store does, on a folder, on moto, on rclone's S3 server and on a real MinIO."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.contracts.places import Place

from vclone_core import ObjectStore
from vclone_core.testing.object_stores import ObjectStoreSuite, StoreTraits


@pytest.mark.product("B15.1", "B15.2", "B15.5")
class TestObjectStores(ObjectStoreSuite):
    """The suite that plugins are given, on the stores that come along."""

    @pytest.fixture
    def new_store(self, place: Place) -> Callable[[], ObjectStore]:
        return place.new_store

    @pytest.fixture
    def store(self, store: ObjectStore) -> ObjectStore:
        return store  # one of each kind for all tests

    @pytest.fixture
    def traits(self, place: Place) -> StoreTraits:
        return place.traits
