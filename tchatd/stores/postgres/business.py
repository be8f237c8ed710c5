"""Owns the rows of businesses, of their dialogs and of their replies in PostgreSQL."""

from __future__ import annotations

from typing import Final

from msgspec import structs

from tchatd.domains.messaging.beside import (
    BusinessDialogRow,
    BusinessRow,
    ReplyRow,
    decide,
)
from tchatd.stores.postgres.pool import Pool

# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

_BUSINESS: Final = "user_number, user_id, version, agents_version, profile"
_DIALOG: Final = (
    "dialog_number, business, customer, agents_version, greeted_seq, closed_seq,"
    " away_ms, away_seq"
)
_REPLY: Final = "dialog_number, seq, kind, at_ms"
assert tuple(_BUSINESS.split(", ")) == BusinessRow.__struct_fields__
assert tuple(_DIALOG.split(", ")) == BusinessDialogRow.__struct_fields__
assert tuple(_REPLY.split(", ")) == ReplyRow.__struct_fields__

_PUT_FIRST = f"""
INSERT INTO businesses ({_BUSINESS}, followed_version) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""
_PUT = """
UPDATE businesses SET version = %s, agents_version = %s, profile = %s
WHERE user_number = %s AND version = %s
"""
_OPEN = f"""
WITH opened AS (
    INSERT INTO business_dialogs ({_DIALOG}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT DO NOTHING RETURNING business, agents_version
)
UPDATE businesses b SET followed_version = o.agents_version
FROM opened o WHERE b.user_number = o.business
    AND o.agents_version < b.followed_version
"""
_DECIDED = """
UPDATE business_dialogs
SET greeted_seq = %s, closed_seq = %s, away_ms = %s, away_seq = %s
WHERE dialog_number = %s
"""
_KEEP = f"""
INSERT INTO business_replies ({_REPLY}, due_ms)
SELECT %s, %s, %s, %s, coalesce(max(due_ms), 0)
FROM business_replies WHERE dialog_number = %s
ON CONFLICT DO NOTHING
"""
_DUE = f"""
SELECT {_REPLY} FROM business_replies WHERE due_ms <= %s
ORDER BY due_ms, at_ms, dialog_number, seq, kind LIMIT %s
"""
_NEXT_DUE = "SELECT min(due_ms) FROM business_replies WHERE due_ms > %s"
_BEHIND = f"""
SELECT {", ".join(f"d.{name}" for name in BusinessDialogRow.__struct_fields__)}
FROM businesses b CROSS JOIN LATERAL (
    SELECT * FROM business_dialogs
    WHERE business = b.user_number AND agents_version < b.agents_version
    ORDER BY agents_version LIMIT %(limit)s
) d
WHERE b.followed_version < b.agents_version LIMIT %(limit)s
"""
# A dialog that is opened meanwhile either is seen by the second statement, or waits for
# the first one's lock to say that it is behind.
_LOCK_FOLLOWED = """
SELECT user_number FROM businesses WHERE followed_version < agents_version FOR UPDATE
"""
_FOLLOWED = """
UPDATE businesses b SET followed_version = agents_version
WHERE followed_version < agents_version AND NOT EXISTS (
    SELECT FROM business_dialogs d
    WHERE d.business = b.user_number AND d.agents_version < b.agents_version)
"""
_CAUGHT_UP = """
UPDATE business_dialogs SET agents_version = greatest(agents_version, %s)
WHERE dialog_number = %s
"""


class PostgresBusinessStore:
    """See the port, `tchatd.domains.messaging.beside.BusinessStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def business(self, user_number: int) -> BusinessRow | None:
        query = f"SELECT {_BUSINESS} FROM businesses WHERE user_number = %s"
        row = await self._pool.fetch_one(query, (user_number,))
        return None if row is None else BusinessRow(*row)

    async def put_business(self, row: BusinessRow) -> bool:
        if row.version == 1:
            first = (*structs.astuple(row), row.agents_version)
            return await self._pool.execute(_PUT_FIRST, first) == 1
        values = (
            row.version,
            row.agents_version,
            row.profile,
            row.user_number,
            row.version - 1,
        )
        return await self._pool.execute(_PUT, values) == 1

    async def open_business_dialog(self, row: BusinessDialogRow) -> None:
        await self._pool.execute(_OPEN, structs.astuple(row))

    async def business_dialog(self, dialog_number: int) -> BusinessDialogRow | None:
        query = f"SELECT {_DIALOG} FROM business_dialogs WHERE dialog_number = %s"
        row = await self._pool.fetch_one(query, (dialog_number,))
        return None if row is None else BusinessDialogRow(*row)

    async def close_conversation(self, dialog_number: int, seq: int) -> None:
        query = "UPDATE business_dialogs SET closed_seq = %s WHERE dialog_number = %s"
        await self._pool.execute(query, (seq, dialog_number))

    async def react(
        self, row: ReplyRow, *, greets: bool, away_gap_ms: int | None
    ) -> tuple[BusinessDialogRow, list[ReplyRow]] | None:
        query = (
            f"SELECT {_DIALOG} FROM business_dialogs WHERE dialog_number = %s"
            " FOR UPDATE"
        )
        async with self._pool.transaction() as connection:
            found = await connection.fetch_one(query, (row.dialog_number,))
            if found is None:
                return None
            before = BusinessDialogRow(*found)
            after, rows = decide(before, row, greets=greets, away_gap_ms=away_gap_ms)
            if after != before:
                await connection.execute(
                    _DECIDED,
                    (
                        after.greeted_seq,
                        after.closed_seq,
                        after.away_ms,
                        after.away_seq,
                        after.dialog_number,
                    ),
                )
            for reply in rows:
                values = (*structs.astuple(reply), reply.dialog_number)
                await connection.execute(_KEEP, values)
        return after, rows

    async def replies(self, now_ms: int, limit: int) -> list[ReplyRow]:
        return [ReplyRow(*row) for row in await self._pool.fetch(_DUE, (now_ms, limit))]

    async def put_off(self, dialog_number: int, due_ms: int) -> None:
        query = "UPDATE business_replies SET due_ms = %s WHERE dialog_number = %s"
        await self._pool.execute(query, (due_ms, dialog_number))

    async def next_reply_ms(self, now_ms: int) -> int | None:
        due_ms: int | None = await self._pool.fetch_value(_NEXT_DUE, (now_ms,))
        return due_ms

    async def replied(self, row: ReplyRow) -> None:
        query = (
            "DELETE FROM business_replies"
            " WHERE dialog_number = %s AND seq = %s AND kind = %s"
        )
        await self._pool.execute(query, (row.dialog_number, row.seq, row.kind))

    async def behind(self, limit: int) -> list[BusinessDialogRow]:
        rows = await self._pool.fetch(_BEHIND, {"limit": limit})
        if not rows:
            async with self._pool.transaction() as connection:
                if await connection.fetch(_LOCK_FOLLOWED):
                    await connection.execute(_FOLLOWED)
        return [BusinessDialogRow(*row) for row in rows]

    async def caught_up(self, dialog_number: int, agents_version: int) -> None:
        await self._pool.execute(_CAUGHT_UP, (agents_version, dialog_number))
