"""The contract of scheduled messages, in memory."""

from __future__ import annotations

import pytest

from tchatd.stores.memory.scheduling import MemoryScheduleStore
from tests.support.schedule_store import ScheduleStoreContract


class TestMemoryScheduleStore(ScheduleStoreContract):
    @pytest.fixture
    def store(self) -> MemoryScheduleStore:
        return MemoryScheduleStore()
