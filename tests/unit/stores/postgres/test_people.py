"""The store in PostgreSQL keeps the contract, and what only it can."""

from __future__ import annotations

import pytest

from tchatd.domains.people.models import ChangePrivacy
from tchatd.stores.postgres.auth import PostgresAuthStore
from tchatd.stores.postgres.people import PostgresPeopleStore
from tchatd.stores.postgres.pool import Pool
from tests.support.auth_store import new_user
from tests.support.people_store import PeopleStoreContract

pytestmark = pytest.mark.service


@pytest.fixture
async def store(pool: Pool) -> PostgresPeopleStore:
    users = PostgresAuthStore(pool)
    for number in range(1, 10):
        assert (await users.create_user(new_user(str(number)))).number == number
    return PostgresPeopleStore(pool)


class TestPostgresPeopleStore(PeopleStoreContract):
    @pytest.fixture
    async def store(self, pool: Pool) -> PostgresPeopleStore:
        users = PostgresAuthStore(pool)
        for number in range(1, 10):
            await users.create_user(new_user(str(number)))
        return PostgresPeopleStore(pool)


async def test_who_is_not_to_be_found_says_so_in_their_row(
    store: PostgresPeopleStore, pool: Pool
) -> None:
    async def findable() -> list[int]:
        rows = await pool.fetch("SELECT number FROM users WHERE findable ORDER BY 1")
        return [row[0] for row in rows]

    assert await findable() == list(range(1, 10))
    await store.change_privacy(3, ChangePrivacy(findable=False))
    assert await findable() == [1, 2, 4, 5, 6, 7, 8, 9]
    await store.change_privacy(3, ChangePrivacy(findable=True))
    assert await findable() == list(range(1, 10))


@pytest.mark.parametrize("query", ["contacts", "blocks"])
async def test_a_page_of_a_list_reads_the_index(
    store: PostgresPeopleStore, pool: Pool, query: str
) -> None:
    column = {"contacts": "contact", "blocks": "blocked"}[query]
    await pool.execute(
        f"INSERT INTO {query} SELECT u, c, 0"
        " FROM generate_series(1, 200) u, generate_series(1, 200) c"
    )
    await pool.execute(f"ANALYZE {query}")
    rows = await pool.fetch(
        f"EXPLAIN SELECT {column}, added_ms FROM {query} WHERE user_number = 1"
        f" AND {column} > 5 ORDER BY {column} LIMIT 51"
    )
    plan = "\n".join(row[0] for row in rows)
    assert f"{query}_pkey" in plan
    assert "Sort" not in plan
