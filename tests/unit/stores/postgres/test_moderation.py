"""The contract of moderation, in PostgreSQL."""

from __future__ import annotations

from uuid import UUID

import pytest

from tchatd.stores.postgres.auth import PostgresAuthStore
from tchatd.stores.postgres.moderation import PostgresModerationStore
from tchatd.stores.postgres.pool import Pool
from tests.support.auth_store import new_user
from tests.support.moderation import ModerationStoreContract


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
