"""Owns sagas in PostgreSQL, and the two statements that begin and move them anywhere.

`begin_statement` and `progress_statement` take many sagas at once, in any transaction
or pipeline. A store that commits an effect together with a saga's progress runs the
latter first and looks at what it returns: of a saga that is not returned the progress
was refused (it was done before, or somebody else runs it), and its effect must be left
out.
"""
# The statements are put together of column names of ours, never of values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import structs

from tchatd.kernel.sagas import SIGNALS_MAX, SagaBegun, SagaProgress, SagaRow
from tchatd.sagas.store import (
    Counts,
    Kind,
    Moved,
    Order,
    Runner,
    Shown,
    Written,
)
from tchatd.stores.postgres.arrays import array
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.driver import Row
from tchatd.stores.postgres.pool import Pool

BEGUN_TYPES: Final = {
    "id": "uuid",
    "saga_type": "text",
    "version": "smallint",
    "total_steps": "smallint",
    "data": "text",
    "runner": "uuid",
    "run_ms": "bigint",
    "deadline_ms": "bigint",
    "started_ms": "bigint",
}
"""Of SagaBegun's fields, in their order."""
PROGRESS_TYPES: Final = {
    "id": "uuid",
    "revision": "integer",
    "version": "smallint",
    "total_steps": "smallint",
    "status": "text",
    "current_step": "smallint",
    "data": "text",
    "compensation_data": "text",
    "in_doubt": "boolean",
    "attempts": "integer",
    "run_ms": "bigint",
    "is_released": "boolean",
    "is_waiting": "boolean",
    "signals_seen": "integer",
    "error": "text",
    "failed_ms": "bigint",
    "ended_ms": "bigint",
}
"""Of SagaProgress's fields, in their order."""
_PLAIN: Final = (
    *("version", "total_steps", "status", "current_step", "data"),
    *("compensation_data", "in_doubt", "attempts", "error", "failed_ms", "ended_ms"),
)


def _arrays(prefix: str, types: Mapping[str, str]) -> str:
    return ", ".join(f"%({prefix}_{name})b::{type}[]" for name, type in types.items())


BEGIN: Final = f"""
INSERT INTO sagas ({", ".join(BEGUN_TYPES)})
SELECT * FROM unnest({_arrays("begun", BEGUN_TYPES)})
    AS b ({", ".join(BEGUN_TYPES)}) ORDER BY b.id
ON CONFLICT (id) DO NOTHING
RETURNING id
"""
PROGRESS: Final = f"""
UPDATE sagas s SET revision = s.revision + 1,
    {", ".join(f"{name} = p.{name}" for name in _PLAIN)},
    run_ms = CASE WHEN p.is_waiting AND s.signal_count > p.signals_seen
        THEN 0 ELSE p.run_ms END,
    runner = CASE WHEN p.is_released THEN NULL ELSE s.runner END
FROM unnest({_arrays("progress", PROGRESS_TYPES)})
    AS p ({", ".join(PROGRESS_TYPES)})
WHERE s.id = p.id AND s.revision = p.revision
    AND s.status IN ('started', 'compensating')
RETURNING s.id, s.run_ms, s.signal_count, s.signals::text, s.abort_reason
"""

_ROW: Final = ", ".join(
    f"s.{name}::text" if name == "signals" else f"s.{name}"
    for name in SagaRow.__struct_fields__
)
_KINDS: Final = "unnest(%(names)s::text[], %(versions)s::smallint[])"
_KNOWN: Final = f"(s.saga_type, s.version) IN (SELECT * FROM {_KINDS})"
_UNFINISHED: Final = "s.status IN ('started', 'compensating')"
_DUE: Final = f"s.runner IS NULL AND {_UNFINISHED}"

