"""The contract of scheduled messages, in PostgreSQL."""

from __future__ import annotations

import pytest

from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.scheduling import PostgresScheduleStore
from tests.support.schedule_store import ScheduleStoreContract


@pytest.mark.service
class TestPostgresScheduleStore(ScheduleStoreContract):
    @pytest.fixture
    async def store(self, pool: Pool) -> PostgresScheduleStore:
        return PostgresScheduleStore(pool)
