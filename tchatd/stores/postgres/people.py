"""Owns the rows of privacy, contacts, blocks, preferences and last times.

A change takes the lock of the person's own row of `circles` first, so that changes of
one person follow each other and limits are exact.
"""
# Statements are put together of this module's own names, never of values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tchatd.domains.people import rules
from tchatd.domains.people.models import (
    ChangePrivacy,
    Circle,
    Numbers,
    Privacy,
    Relation,
    privacy_decode,
    privacy_encode,
)
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.pool import Pool

ROWS_MAX: Final = 5_000
"""Rows of one statement that keeps last times."""

_CIRCLES = (
    "SELECT user_number, version, privacy,"
    " ARRAY(SELECT contact FROM contacts c WHERE c.user_number = circles.user_number),"
    " ARRAY(SELECT blocked FROM blocks b WHERE b.user_number = circles.user_number)"
    " FROM circles WHERE user_number = ANY(%b::integer[])"
)
_LOCK = (
    "INSERT INTO circles (user_number, version, privacy) VALUES (%s, 1, %s)"
    " ON CONFLICT (user_number) DO UPDATE SET version = circles.version + 1"
    " RETURNING privacy"
)
_PLAIN = privacy_encode(Privacy())


class PostgresPeopleStore:
    """A `PeopleStore` and a `LastSeenStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def circles(self, numbers: Sequence[int]) -> Mapping[int, Circle]:
        rows = await self._pool.fetch(_CIRCLES, (list(numbers),))
        return {row[0]: _circle(row) for row in rows}

    async def change_privacy(self, number: int, change: ChangePrivacy) -> Circle:
        async with self._pool.transaction() as connection:
            privacy = rules.changed(await _lock(connection, number), change)
            await connection.execute(
                "UPDATE circles SET privacy = %s WHERE user_number = %s",
                (privacy_encode(privacy), number),
            )
            await connection.execute(
                "UPDATE users SET findable = %s WHERE number = %s AND findable <> %s",
                (privacy.findable, number, privacy.findable),
            )
            return await _read(connection, number)

    async def add_contacts(
        self, number: int, contacts: Sequence[int], now_ms: int, contacts_max: int
    ) -> Circle | None:
        return await self._add("contacts", number, contacts, now_ms, contacts_max)

    async def remove_contacts(self, number: int, contacts: Sequence[int]) -> Circle:
        return await self._remove("contacts", number, contacts)

    async def contacts(self, number: int, after: int, limit: int) -> list[Relation]:
        return await self._page("contacts", number, after, limit)

    async def add_blocks(
        self, number: int, blocked: Sequence[int], now_ms: int, blocks_max: int
    ) -> Circle | None:
        return await self._add("blocks", number, blocked, now_ms, blocks_max)

    async def remove_blocks(self, number: int, blocked: Sequence[int]) -> Circle:
        return await self._remove("blocks", number, blocked)

    async def blocks(self, number: int, after: int, limit: int) -> list[Relation]:
        return await self._page("blocks", number, after, limit)

    async def preferences(self, number: int) -> bytes | None:
        row = await self._pool.fetch_one(
            "SELECT preferences FROM circles WHERE user_number = %s", (number,)
        )
        return None if row is None or row[0] is None else bytes(row[0])

    async def set_preferences(self, number: int, preferences: bytes) -> None:
        await self._pool.execute(
            "INSERT INTO circles (user_number, version, privacy, preferences)"
            " VALUES (%s, 1, %s, %s) ON CONFLICT (user_number)"
            " DO UPDATE SET preferences = excluded.preferences,"
            " version = circles.version + 1",
            (number, _PLAIN, preferences),
        )

    async def last_seen(self, numbers: Sequence[int]) -> Mapping[int, int]:
        rows = await self._pool.fetch(
            "SELECT user_number, seen_ms FROM last_seen"
            " WHERE user_number = ANY(%b::integer[])",
            (list(numbers),),
        )
        return {row[0]: row[1] for row in rows}

    async def keep_last_seen(self, seen: Mapping[int, int]) -> None:
        # In the order of numbers, so that two nodes cannot wait for each other.
        rows = sorted(seen.items())
        for start in range(0, len(rows), ROWS_MAX):
            part = rows[start : start + ROWS_MAX]
            await self._pool.execute(
                "INSERT INTO last_seen (user_number, seen_ms)"
                " SELECT * FROM unnest(%b::integer[], %b::bigint[])"
                " ON CONFLICT (user_number) DO UPDATE SET seen_ms = excluded.seen_ms"
                " WHERE last_seen.seen_ms < excluded.seen_ms",
                ([number for number, _ in part], [at_ms for _, at_ms in part]),
            )

    async def _add(
        self, table: str, number: int, others: Sequence[int], now_ms: int, most: int
    ) -> Circle | None:
        try:
            async with self._pool.transaction() as connection:
                await _lock(connection, number)
                before = await _count(connection, table, number)
                added = await connection.execute(
                    f"INSERT INTO {table} (user_number, {_COLUMN[table]}, added_ms)"
                    " SELECT %s, other, %s FROM unnest(%b::integer[]) AS others (other)"
                    " ON CONFLICT DO NOTHING",
                    (number, now_ms, list(others)),
                )
                if added.rowcount and before + added.rowcount > most:
                    raise _Full
                return await _read(connection, number)
        except _Full:
            return None

    async def _remove(self, table: str, number: int, others: Sequence[int]) -> Circle:
        async with self._pool.transaction() as connection:
            await _lock(connection, number)
            await connection.execute(
                f"DELETE FROM {table} WHERE user_number = %s"
                f" AND {_COLUMN[table]} = ANY(%b::integer[])",
                (number, list(others)),
            )
            return await _read(connection, number)

    async def _page(
        self, table: str, number: int, after: int, limit: int
    ) -> list[Relation]:
        column = _COLUMN[table]
        rows = await self._pool.fetch(
            f"SELECT {column}, added_ms FROM {table} WHERE user_number = %s"
            f" AND {column} > %s ORDER BY {column} LIMIT %s",
            (number, after, limit),
        )
        return [Relation(*row) for row in rows]


class _Full(Exception):
    """Undoes the transaction that raises it."""


_COLUMN: Final = {"contacts": "contact", "blocks": "blocked"}


async def _lock(connection: Connection, number: int) -> Privacy:
    """The person's row is there, ours until the end, and of the next version."""
    row = await connection.fetch_one(_LOCK, (number, _PLAIN))
    assert row is not None
    return privacy_decode(row[0])


async def _count(connection: Connection, table: str, number: int) -> int:
    row = await connection.fetch_one(
        f"SELECT count(*) FROM {table} WHERE user_number = %s", (number,)
    )
    assert row is not None
    count: int = row[0]
    return count


async def _read(connection: Connection, number: int) -> Circle:
    [row] = await connection.fetch(_CIRCLES, ([number],))
    return _circle(row)


def _circle(row: tuple[Any, ...]) -> Circle:
    _, version, privacy, contacts, blocked = row
    return Circle(version, privacy_decode(privacy), Numbers(contacts), Numbers(blocked))