CLAIM: Final = f"""
WITH due AS (
    SELECT s.id FROM sagas s WHERE {_DUE} AND s.run_ms <= %(now_ms)s AND {_KNOWN}
    ORDER BY s.run_ms LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE sagas s SET runner = %(runner)s, revision = s.revision + 1
FROM due WHERE s.id = due.id RETURNING {_ROW}
"""
NEXT_DUE: Final = f"""
SELECT s.run_ms FROM sagas s WHERE {_DUE} AND {_KNOWN} ORDER BY s.run_ms LIMIT 1
"""
_SIGNAL: Final = f"""
UPDATE sagas s SET signals = s.signals || jsonb_build_object(%(name)s::text,
        %(body)s::jsonb),
    signal_count = s.signal_count + 1,
    run_ms = CASE WHEN s.runner IS NULL THEN 0 ELSE s.run_ms END
WHERE s.id = %(id)s AND s.ended_ms = 0 AND (jsonb_exists(s.signals, %(name)s)
    OR (SELECT count(*) FROM jsonb_object_keys(s.signals)) < {SIGNALS_MAX})
"""
_ORPHANS: Final = """
WITH orphans AS (
    SELECT s.id FROM sagas s WHERE s.runner IS NOT NULL
        AND NOT EXISTS (SELECT FROM saga_runners r WHERE r.id = s.runner)
    LIMIT %s FOR UPDATE SKIP LOCKED
)
UPDATE sagas s SET runner = NULL, revision = s.revision + 1
FROM orphans WHERE s.id = orphans.id
"""
_RESUME: Final = """
UPDATE sagas s SET attempts = 0, run_ms = 0, revision = s.revision + 1,
    status = CASE WHEN s.status <> 'failed' THEN s.status
        WHEN s.compensation_data IS NULL THEN 'started' ELSE 'compensating' END
WHERE s.id = %(id)s AND s.ended_ms = 0 AND s.runner IS NULL
"""
_ABORT: Final = """
UPDATE sagas s SET abort_reason = %(reason)s, signal_count = s.signal_count + 1,
    status = CASE WHEN s.status = 'failed' THEN 'started' ELSE s.status END,
    attempts = CASE WHEN s.runner IS NULL THEN 0 ELSE s.attempts END,
    run_ms = CASE WHEN s.runner IS NULL THEN 0 ELSE s.run_ms END
WHERE s.id = %(id)s AND s.compensation_data IS NULL
    AND s.status IN ('started', 'failed')
"""
_ORDER: Final = (
    "INSERT INTO saga_orders (saga_id, at_ms, who, action, reason)"
    " VALUES (%(saga_id)s, %(at_ms)s, %(who)s, %(action)s, %(reason)s)"
)
_SHOWN: Final[dict[Shown, tuple[str, str]]] = {
    "unfinished": ("s.ended_ms = 0 AND s.status <> 'failed'", "s.run_ms"),
    "failed": ("s.status = 'failed'", "s.failed_ms"),
    "stranded": (f"s.ended_ms = 0 AND NOT {_KNOWN}", "s.started_ms"),
    "ended": ("s.ended_ms > 0", "s.ended_ms DESC"),
}
"""Which, and in what order."""


def begin_statement(begun: Sequence[SagaBegun]) -> tuple[str, dict[str, Any]]:
    """SQL and its named parameters; returns the `id` of each that was not there yet."""
    return BEGIN, _columns("begun", BEGUN_TYPES, begun)


def progress_statement(
    progress: Sequence[SagaProgress],
) -> tuple[str, dict[str, Any]]:
    """SQL and its named parameters; returns the `id` of each that was moved first of
    its columns (the others are for the engine). progress: of different sagas."""
    return PROGRESS, _columns("progress", PROGRESS_TYPES, progress)


