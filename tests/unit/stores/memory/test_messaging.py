"""The store in memory keeps the contract of dialog stores."""

from __future__ import annotations

import pytest

from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support.dialog_store import DialogStoreContract


class TestMemoryDialogStore(DialogStoreContract):
    @pytest.fixture
    def store(self) -> MemoryDialogStore:
        return MemoryDialogStore()
