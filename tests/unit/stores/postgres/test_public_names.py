"""The contract of public names, in PostgreSQL."""

from __future__ import annotations

import pytest

from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.public_names import PostgresNameStore
from tests.support.name_store import NameStoreContract


@pytest.mark.service
class TestPostgresNameStore(NameStoreContract):
    @pytest.fixture
    async def store(self, pool: Pool) -> PostgresNameStore:
        return PostgresNameStore(pool)
