"""The contract of sagas, in PostgreSQL, and how its statements serve others."""

from __future__ import annotations

from uuid import UUID

import pytest

from tchatd.kernel.sagas import progress_of
from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.sagas import (
    CLAIM,
    NEXT_DUE,
    PostgresSagaStore,
    begin_statement,
    progress_statement,
)
from tests.support.sagas import (
    NOW,
    ONE,
    SagaStoreContract,
    begun,
    id_of,
    put,
    row_of,
)

pytestmark = pytest.mark.service


class TestPostgresSagaStore(SagaStoreContract):
    @pytest.fixture
    async def store(self, pool: Pool) -> PostgresSagaStore:
        return PostgresSagaStore(pool)


async def test_the_statements_go_into_a_transaction_of_others(pool: Pool) -> None:
    store = PostgresSagaStore(pool)
    await put(store, begun(1, ONE), begun(2, ONE))
    first, second = await row_of(store, 1), await row_of(store, 2)
    await store.write([], [progress_of(second, current_step=1)])
    steps = [progress_of(first, current_step=1), progress_of(second, current_step=1)]
    async with pool.transaction() as connection, connection.pipeline():
        moved = await connection.execute(*progress_statement(steps))
        made = await connection.execute(*begin_statement([begun(1), begun(3)]))
        assert [row[0] for row in await moved.fetchall()] == [id_of(1)]
        assert [row[0] for row in await made.fetchall()] == [id_of(3)]
    assert (await row_of(store, 3)).status == "started"


async def test_a_transaction_that_is_rolled_back_moves_nothing(pool: Pool) -> None:
    store = PostgresSagaStore(pool)
    await put(store, begun(1, ONE))
    before = await row_of(store, 1)

    async def fail() -> None:
        async with pool.transaction() as connection:
            step = progress_of(before, current_step=1)
            await connection.execute(*progress_statement([step]))
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await row_of(store, 1) == before


async def test_what_is_due_is_found_without_looking_through_the_table(
    pool: Pool,
) -> None:
    await pool.execute(
        "INSERT INTO sagas (id, saga_type, version, status, current_step, total_steps,"
        " data, run_ms, deadline_ms, started_ms, ended_ms)"
        " SELECT gen_random_uuid(), 'topup', 1,"
        "   CASE i % 100 WHEN 0 THEN 'started' ELSE 'completed' END, 0, 3, '{}', i, i,"
        "   i, CASE i % 100 WHEN 0 THEN 0 ELSE i END"
        " FROM generate_series(1, 20000) i"
    )
    await pool.execute("ANALYZE sagas")
    values = {"names": ["topup"], "versions": [1]}
    claim = {"runner": UUID(int=1), "now_ms": NOW, "limit": 10}
    for query, parameters in ((CLAIM, values | claim), (NEXT_DUE, values)):
        plan = await pool.fetch(f"EXPLAIN {query}", parameters)
        text = "\n".join(row[0] for row in plan)
        assert "Seq Scan" not in text
        assert "sagas_due" in text


async def test_a_step_changes_no_index(pool: Pool) -> None:
    """Such an update (HOT) writes the row alone."""
    store, numbers = PostgresSagaStore(pool), range(1, 6)
    await put(store, *(begun(number, ONE) for number in numbers))
    for done in (1, 2):
        rows = [await row_of(store, number) for number in numbers]
        await store.write([], [progress_of(row, current_step=done) for row in rows])
    await pool.execute("SELECT pg_stat_force_next_flush()")
    row = await pool.fetch_one(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
        " WHERE relname = 'sagas'"
    )
    assert row == (10, 10)
