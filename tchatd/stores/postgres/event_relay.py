"""Owns the relay's rows in PostgreSQL: the log as it is read, leases, letters, and
which events have had their effects in this database."""
# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tchatd.events.horizon import Look
from tchatd.events.store import Held, Letter, NewLetter, Row, Wanted
from tchatd.kernel.events import Event, EventMetadata
from tchatd.stores.postgres.arrays import array
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.event_log import metadata_text
from tchatd.stores.postgres.partitions import drop_partitions, ensure_partitions
from tchatd.stores.postgres.pool import Pool

TABLE: Final = "event_log"
_decode: Final = msgspec.json.Decoder(EventMetadata).decode

_TYPES: Final = {
    "position": "bigint",
    "id": "uuid",
    "aggregate_id": "uuid",
    "domain": "text",
    "type": "text",
    "version": "bigint",
    "data": "text",
    "created_ms": "bigint",
    "metadata": "text",
}
"""Of Event's fields, in their order."""
EVENT_COLUMNS: Final = ", ".join(_TYPES)
LETTER_COLUMNS: Final = (
    f"number, subscriber, {EVENT_COLUMNS}, attempts, error, dead_ms, is_released"
)

# One statement, one snapshot: what xmin says holds for the positions beside it.
_LOOK: Final = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
    ARRAY(SELECT position FROM event_log WHERE position > %(after)s
        ORDER BY position LIMIT %(limit)s),
    coalesce((SELECT position FROM event_log ORDER BY position DESC LIMIT 1), 0)
"""
_PAGE: Final = f"""
SELECT {", ".join(f"e.{name}" for name in _TYPES)},
    EXISTS (SELECT FROM dead_letters d WHERE d.subscriber = %(subscriber)s
        AND d.aggregate_id = e.aggregate_id)
FROM event_log e
WHERE e.position > %(after)s AND e.position <= %(upto)s
    AND e.domain = ANY(%(domains)s) AND (%(all_types)s OR e.type = ANY(%(types)s))
ORDER BY e.position LIMIT %(limit)s
"""
_ACQUIRE: Final = """
UPDATE event_subscriptions SET holder = %(holder)s, updated_at = clock_timestamp(),
    lease_until = clock_timestamp() + %(lease)s * interval '1 second'
WHERE name = %(name)s AND (holder IS NULL OR holder = %(holder)s
    OR lease_until <= clock_timestamp())
RETURNING position
"""
_CREATE: Final = """
INSERT INTO event_subscriptions (name, position, holder, updated_at, lease_until)
VALUES (%(name)s, %(first)s, %(holder)s, clock_timestamp(),
    clock_timestamp() + %(lease)s * interval '1 second')
ON CONFLICT (name) DO NOTHING RETURNING position
"""
_RENEW: Final = """
UPDATE event_subscriptions s SET position = greatest(s.position, c.position),
    updated_at = clock_timestamp(),
    lease_until = clock_timestamp() + %(lease)s * interval '1 second'
FROM unnest(%(names)s::text[], %(positions)s::bigint[]) AS c (name, position)
WHERE s.name = c.name AND s.holder = %(holder)s
RETURNING s.name, (SELECT count(*) FROM dead_letters d WHERE d.subscriber = s.name),
    EXISTS (SELECT FROM dead_letters d WHERE d.subscriber = s.name AND d.is_released)
"""
_RELEASE: Final = """
UPDATE event_subscriptions s SET position = greatest(s.position, c.position),
    updated_at = clock_timestamp(), holder = NULL
FROM unnest(%(names)s::text[], %(positions)s::bigint[]) AS c (name, position)
WHERE s.name = c.name AND s.holder = %(holder)s
"""
_SETTLE: Final = """
UPDATE event_subscriptions SET position = greatest(position, %(position)s),
    updated_at = clock_timestamp(),
    lease_until = clock_timestamp() + %(lease)s * interval '1 second'
WHERE name = %(name)s AND holder = %(holder)s
"""
_NEW_LETTER: Final = _TYPES | {
    "attempts": "integer",
    "error": "text",
    "dead_ms": "bigint",
    "is_held": "boolean",
}
_BURY: Final = f"""
INSERT INTO dead_letters
    (subscriber, {EVENT_COLUMNS}, attempts, error, dead_ms, is_released)
