"""The sandbox of payments, in PostgreSQL."""

from __future__ import annotations

import pytest

from tchatd.domains.payment.sandbox import SandboxStore
from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.sandbox import PostgresSandboxStore
from tests.support.sandbox_store import SandboxStoreContract


@pytest.mark.service
class TestPostgresSandbox(SandboxStoreContract):
    @pytest.fixture
    async def store(self, pool: Pool) -> SandboxStore:
        return PostgresSandboxStore(pool)
