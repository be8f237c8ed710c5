"""The store in memory keeps the contract of stores."""

from __future__ import annotations

import pytest

from tchatd.stores.memory.auth import MemoryAuthStore
from tests.support.auth_store import AuthStoreContract


class TestMemoryAuthStore(AuthStoreContract):
    @pytest.fixture
    def store(self) -> MemoryAuthStore:
        return MemoryAuthStore()
