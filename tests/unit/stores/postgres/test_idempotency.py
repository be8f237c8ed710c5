"""The contract of idempotency keys, in PostgreSQL."""

from __future__ import annotations

import pytest

from tchatd.stores.postgres.idempotency import PostgresIdempotencyStore
from tchatd.stores.postgres.pool import Pool
from tests.support.idempotency_store import IdempotencyStoreContract


@pytest.mark.service
class TestPostgresIdempotencyStore(IdempotencyStoreContract):
    @pytest.fixture
    async def store(self, pool: Pool) -> PostgresIdempotencyStore:
        return PostgresIdempotencyStore(pool)
