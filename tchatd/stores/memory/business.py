"""Owns businesses, their dialogs and replies in memory: the port's meaning."""

from __future__ import annotations

from msgspec import structs

from tchatd.domains.messaging.beside import (
    BusinessDialogRow,
    BusinessRow,
    ReplyRow,
    decide,
)


class MemoryBusinessStore:
    """Nothing here awaits, so that each call is one transaction."""

    def __init__(self) -> None:
        self._businesses: dict[int, BusinessRow] = {}
        self._dialogs: dict[int, BusinessDialogRow] = {}
        self._replies: dict[tuple[int, int, int], ReplyRow] = {}
        self._due_ms: dict[int, int] = {}
        """By dialog, of those that were put off."""

    async def business(self, user_number: int) -> BusinessRow | None:
        return self._businesses.get(user_number)

    async def put_business(self, row: BusinessRow) -> bool:
        before = self._businesses.get(row.user_number)
        if row.version != (1 if before is None else before.version + 1):
            return False
        self._businesses[row.user_number] = row
        return True

    async def open_business_dialog(self, row: BusinessDialogRow) -> None:
        self._dialogs.setdefault(row.dialog_number, row)

    async def business_dialog(self, dialog_number: int) -> BusinessDialogRow | None:
        return self._dialogs.get(dialog_number)

    async def close_conversation(self, dialog_number: int, seq: int) -> None:
        row = self._dialogs.get(dialog_number)
        if row is not None:
            self._dialogs[dialog_number] = structs.replace(row, closed_seq=seq)

    async def react(
        self, row: ReplyRow, *, greets: bool, away_gap_ms: int | None
    ) -> tuple[BusinessDialogRow, list[ReplyRow]] | None:
        before = self._dialogs.get(row.dialog_number)
        if before is None:
            return None
        after, rows = decide(before, row, greets=greets, away_gap_ms=away_gap_ms)
        self._dialogs[row.dialog_number] = after
        for reply in rows:
            self._replies[reply.dialog_number, reply.seq, reply.kind] = reply
        return after, rows

    async def replies(self, now_ms: int, limit: int) -> list[ReplyRow]:
        rows = sorted(
            (r for r in self._replies.values() if self._due(r) <= now_ms),
            key=lambda r: (self._due(r), r.at_ms, r.dialog_number, r.seq, r.kind),
        )
        return rows[:limit]

    def _due(self, row: ReplyRow) -> int:
        return self._due_ms.get(row.dialog_number, 0)

    async def put_off(self, dialog_number: int, due_ms: int) -> None:
        self._due_ms[dialog_number] = due_ms

    async def next_reply_ms(self, now_ms: int) -> int | None:
        later = [ms for r in self._replies.values() if (ms := self._due(r)) > now_ms]
        return min(later, default=None)

    async def replied(self, row: ReplyRow) -> None:
        self._replies.pop((row.dialog_number, row.seq, row.kind), None)
        if not any(
            r.dialog_number == row.dialog_number for r in self._replies.values()
        ):
            self._due_ms.pop(row.dialog_number, None)

    async def behind(self, limit: int) -> list[BusinessDialogRow]:
        rows = [
            row
            for row in self._dialogs.values()
            if (business := self._businesses.get(row.business)) is not None
            and row.agents_version < business.agents_version
        ]
        return sorted(rows, key=lambda row: row.dialog_number)[:limit]

    async def caught_up(self, dialog_number: int, agents_version: int) -> None:
        row = self._dialogs[dialog_number]
        self._dialogs[dialog_number] = structs.replace(
            row, agents_version=max(row.agents_version, agents_version)
        )
