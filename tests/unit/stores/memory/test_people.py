"""The store in memory keeps the contract of people's stores."""

from __future__ import annotations

import pytest

from tchatd.stores.memory.people import MemoryPeopleStore
from tests.support.people_store import PeopleStoreContract


class TestMemoryPeopleStore(PeopleStoreContract):
    @pytest.fixture
    def store(self) -> MemoryPeopleStore:
        return MemoryPeopleStore()
