"""Owns scheduled messages in memory: the port's meaning, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from msgspec import structs

from tchatd.domains.messaging.beside import ScheduledRow


class MemoryScheduleStore:
    """Nothing here awaits, so that each call is one transaction."""

    def __init__(self) -> None:
        self._rows: dict[UUID, ScheduledRow] = {}
        self._due_ms: dict[UUID, int] = {}

    async def schedule(self, row: ScheduledRow, per_user_max: int) -> bool:
        if row.id in self._rows:
            return True
        if sum(r.author == row.author for r in self._rows.values()) >= per_user_max:
            return False
        self._put(row, row.send_at_ms)
        return True

    async def scheduled(self, id: UUID) -> ScheduledRow | None:
        return self._rows.get(id)

    async def scheduled_of(
        self, author: int, dialog_id: UUID, limit: int
    ) -> list[ScheduledRow]:
        rows = [
            row
            for row in self._rows.values()
            if row.author == author and row.dialog_id == dialog_id
        ]
        return sorted(rows, key=lambda row: (row.send_at_ms, row.id))[:limit]

    async def reschedule(self, id: UUID, send_at_ms: int, message: str) -> bool:
        row = self._rows.get(id)
        if row is None or row.is_claimed:
            return False
        new = structs.replace(
            row, send_at_ms=send_at_ms, message=message, tries=0, failed=None
        )
        self._put(new, send_at_ms)
        return True

    async def unschedule(self, id: UUID) -> bool:
        row = self._rows.get(id)
        if row is None or row.is_claimed:
            return False
        await self.sent((id,))
        return True

    async def claim_due(
        self, now_ms: int, lease_until_ms: int, limit: int
    ) -> list[ScheduledRow]:
        due = [
            row
            for row in self._rows.values()
            if row.failed is None and self._due_ms[row.id] <= now_ms
        ]
        due.sort(key=lambda row: (self._due_ms[row.id], row.id))
        claimed = [
            structs.replace(row, is_claimed=True, tries=row.tries + 1)
            for row in due[:limit]
        ]
        for row in claimed:
            self._put(row, lease_until_ms)
        return claimed

    async def next_due_ms(self) -> int | None:
        waiting = [row.id for row in self._rows.values() if row.failed is None]
        return min((self._due_ms[id] for id in waiting), default=None)

    async def sent(self, ids: Sequence[UUID]) -> None:
        for id in ids:
            self._rows.pop(id, None)
            self._due_ms.pop(id, None)

    async def postpone(self, id: UUID, due_ms: int, *, is_claimed: bool) -> None:
        row = self._rows.get(id)
        if row is not None:
            self._put(structs.replace(row, is_claimed=is_claimed), due_ms)

    async def fail(self, id: UUID, code: str, now_ms: int) -> None:
        row = self._rows.get(id)
        if row is not None:
            self._put(structs.replace(row, failed=code, is_claimed=False), now_ms)

    async def prune_failed(self, before_ms: int, limit: int) -> int:
        old = [
            row.id
            for row in self._rows.values()
            if row.failed is not None and self._due_ms[row.id] < before_ms
        ][:limit]
        await self.sent(old)
        return len(old)

    def _put(self, row: ScheduledRow, due_ms: int) -> None:
        self._rows[row.id] = row
        self._due_ms[row.id] = due_ms
