"""The contracts of bots and webhooks, in memory."""

from __future__ import annotations

import pytest

from tchatd.stores.memory.bots import MemoryBotStore, MemoryWebhookStore
from tests.support.bot_store import (
    BotStoreContract,
    Stores,
    WebhookStoreContract,
    owners,
)


class TestMemoryBots(BotStoreContract, WebhookStoreContract):
    @pytest.fixture
    async def stores(self) -> Stores:
        bots = MemoryBotStore(owners())
        return bots, MemoryWebhookStore(bots)
