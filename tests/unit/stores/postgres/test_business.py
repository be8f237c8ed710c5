"""The contract of businesses, in PostgreSQL."""

from __future__ import annotations

import pytest

from tchatd.stores.postgres.business import PostgresBusinessStore
from tchatd.stores.postgres.pool import Pool
from tests.support.business_store import BusinessStoreContract


@pytest.mark.service
class TestPostgresBusinessStore(BusinessStoreContract):
    @pytest.fixture
    async def store(self, pool: Pool) -> PostgresBusinessStore:
        return PostgresBusinessStore(pool)