SELECT %(subscriber)s, {", ".join(f"c.{name}" for name in list(_NEW_LETTER)[:-1])},
    NOT c.is_held AND NOT EXISTS (
        SELECT FROM dead_letters d WHERE d.subscriber = %(subscriber)s
        AND d.aggregate_id = c.aggregate_id AND NOT d.is_released)
FROM unnest({", ".join(f"%({name})b::{type}[]" for name, type in _NEW_LETTER.items())})
    AS c ({", ".join(_NEW_LETTER)})
ORDER BY c.position
ON CONFLICT (subscriber, aggregate_id, position) DO NOTHING
"""
_HOLDS: Final = """
SELECT 1 FROM event_subscriptions WHERE name = %s AND holder = %s FOR NO KEY UPDATE
"""


class PostgresEventStore:
    """An `EventStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def look(self, after: int, limit: int) -> Look:
        row = await self._pool.fetch_one(_LOOK, {"after": after, "limit": limit})
        assert row is not None
        return Look(positions=row[1], last=row[2], xmin=row[0])

    async def draw_fence(self) -> int:
        xid: int = await self._pool.fetch_value(
            "SELECT pg_current_xact_id()::text::bigint"
        )
        return xid

    async def furthest(self) -> int:
        position: int = await self._pool.fetch_value(
            "SELECT coalesce(max(position), 0) FROM event_subscriptions"
        )
        return position

    async def page(
        self, subscriber: str, wanted: Wanted, after: int, upto: int, limit: int
    ) -> list[Row]:
        rows = await self._pool.fetch(
            _PAGE,
            {
                "subscriber": subscriber,
                "after": after,
                "upto": upto,
                "domains": sorted(wanted.domains),
                "all_types": not wanted.types,
                "types": sorted(wanted.types),
                "limit": limit,
            },
        )
        return [Row(event_of(row[:-1]), row[-1]) for row in rows]

    async def acquire(
        self, subscriber: str, holder: str, lease_s: float, first: int | None
    ) -> int | None:
        parameters: dict[str, Any] = {
            "name": subscriber,
            "holder": holder,
            "lease": lease_s,
            "first": first,
        }
        position: int | None = await self._pool.fetch_value(_ACQUIRE, parameters)
        if position is None and first is not None:
            position = await self._pool.fetch_value(_CREATE, parameters)
        return position

    async def renew(
        self, holder: str, positions: Mapping[str, int], lease_s: float
    ) -> Mapping[str, Held]:
        rows = await self._pool.fetch(_RENEW, _leases(holder, positions, lease_s))
        return {name: Held(letters, released) for name, letters, released in rows}

    async def release(self, holder: str, positions: Mapping[str, int]) -> None:
        await self._pool.execute(_RELEASE, _leases(holder, positions, 0.0))

    async def settle(
        self,
        subscriber: str,
        holder: str,
        position: int,
        letters: Sequence[NewLetter],
        lease_s: float,
    ) -> bool:
        parameters = {
            "name": subscriber,
            "holder": holder,
            "position": position,
            "lease": lease_s,
        }
        if not letters:
            return await self._pool.execute(_SETTLE, parameters) == 1
        # Two statements: the second one sees what became of the letters before, while
        # an operator who drops some waits for the row of the subscription.
        async with self._pool.transaction() as connection:
            settled = await connection.execute(_SETTLE, parameters)
            if settled.rowcount != 1:
                return False
            await connection.execute(_BURY, _letter_parameters(subscriber, letters))
        return True

    async def released(self, subscriber: str, limit: int) -> list[Letter]:
        rows = await self._pool.fetch(
            f"SELECT {LETTER_COLUMNS} FROM dead_letters"
            " WHERE subscriber = %s AND is_released ORDER BY position LIMIT %s",
            (subscriber, limit),
        )
        return [letter_of(row) for row in rows]

    async def handled(
        self, subscriber: str, holder: str, numbers: Sequence[int]
    ) -> bool:
        async with self._pool.transaction() as connection:
            if await connection.fetch_one(_HOLDS, (subscriber, holder)) is None:
                return False
            await connection.execute(
                "DELETE FROM dead_letters"
                " WHERE subscriber = %s AND number = ANY(%s::bigint[])",
                (subscriber, list(numbers)),
            )
        return True

    async def failed_again(
        self, subscriber: str, holder: str, letter: Letter, error: str, now_ms: int
    ) -> bool:
        async with self._pool.transaction() as connection:
            if await connection.fetch_one(_HOLDS, (subscriber, holder)) is None:
                return False
            await connection.execute(
                "UPDATE dead_letters SET attempts = attempts + 1, error = %s,"
                " dead_ms = %s WHERE number = %s",
                (error, now_ms, letter.number),
            )
            await connection.execute(
                "UPDATE dead_letters SET is_released = false"
                " WHERE subscriber = %s AND aggregate_id = %s",
                (subscriber, letter.event.aggregate_id),
            )
        return True

    # Partitions and what is over; by the daemon, whether or not there are subscribers.

    async def ensure_partitions(self, now_ms: int) -> list[str]:
        """Those of the log for the months to come; see `partitions`."""
        return await ensure_partitions(self._pool, TABLE, now_ms)

    async def drop_partitions(self, before_ms: int) -> list[str]:
        """Those that are older and that every subscription has passed."""
        return await drop_partitions(self._pool, TABLE, before_ms, self._is_passed)

    async def _is_passed(self, partition: str) -> bool:
        passed: bool = await self._pool.fetch_value(
            "SELECT coalesce((SELECT min(position) FROM event_subscriptions)"
            f" >= (SELECT max(position) FROM {partition}), true)"
        )
        return passed

    async def prune_handled(self, before_ms: int, limit: int) -> int:
        """Forget effects that no event can have twice: handled before, at positions
        that the subscription has passed, and not among its letters. How many."""
        return await self._pool.execute(
            "DELETE FROM event_handled WHERE (subscriber, event_id) IN ("
            "SELECT h.subscriber, h.event_id FROM event_handled h"
            " JOIN event_subscriptions s ON s.name = h.subscriber"
            " WHERE h.handled_ms < %s AND h.position <= s.position AND NOT EXISTS ("
            "SELECT FROM dead_letters d WHERE d.subscriber = h.subscriber"
            " AND d.position = h.position) ORDER BY h.handled_ms LIMIT %s)",
            (before_ms, limit),
        )


async def first_time(
    connection: Connection, subscriber: str, events: Sequence[Event], now_ms: int
) -> list[Event]:
    """Those of the events that have had no effect here yet. Called by a subscriber
    inside the transaction of their effects, which makes handling them idempotent."""
    rows = await connection.fetch(
        "INSERT INTO event_handled (subscriber, event_id, position, handled_ms)"
        " SELECT %(subscriber)s, c.id, c.position, %(now)s"
        " FROM unnest(%(ids)b::uuid[], %(positions)b::bigint[]) AS c (id, position)"
        " ON CONFLICT DO NOTHING RETURNING event_id",
        {
            "subscriber": subscriber,
            "now": now_ms,
            "ids": array("uuid", [event.id.bytes for event in events]),
            "positions": array("bigint", [event.position for event in events]),
        },
    )
    new = {row[0] for row in rows}
    return [event for event in events if event.id in new]


def event_of(row: Sequence[Any]) -> Event:
    """row: as `EVENT_COLUMNS`."""
    fields = dict(zip(_TYPES, row, strict=True))
    fields["data"] = fields["data"].encode()
    fields["metadata"] = _decode(fields["metadata"])
    return Event(**fields)


def letter_of(row: Sequence[Any]) -> Letter:
    """row: as `LETTER_COLUMNS`."""
    number, subscriber, *columns, attempts, error, dead_ms, is_released = row
    return Letter(
        number=number,
        subscriber=subscriber,
        event=event_of(columns),
        attempts=attempts,
        error=error,
        dead_ms=dead_ms,
        is_released=is_released,
    )


def _leases(
    holder: str, positions: Mapping[str, int], lease_s: float
) -> dict[str, Any]:
    return {
        "holder": holder,
        "lease": lease_s,
        "names": list(positions),
        "positions": list(positions.values()),
    }


def _letter_parameters(subscriber: str, letters: Sequence[NewLetter]) -> dict[str, Any]:
    rows = [
        (
            *(of.event.position, of.event.id.bytes, of.event.aggregate_id.bytes),
            *(of.event.domain, of.event.type, of.event.version),
            *(of.event.data.decode(), of.event.created_ms),
            metadata_text(of.event.metadata),
            *(of.attempts, of.error, of.dead_ms, of.is_held),
        )
        for of in letters
    ]
    columns = zip(*rows, strict=True)
    parameters: dict[str, Any] = {
        name: array(type, list(values))
        for (name, type), values in zip(_NEW_LETTER.items(), columns, strict=True)
    }
    return parameters | {"subscriber": subscriber}


assert tuple(_TYPES) == Event.__struct_fields__
