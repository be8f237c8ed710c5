"""The contracts of bots and webhooks, in PostgreSQL."""

from __future__ import annotations

from uuid import UUID

import pytest

from tchatd.domains.messaging.beside import ScheduledRow
from tchatd.stores.postgres.auth import PostgresAuthStore
from tchatd.stores.postgres.bots import PostgresBotStore, PostgresWebhookStore
from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.scheduling import PostgresScheduleStore
from tests.support.auth_store import new_user
from tests.support.bot_store import (
    BotStoreContract,
    Stores,
    WebhookStoreContract,
    new_bot,
)


@pytest.mark.service
class TestPostgresBots(BotStoreContract, WebhookStoreContract):
    @pytest.fixture
    async def stores(self, pool: Pool) -> Stores:
        users = PostgresAuthStore(pool)
        for identifier in "ab":
            await users.create_user(new_user(identifier))
        return PostgresBotStore(pool), PostgresWebhookStore(pool)

    async def test_a_bot_is_a_user_that_is_one(
        self, pool: Pool, stores: Stores
    ) -> None:
        bots, _ = stores
        made = await bots.create_bot(new_bot(), 20)
        users = PostgresAuthStore(pool)
        [user] = await users.users_by_id([made.id])
        assert (user.number, user.is_bot, user.name) == (made.number, True, "Echo")
        assert (user.phone_sealed, user.email_sealed) == (None, None)
        assert user.country == "TH"
        await bots.delete_bot(made.number, 1)
        assert await users.users_by_id([made.id]) == []

    async def test_what_a_deleted_bot_had_scheduled_is_not_sent(
        self, pool: Pool, stores: Stores
    ) -> None:
        bots, _ = stores
        made = await bots.create_bot(new_bot(), 20)
        schedules = PostgresScheduleStore(pool)
        for number, author in enumerate((made.number, 1)):
            row = ScheduledRow(
                UUID(int=number), author, UUID(int=author), UUID(int=9), 1, "{}"
            )
            assert await schedules.schedule(row, 100)
        await bots.delete_bot(made.number, 1)
        left = await schedules.claim_due(1, 2, 9)
        assert [row.author for row in left] == [1]
