"""The index in memory keeps the contract of search indexes."""

from __future__ import annotations

import pytest

from tchatd.stores.memory.search import MemorySearchIndex
from tests.support.search_index import SearchIndexContract


class TestMemorySearchIndex(SearchIndexContract):
    @pytest.fixture
    def index(self) -> MemorySearchIndex:
        return MemorySearchIndex()
