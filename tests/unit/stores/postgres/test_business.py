"""The contract of businesses, in PostgreSQL."""

from __future__ import annotations

import pytest

from tchatd.stores.postgres.business import _BEHIND, PostgresBusinessStore
from tchatd.stores.postgres.pool import Pool
from tests.support.business_store import BusinessStoreContract


@pytest.mark.service
class TestPostgresBusinessStore(BusinessStoreContract):
    @pytest.fixture
    async def store(self, pool: Pool) -> PostgresBusinessStore:
        return PostgresBusinessStore(pool)


@pytest.mark.service
async def test_who_is_behind_is_found_without_looking_through_the_dialogs(
    pool: Pool,
) -> None:
    await pool.execute(
        "INSERT INTO businesses"
        " SELECT i, gen_random_uuid(), 2, 2, CASE WHEN i = 77 THEN 1 ELSE 2 END, '{}'"
        " FROM generate_series(1, 2000) i"
    )
    await pool.execute(
        "INSERT INTO business_dialogs (dialog_number, business, customer,"
        " agents_version) SELECT i, 1 + i % 2000, 5, CASE WHEN i % 2000 = 76"
        " THEN 1 ELSE 2 END FROM generate_series(1, 20000) i"
    )
    await pool.execute("ANALYZE businesses, business_dialogs")
    plan = await pool.fetch(f"EXPLAIN {_BEHIND}", {"limit": 100})
    text = "\n".join(row[0] for row in plan)
    assert "Seq Scan" not in text
    assert "businesses_behind" in text
    assert "business_dialogs_behind" in text
    store = PostgresBusinessStore(pool)
    found = await store.behind(100)
    assert {row.business for row in found} == {77}
    assert len(found) == 10
