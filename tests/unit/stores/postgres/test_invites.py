"""The contract of invites, in PostgreSQL."""

from __future__ import annotations

import pytest

from tchatd.stores.postgres.invites import PostgresInviteStore
from tchatd.stores.postgres.pool import Pool
from tests.support.invite_store import InviteStoreContract


@pytest.mark.service
class TestPostgresInviteStore(InviteStoreContract):
    @pytest.fixture
    async def store(self, pool: Pool) -> PostgresInviteStore:
        return PostgresInviteStore(pool)
