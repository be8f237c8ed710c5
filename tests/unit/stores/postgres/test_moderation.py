"""The contract of moderation, in PostgreSQL."""

from __future__ import annotations

from uuid import UUID

import pytest

from tchatd.stores.postgres.auth import PostgresAuthStore
from tchatd.stores.postgres.moderation import PostgresModerationStore
from tchatd.stores.postgres.pool import Pool
from tests.support.auth_store import new_user
from tests.support.moderation import ModerationStoreContract, decision


@pytest.mark.service
class TestPostgresModeration(ModerationStoreContract):
    @pytest.fixture
    async def ids(self, pool: Pool) -> dict[int, UUID]:
        users = PostgresAuthStore(pool)
        made = [await users.create_user(new_user(name)) for name in "ab"]
        return {user.number: user.id for user in made}

    @pytest.fixture
    async def store(self, pool: Pool, ids: dict[int, UUID]) -> PostgresModerationStore:
        return PostgresModerationStore(pool)


@pytest.mark.service
async def test_a_tier_is_set_with_its_decision_of_who_is_there(pool: Pool) -> None:
    users = PostgresAuthStore(pool)
    user = await users.create_user(new_user("a"))
    store = PostgresModerationStore(pool)

    assert await store.put_tier(user.number, 2, decision("tier 2"))
    assert not await store.put_tier(user.number + 1, 2, decision("tier 2"))

    [record] = await users.users_by_number([user.number])
    assert record.kyc_tier == 2
    assert record.updated_ms > user.updated_ms
    assert (await store.decisions(9))[1] == 1
