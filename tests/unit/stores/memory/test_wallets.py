"""The contract of wallets and transactions, in memory."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tchatd.kernel.clock import ManualClock
from tchatd.kernel.events import EventDraft
from tchatd.stores.memory.ledger import MemoryLedger
from tchatd.stores.memory.transactions import MemoryTransactionStore
from tchatd.stores.memory.wallets import MemoryWalletStore
from tests.support.messaging import user_id
from tests.support.payment_stores import PaymentStoresContract


class MemoryStores:
    def __init__(self, clock: ManualClock) -> None:
        self.events: list[Any] = []
        self.ledger = MemoryLedger(clock)
        self.ledger.writers[EventDraft] = self.events.extend
        self.wallets = MemoryWalletStore(self.ledger)
        self.transactions = MemoryTransactionStore(self.ledger)
        self.users: list[tuple[int, UUID]] = [(n, user_id(n)) for n in range(1, 5)]


class TestMemoryWallets(PaymentStoresContract):
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def stores(self, clock: ManualClock) -> MemoryStores:
        return MemoryStores(clock)
