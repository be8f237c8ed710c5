"""The contract of invites, in memory."""

from __future__ import annotations

import pytest

from tchatd.stores.memory.invites import MemoryInviteStore
from tests.support.invite_store import InviteStoreContract


class TestMemoryInviteStore(InviteStoreContract):
    @pytest.fixture
    def store(self) -> MemoryInviteStore:
        return MemoryInviteStore()
