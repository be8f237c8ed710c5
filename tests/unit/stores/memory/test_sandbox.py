"""The sandbox of payments, in memory."""

from __future__ import annotations

import pytest

from tchatd.domains.payment.sandbox import SandboxStore
from tchatd.stores.memory.sandbox import MemorySandboxStore
from tests.support.sandbox_store import SandboxStoreContract


class TestMemorySandbox(SandboxStoreContract):
    @pytest.fixture
    async def store(self) -> SandboxStore:
        return MemorySandboxStore()
