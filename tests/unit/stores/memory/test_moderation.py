"""The contract of moderation, in memory."""

from __future__ import annotations

from uuid import UUID

import pytest

from tchatd.stores.memory.moderation import MemoryModerationStore
from tests.support.moderation import USERS, ModerationStoreContract


class TestMemoryModeration(ModerationStoreContract):
    @pytest.fixture
    def ids(self) -> dict[int, UUID]:
        return USERS

    @pytest.fixture
    def store(self, ids: dict[int, UUID]) -> MemoryModerationStore:
        return MemoryModerationStore(ids)