class PostgresSagaStore:
    """A `SagaStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def write(
        self, begun: Sequence[SagaBegun], progress: Sequence[SagaProgress]
    ) -> Written:
        async with self._pool.connection() as connection:
            if not progress:
                made = await connection.fetch(*begin_statement(begun))
                moved: list[Row] = []
            elif not begun:
                made, moved = [], await connection.fetch(*progress_statement(progress))
            else:
                made, moved = await _write_both(connection, begun, progress)
        return Written(
            frozenset(row[0] for row in made),
            {row[0]: Moved(*row[1:]) for row in moved},
        )

    async def claim(
        self, runner: UUID, kinds: Sequence[Kind], now_ms: int, limit: int
    ) -> list[SagaRow]:
        rows = await self._pool.fetch(
            CLAIM,
            {"runner": runner, "now_ms": now_ms, "limit": limit, **_kinds(kinds)},
        )
        return sorted(map(_saga, rows), key=lambda saga: saga.run_ms)

    async def next_due_ms(self, kinds: Sequence[Kind]) -> int | None:
        due_ms: int | None = await self._pool.fetch_value(NEXT_DUE, _kinds(kinds))
        return due_ms

    async def saga(self, id: UUID) -> SagaRow | None:
        row = await self._pool.fetch_one(
            f"SELECT {_ROW} FROM sagas s WHERE s.id = %s", (id,)
        )
        return None if row is None else _saga(row)

    async def signal(self, id: UUID, name: str, body: str) -> bool:
        told = await self._pool.execute(_SIGNAL, {"id": id, "name": name, "body": body})
        return told == 1

    async def register(self, runner: Runner) -> None:
        await self._pool.execute(
            "INSERT INTO saga_runners (id, node, beats) VALUES (%s, %s, %s)"
            " ON CONFLICT (id) DO NOTHING",
            (runner.id, runner.node, runner.beats),
        )

    async def beat(self, runner: UUID) -> bool:
        beaten = await self._pool.execute(
            "UPDATE saga_runners SET beats = beats + 1 WHERE id = %s", (runner,)
        )
        return beaten == 1

    async def runners(self) -> list[Runner]:
        rows = await self._pool.fetch("SELECT id, node, beats FROM saga_runners")
        return [Runner(*row) for row in rows]

    async def bury(self, runner: UUID, beats: int | None) -> bool:
        buried = await self._pool.execute(
            "DELETE FROM saga_runners WHERE id = %s"
            " AND (%s::bigint IS NULL OR beats = %s)",
            (runner, beats, beats),
        )
        return buried == 1

    async def release_orphans(self, limit: int) -> int:
        return await self._pool.execute(_ORPHANS, (limit,))

    async def held(self, runner: UUID) -> list[UUID]:
        rows = await self._pool.fetch(
            "SELECT id FROM sagas WHERE runner = %s", (runner,)
        )
        return [row[0] for row in rows]

    async def release(self, runner: UUID, ids: Sequence[UUID]) -> int:
        return await self._pool.execute(
            "UPDATE sagas SET runner = NULL, revision = revision + 1"
            " WHERE id = ANY(%b::uuid[]) AND runner = %s",
            (array("uuid", [id.bytes for id in ids]), runner),
        )

    async def resume(self, order: Order) -> bool:
        return await self._order(_RESUME, order)

    async def abort(self, order: Order) -> bool:
        return await self._order(_ABORT, order)

    async def _order(self, statement: str, order: Order) -> bool:
        async with self._pool.transaction() as connection:
            done = await connection.execute(
                statement, {"id": order.saga_id, "reason": order.reason}
            )
            if not done.rowcount:
                return False
            await connection.execute(_ORDER, structs.asdict(order))
        return True

    async def orders(self, id: UUID) -> list[Order]:
        rows = await self._pool.fetch(
            "SELECT saga_id, at_ms, who, action, reason FROM saga_orders"
            " WHERE saga_id = %s ORDER BY number",
            (id,),
        )
        return [Order(*row) for row in rows]

    async def sagas(
        self, shown: Shown, kinds: Sequence[Kind], limit: int
    ) -> tuple[list[SagaRow], int]:
        which, order = _SHOWN[shown]
        rows = await self._pool.fetch(
            f"SELECT {_ROW} FROM sagas s WHERE {which} ORDER BY {order}"
            " LIMIT %(limit)s",
            {"limit": limit, **_kinds(kinds)},
        )
        total: int = await self._pool.fetch_value(
            f"SELECT count(*) FROM sagas s WHERE {which}", _kinds(kinds)
        )
        return [_saga(row) for row in rows], total

    async def counts(self, kinds: Sequence[Kind]) -> Counts:
        rows = await self._pool.fetch(
            f"SELECT CASE WHEN {_KNOWN} THEN s.status ELSE 'stranded' END, count(*)"
            " FROM sagas s WHERE s.ended_ms = 0 GROUP BY 1",
            _kinds(kinds),
        )
        return Counts(**dict(rows))

    async def prune(self, before_ms: int, limit: int) -> int:
        return await self._pool.execute(
            "DELETE FROM sagas WHERE id IN (SELECT id FROM sagas"
            " WHERE ended_ms > 0 AND ended_ms < %s ORDER BY ended_ms LIMIT %s)",
            (before_ms, limit),
        )


async def _write_both(
    connection: Connection,
    begun: Sequence[SagaBegun],
    progress: Sequence[SagaProgress],
) -> tuple[list[Row], list[Row]]:
    """Both in one transaction, in one round trip."""
    async with connection.pipeline() as pipeline:
        first = await connection.execute(*begin_statement(begun))
        second = await connection.execute(*progress_statement(progress))
        await pipeline.sync()
    return await first.fetchall(), await second.fetchall()


def _kinds(kinds: Sequence[Kind]) -> dict[str, Any]:
    return {
        "names": [name for name, _ in kinds],
        "versions": [version for _, version in kinds],
    }


def _saga(row: Row) -> SagaRow:
    return SagaRow(*row)


def _columns(
    prefix: str, types: Mapping[str, str], rows: Sequence[Any]
) -> dict[str, Any]:
    columns = {}
    for name, type in types.items():
        values = [getattr(row, name) for row in rows]
        if type == "uuid":
            values = [_bytes(value) for value in values]
        columns[f"{prefix}_{name}"] = array(type, values)
    return columns


def _bytes(id: UUID | None) -> bytes | None:
    return None if id is None else id.bytes


assert tuple(BEGUN_TYPES) == SagaBegun.__struct_fields__
assert tuple(PROGRESS_TYPES) == SagaProgress.__struct_fields__
assert set(PROGRESS_TYPES) >= set(_PLAIN)
