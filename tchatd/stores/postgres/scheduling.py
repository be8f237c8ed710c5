"""Owns the rows of scheduled messages in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from msgspec import structs

from tchatd.domains.messaging.beside import ScheduledRow
from tchatd.stores.postgres.pool import Pool

# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

_ROW: Final = (
    "id, author, author_id, dialog_id, send_at_ms, message, tries, is_claimed, failed"
)
_LOCK: Final = 3
"""Of the author, while their rows are counted; see invites.py for 1 and 2."""
assert tuple(_ROW.split(", ")) == ScheduledRow.__struct_fields__

_SCHEDULE = f"""
INSERT INTO scheduled_messages ({_ROW}, due_ms)
SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, %s
WHERE (SELECT count(*) FROM scheduled_messages WHERE author = %s) < %s
"""
_RESCHEDULE = """
UPDATE scheduled_messages
SET send_at_ms = %s, due_ms = %s, message = %s, tries = 0, failed = NULL
WHERE id = %s AND NOT is_claimed
"""
# The rows are locked in the order in which they are due: whoever claims at the same
# time gets others.
_CLAIM = f"""
WITH due AS (
    SELECT id AS due_id, due_ms AS was_due_ms FROM scheduled_messages
    WHERE failed IS NULL AND due_ms <= %s
    ORDER BY due_ms, id LIMIT %s FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE scheduled_messages
    SET due_ms = %s, is_claimed = true, tries = tries + 1
    FROM due WHERE id = due_id
    RETURNING {_ROW}, was_due_ms
)
SELECT {_ROW} FROM claimed ORDER BY was_due_ms, id
"""
_NEXT_DUE = "SELECT min(due_ms) FROM scheduled_messages WHERE failed IS NULL"
_FAIL = """
UPDATE scheduled_messages SET failed = %s, due_ms = %s, is_claimed = false
WHERE id = %s
"""
_PRUNE = """
DELETE FROM scheduled_messages WHERE id IN (
    SELECT id FROM scheduled_messages WHERE failed IS NOT NULL AND due_ms < %s
    ORDER BY due_ms LIMIT %s FOR UPDATE SKIP LOCKED)
"""


class PostgresScheduleStore:
    """See the port, `tchatd.domains.messaging.beside.ScheduleStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def schedule(self, row: ScheduledRow, per_user_max: int) -> bool:
        async with self._pool.transaction() as connection:
            await connection.execute(
                "SELECT pg_advisory_xact_lock(%s::int, %s::int)", (_LOCK, row.author)
            )
            there = await connection.fetch_value(
                "SELECT true FROM scheduled_messages WHERE id = %s", (row.id,)
            )
            if there:
                return True
            cursor = await connection.execute(
                _SCHEDULE,
                (*structs.astuple(row), row.send_at_ms, row.author, per_user_max),
            )
            return cursor.rowcount == 1

    async def scheduled(self, id: UUID) -> ScheduledRow | None:
        query = f"SELECT {_ROW} FROM scheduled_messages WHERE id = %s"
        row = await self._pool.fetch_one(query, (id,))
        return None if row is None else ScheduledRow(*row)

    async def scheduled_of(
        self, author: int, dialog_id: UUID, limit: int
    ) -> list[ScheduledRow]:
        query = (
            f"SELECT {_ROW} FROM scheduled_messages"
            " WHERE author = %s AND dialog_id = %s ORDER BY send_at_ms, id LIMIT %s"
        )
        rows = await self._pool.fetch(query, (author, dialog_id, limit))
        return [ScheduledRow(*row) for row in rows]

    async def reschedule(self, id: UUID, send_at_ms: int, message: str) -> bool:
        values = (send_at_ms, send_at_ms, message, id)
        return await self._pool.execute(_RESCHEDULE, values) == 1

    async def unschedule(self, id: UUID) -> bool:
        query = "DELETE FROM scheduled_messages WHERE id = %s AND NOT is_claimed"
        return await self._pool.execute(query, (id,)) == 1

    async def claim_due(
        self, now_ms: int, lease_until_ms: int, limit: int
    ) -> list[ScheduledRow]:
        rows = await self._pool.fetch(_CLAIM, (now_ms, limit, lease_until_ms))
        return [ScheduledRow(*row) for row in rows]

    async def next_due_ms(self) -> int | None:
        due_ms: int | None = await self._pool.fetch_value(_NEXT_DUE)
        return due_ms

    async def sent(self, ids: Sequence[UUID]) -> None:
        await self._pool.execute(
            "DELETE FROM scheduled_messages WHERE id = ANY(%s)", (list(ids),)
        )

    async def postpone(self, id: UUID, due_ms: int, *, is_claimed: bool) -> None:
        query = (
            "UPDATE scheduled_messages SET due_ms = %s, is_claimed = %s WHERE id = %s"
        )
        await self._pool.execute(query, (due_ms, is_claimed, id))

    async def fail(self, id: UUID, code: str, now_ms: int) -> None:
        await self._pool.execute(_FAIL, (code, now_ms, id))

    async def prune_failed(self, before_ms: int, limit: int) -> int:
        return await self._pool.execute(_PRUNE, (before_ms, limit))
