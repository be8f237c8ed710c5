"""Owns what operators do with dead letters and subscriptions, in PostgreSQL.

Whoever changes a letter holds the row of its subscription, as does the relay when it
buries one: so that none is left behind another one that is gone.
"""
# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

from __future__ import annotations

from typing import Final

from tchatd.events.store import Decided, Letter, SubscriptionRow
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.event_relay import LETTER_COLUMNS, letter_of
from tchatd.stores.postgres.pool import Pool

_LETTERS: Final = f"SELECT {LETTER_COLUMNS} FROM dead_letters"
_FIRST: Final = (
    "SELECT number FROM dead_letters WHERE subscriber = %s AND aggregate_id = %s"
    " ORDER BY position LIMIT 1"
)
_RELEASE: Final = "UPDATE dead_letters SET is_released = true"
_OF_AGGREGATE: Final = "WHERE subscriber = %s AND aggregate_id = %s"


class PostgresLetterStore:
    """A `LetterStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def letters(
        self, subscriber: str | None, limit: int
    ) -> tuple[list[Letter], int]:
        chosen = "(%(name)s::text IS NULL OR subscriber = %(name)s)"
        rows = await self._pool.fetch(
            f"{_LETTERS} WHERE {chosen} ORDER BY number LIMIT %(limit)s",
            {"name": subscriber, "limit": limit},
        )
        total = await self._pool.fetch_value(
            f"SELECT count(*) FROM dead_letters WHERE {chosen}", {"name": subscriber}
        )
        return [letter_of(row) for row in rows], total

    async def letter(self, number: int) -> Letter | None:
        row = await self._pool.fetch_one(f"{_LETTERS} WHERE number = %s", (number,))
        return None if row is None else letter_of(row)

    async def first_of(self, letter: Letter) -> int | None:
        number: int | None = await self._pool.fetch_value(_FIRST, _of(letter))
        return number

    async def retry(self, letter: Letter, decided: Decided) -> int:
        async with self._pool.transaction() as connection:
            await _hold(connection, letter.subscriber)
            released = await connection.execute(
                f"{_RELEASE} {_OF_AGGREGATE}", _of(letter)
            )
            if released.rowcount:
                await _note(connection, "dlq retry", _about(letter), decided)
        return released.rowcount

    async def retry_all(self, subscriber: str, decided: Decided) -> int:
        async with self._pool.transaction() as connection:
            await _hold(connection, subscriber)
            released = await connection.execute(
                f"{_RELEASE} WHERE subscriber = %s AND NOT is_released", (subscriber,)
            )
            if released.rowcount:
                await _note(connection, "dlq retry", f"{subscriber}: all", decided)
        return released.rowcount

    async def drop(self, letter: Letter, decided: Decided) -> bool:
        async with self._pool.transaction() as connection:
            await _hold(connection, letter.subscriber)
            is_first = (
                await connection.fetch_value(_FIRST, _of(letter)) == letter.number
            )
            dropped = await connection.execute(
                "DELETE FROM dead_letters WHERE number = %s", (letter.number,)
            )
            if dropped.rowcount:
                if is_first:
                    await connection.execute(f"{_RELEASE} {_OF_AGGREGATE}", _of(letter))
                await _note(connection, "dlq drop", _about(letter), decided)
        return dropped.rowcount == 1

    async def subscriptions(self) -> list[SubscriptionRow]:
        rows = await self._pool.fetch(
            "SELECT name, position, CASE WHEN lease_until > clock_timestamp()"
            " THEN holder END, (SELECT count(*) FROM dead_letters d"
            " WHERE d.subscriber = s.name) FROM event_subscriptions s ORDER BY name"
        )
        return [SubscriptionRow(*row) for row in rows]

    async def forget(self, subscriber: str, decided: Decided) -> bool:
        async with self._pool.transaction() as connection:
            gone = await connection.execute(
                "DELETE FROM event_subscriptions WHERE name = %s"
                " AND (holder IS NULL OR lease_until <= clock_timestamp())",
                (subscriber,),
            )
            if gone.rowcount:
                for table in ("dead_letters", "event_handled"):
                    await connection.execute(
                        f"DELETE FROM {table} WHERE subscriber = %s", (subscriber,)
                    )
                await _note(connection, "events forget", subscriber, decided)
        return gone.rowcount == 1


def _of(letter: Letter) -> tuple[object, ...]:
    return letter.subscriber, letter.event.aggregate_id


def _about(letter: Letter) -> str:
    return f"{letter.subscriber}: event {letter.event.id}"


async def _hold(connection: Connection, subscriber: str) -> None:
    await connection.execute(
        "SELECT 1 FROM event_subscriptions WHERE name = %s FOR NO KEY UPDATE",
        (subscriber,),
    )


async def _note(
    connection: Connection, action: str, thing: str, decided: Decided
) -> None:
    await connection.execute(
        "INSERT INTO moderation_log (at_ms, who, action, thing, reason)"
        " VALUES (%s, %s, %s, %s, %s)",
        (decided.at_ms, decided.who, action, thing, decided.reason),
    )
