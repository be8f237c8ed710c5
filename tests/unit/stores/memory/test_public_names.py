"""The contract of public names, in memory."""

from __future__ import annotations

import pytest

from tchatd.stores.memory.public_names import MemoryNameStore
from tests.support.name_store import NameStoreContract


class TestMemoryNameStore(NameStoreContract):
    @pytest.fixture
    def store(self) -> MemoryNameStore:
        return MemoryNameStore()
