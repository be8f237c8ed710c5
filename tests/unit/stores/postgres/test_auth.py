"""The store in PostgreSQL keeps the contract of stores, and what only it can."""

from __future__ import annotations

import pytest
import trio

from tchatd.domains.auth.models import UserRecord
from tchatd.stores.postgres.auth import PostgresAuthStore
from tchatd.stores.postgres.pool import Pool
from tests.support.auth_store import NOW, AuthStoreContract, new_user

pytestmark = pytest.mark.service


@pytest.fixture
def store(pool: Pool) -> PostgresAuthStore:
    return PostgresAuthStore(pool)


class TestPostgresAuthStore(AuthStoreContract):
    @pytest.fixture
    def store(self, pool: Pool) -> PostgresAuthStore:
        return PostgresAuthStore(pool)


async def test_an_erased_user_is_in_no_answer(
    store: PostgresAuthStore, pool: Pool
) -> None:
    new = new_user()
    user = await store.create_user(new)
    await pool.execute(
        "UPDATE users SET deleted_ms = %s, phone_hash = NULL, phone_sealed = NULL,"
        " data_key = NULL, data_key_id = NULL WHERE number = %s",
        (NOW, user.number),
    )
    assert await store.users_by_id([user.id]) == []
    assert await store.users_by_number([user.number]) == []
    assert await store.user_by_identifier("phone", new.identifier_hash) is None
    again = await store.create_user(new_user())
    assert again.number != user.number


async def test_many_users_come_by_one_query(store: PostgresAuthStore) -> None:
    made: list[UserRecord] = []

    async def create(name: str) -> None:
        made.append(await store.create_user(new_user(name)))

    async with trio.open_nursery() as nursery:
        for i in range(50):
            nursery.start_soon(create, str(i))
    found = await store.users_by_id([user.id for user in made])
    assert sorted(user.number for user in found) == sorted(u.number for u in made)
    found = await store.users_by_number([user.number for user in made])
    assert {user.id for user in found} == {user.id for user in made}
