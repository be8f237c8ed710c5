"""The contract of businesses, in memory."""

from __future__ import annotations

import pytest

from tchatd.stores.memory.business import MemoryBusinessStore
from tests.support.business_store import BusinessStoreContract


class TestMemoryBusinessStore(BusinessStoreContract):
    @pytest.fixture
    def store(self) -> MemoryBusinessStore:
        return MemoryBusinessStore()
