"""Owns the rows of public names in PostgreSQL."""

from __future__ import annotations

from typing import Final

from tchatd.domains.messaging.beside import NameRow
from tchatd.stores.postgres.pool import Pool

# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

_ROW: Final = "name, dialog_number, claimed_ms, free_ms, is_settled"
assert tuple(_ROW.split(", ")) == NameRow.__struct_fields__

# One statement decides who has it: a row that is there is locked by ON CONFLICT, and
# seen as it is after any other transaction that wanted it. A name that is the dialog's
# already stays as it is.
_CLAIM = f"""
INSERT INTO public_names AS n (name, dialog_number, claimed_ms)
VALUES (%(name)s, %(number)s, %(now)s)
ON CONFLICT (name) DO UPDATE SET
    dialog_number = excluded.dialog_number,
    claimed_ms = CASE WHEN n.free_ms = 0 THEN n.claimed_ms ELSE excluded.claimed_ms END,
    is_settled = n.is_settled AND n.free_ms = 0,
    free_ms = 0
WHERE n.dialog_number = excluded.dialog_number
   OR (n.free_ms > 0 AND n.free_ms <= %(now)s)
RETURNING {_ROW}
"""
_SETTLE = """
UPDATE public_names
SET is_settled = is_settled OR name = %(name)s,
    free_ms = CASE WHEN name = %(name)s THEN 0 ELSE %(free)s END
WHERE dialog_number = %(number)s AND (free_ms = 0 OR name = %(name)s)
"""
_GIVE_UP = """
UPDATE public_names SET free_ms = %(free)s
WHERE dialog_number = %(number)s AND free_ms = 0
  AND (%(name)s::text IS NULL OR name = %(name)s)
"""
_UNSETTLED = f"""
SELECT {_ROW} FROM public_names
WHERE NOT is_settled AND free_ms = 0 AND claimed_ms < %s
ORDER BY claimed_ms, name LIMIT %s
"""
_PRUNE = """
DELETE FROM public_names WHERE name IN (
    SELECT name FROM public_names WHERE free_ms > 0 AND free_ms < %s
    ORDER BY free_ms LIMIT %s FOR UPDATE SKIP LOCKED)
"""


class PostgresNameStore:
    """See the port, `tchatd.domains.messaging.beside.NameStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim_name(
        self, name: str, dialog_number: int, now_ms: int
    ) -> NameRow | None:
        values = {"name": name, "number": dialog_number, "now": now_ms}
        row = await self._pool.fetch_one(_CLAIM, values)
        return None if row is None else NameRow(*row)

    async def name(self, name: str) -> NameRow | None:
        query = f"SELECT {_ROW} FROM public_names WHERE name = %s"
        row = await self._pool.fetch_one(query, (name,))
        return None if row is None else NameRow(*row)

    async def names_held(self, dialog_number: int, but: str, now_ms: int) -> int:
        count: int = await self._pool.fetch_value(
            "SELECT count(*) FROM public_names WHERE dialog_number = %s"
            " AND name <> %s AND (free_ms = 0 OR free_ms > %s)",
            (dialog_number, but, now_ms),
        )
        return count

    async def settle_name(self, name: str, dialog_number: int, free_ms: int) -> None:
        values = {"name": name, "number": dialog_number, "free": free_ms}
        await self._pool.execute(_SETTLE, values)

    async def give_up_names(
        self, dialog_number: int, free_ms: int, name: str | None = None
    ) -> None:
        values = {"name": name, "number": dialog_number, "free": free_ms}
        await self._pool.execute(_GIVE_UP, values)

    async def unsettled_names(
        self, claimed_before_ms: int, limit: int
    ) -> list[NameRow]:
        rows = await self._pool.fetch(_UNSETTLED, (claimed_before_ms, limit))
        return [NameRow(*row) for row in rows]

    async def prune_names(self, free_before_ms: int, limit: int) -> int:
        return await self._pool.execute(_PRUNE, (free_before_ms, limit))
