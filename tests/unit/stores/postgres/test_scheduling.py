"""The contract of scheduled messages, in PostgreSQL."""

from __future__ import annotations

import pytest

from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.scheduling import (
    _CLAIM,
    _NEXT_DUE,
    PostgresScheduleStore,
)
from tests.support.schedule_store import ScheduleStoreContract


@pytest.mark.service
class TestPostgresScheduleStore(ScheduleStoreContract):
    @pytest.fixture
    async def store(self, pool: Pool) -> PostgresScheduleStore:
        return PostgresScheduleStore(pool)


@pytest.mark.service
async def test_what_is_due_is_found_without_looking_through_the_table(
    pool: Pool,
) -> None:
    await pool.execute(
        "INSERT INTO scheduled_messages"
        " (id, author, author_id, dialog_id, send_at_ms, due_ms, message)"
        " SELECT gen_random_uuid(), i, gen_random_uuid(), gen_random_uuid(), i, i, ''"
        " FROM generate_series(1, 20000) i"
    )
    await pool.execute("ANALYZE scheduled_messages")
    for query, values in ((_CLAIM, (50, 100, 1)), (_NEXT_DUE, ())):
        plan = await pool.fetch(f"EXPLAIN {query}", values)
        text = "\n".join(row[0] for row in plan)
        assert "Seq Scan" not in text
        assert "scheduled_messages_due" in text
