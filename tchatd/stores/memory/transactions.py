"""Owns transactions in memory, over the ledger in memory, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import trio
from msgspec import structs

from tchatd.domains.payment.models import TransactionType
from tchatd.domains.payment.rows import (
    TransactionChanged,
    TransactionOf,
    TransactionRow,
)
from tchatd.domains.payment.store import Numbered
from tchatd.stores.memory.ledger import MemoryLedger


class MemoryTransactionStore:
    """Its records and reads are known to the ledger from when it is made."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self.rows: dict[UUID, Numbered] = {}
        ledger.writers[TransactionRow] = self._write
        ledger.writers[TransactionChanged] = self._change
        ledger.readers[TransactionOf] = self._read

    async def page(
        self,
        account: int,
        *,
        type: TransactionType | None,
        below: int | None,
        offset: int,
        limit: int,
    ) -> tuple[list[Numbered], int]:
        await trio.lowlevel.checkpoint()
        of_account = [
            numbered
            for numbered in reversed(self.rows.values())
            if numbered.row.account == account
            and (type is None or numbered.row.type == type)
        ]
        found = [n for n in of_account if below is None or n.number < below]
        return found[offset : offset + limit], len(of_account)

    async def transaction(
        self, ids: Sequence[UUID], user_number: int
    ) -> TransactionRow | None:
        await trio.lowlevel.checkpoint()
        for id in ids:
            numbered = self.rows.get(id)
            if numbered is not None and numbered.row.user_number == user_number:
                return numbered.row
        return None

    async def annotate(self, ids: Sequence[UUID], notes: Mapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        for id in ids:
            if id in self.rows:
                number, row = structs.astuple(self.rows[id])
                metadata = {**row.metadata, **notes}
                self.rows[id] = Numbered(
                    number, structs.replace(row, metadata=metadata)
                )

    def _write(self, records: list[Any]) -> None:
        for row in records:
            assert row.id not in self.rows
            self.rows[row.id] = Numbered(len(self.rows) + 1, row)

    def _change(self, records: list[Any]) -> None:
        for record in records:
            row = record.row
            self.rows[row.id] = Numbered(self.rows[row.id].number, row)

    def _read(self, keys: list[Any]) -> Mapping[Any, Any]:
        return {key: self.rows[key.id].row for key in keys if key.id in self.rows}
