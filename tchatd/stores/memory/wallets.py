"""Owns wallets in memory, over the ledger in memory: the port's meaning, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import trio

from tchatd.domains.payment.commands import state_of
from tchatd.domains.payment.rows import (
    WalletChanged,
    WalletOpened,
    WalletRow,
    WalletsOf,
    WalletState,
)
from tchatd.kernel.money import Currency
from tchatd.stores.memory.ledger import MemoryLedger


class MemoryWalletStore:
    """Its records and reads are known to the ledger from when it is made."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self.rows: dict[UUID, WalletRow] = {}
        ledger.writers[WalletOpened] = self._write
        ledger.writers[WalletChanged] = self._write
        ledger.readers[WalletsOf] = self._read

    async def of_user(self, user_number: int) -> list[WalletState]:
        await trio.lowlevel.checkpoint()
        return [self._state(row) for row in self._of(user_number)]

    async def wallet(self, id: UUID) -> WalletState | None:
        await trio.lowlevel.checkpoint()
        row = self.rows.get(id)
        return None if row is None else self._state(row)

    async def in_currency(
        self, user_number: int, currency: Currency
    ) -> WalletRow | None:
        await trio.lowlevel.checkpoint()
        known = [row for row in self._of(user_number) if row.currency is currency]
        return known[-1] if known else None

    def _of(self, user_number: int) -> list[WalletRow]:
        rows = [row for row in self.rows.values() if row.user_number == user_number]
        return sorted(rows, key=lambda row: row.account)

    def _state(self, row: WalletRow) -> WalletState:
        return state_of(row, self._ledger.stored[row.account])

    def _write(self, records: list[Any]) -> None:
        for record in records:
            self.rows[record.row.id] = record.row

    def _read(self, keys: list[Any]) -> Mapping[Any, Any]:
        return {key: tuple(self._of(key.user_number)) for key in keys}
