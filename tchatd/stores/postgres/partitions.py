"""Owns partitions by month of tables with `created_ms`: made ahead, dropped whole.

Months are of UTC; the partition of a table `x` and March 2027 is `x_2027_03`.

A partition is made as a table of its own and then attached, and detached before it is
dropped, so that nobody who writes waits: ATTACH and DETACH CONCURRENTLY take a SHARE
UPDATE EXCLUSIVE lock on the table (PostgreSQL's manual, ALTER TABLE). There is no
default partition: it would have to be searched whenever one is made.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from tchatd.kernel.clock import moment_ms
from tchatd.stores.postgres.pool import Pool

MONTHS_AHEAD: Final = 3
"""So that nothing is lost when partitions cannot be made for so long."""
_LOCK: Final = 0x7463_6861_7001
"""Nodes make and drop partitions one after the other."""
_NAME: Final = re.compile(r"_(\d{4})_(\d{2})")
_PARTITIONS: Final = """
SELECT c.relname, EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid),
    EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhdetachpending)
FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace
    AND c.relkind = 'r' AND left(c.relname, length(%(prefix)s)) = %(prefix)s
ORDER BY c.relname
"""


class Month(Struct, frozen=True, order=True):
    """month: 1 to 12."""

    year: int
    month: int

    @property
    def start_ms(self) -> int:
        return moment_ms(datetime(self.year, self.month, 1, tzinfo=UTC))

    def plus(self, months: int) -> Month:
        count = self.year * 12 + self.month - 1 + months
        return Month(count // 12, count % 12 + 1)


def month_of(time_ms: int) -> Month:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    return Month(moment.year, moment.month)


class _Partition(Struct, frozen=True):
    """is_attached: to its table; is_leaving: its detaching was interrupted."""

    name: str
    month: Month
    is_attached: bool
    is_leaving: bool


async def ensure_partitions(pool: Pool, table: str, now_ms: int) -> list[str]:
    """Make those of the last month to `MONTHS_AHEAD` months ahead that are not there;
    the names of those made. Raises: Unavailable."""
    present = {partition.month for partition in await _partitions(pool, table)}
    now = month_of(now_ms)
    months = [now.plus(offset) for offset in range(-1, MONTHS_AHEAD + 1)]
    return [await _make(pool, table, month) for month in months if month not in present]


async def _make(pool: Pool, table: str, month: Month) -> str:
    name = f"{table}_{month.year:04}_{month.month:02}"
    first_ms, end_ms = month.start_ms, month.plus(1).start_ms
    async with pool.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        if await connection.fetch_value("SELECT to_regclass(%s)", (name,)) is None:
            await connection.execute(
                f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING"
                f" CONSTRAINTS INCLUDING STORAGE, CHECK (created_ms >= {first_ms}"
                f" AND created_ms < {end_ms}))"
            )
            await connection.execute(
                f"ALTER TABLE {table} ATTACH PARTITION {name}"
                f" FOR VALUES FROM ({first_ms}) TO ({end_ms})"
            )
    return name


async def drop_partitions(
    pool: Pool,
    table: str,
    before_ms: int,
    is_over: Callable[[str], Awaitable[bool]],
) -> list[str]:
    """Drop those that end at or before a time, the oldest first, up to the first of
    which `is_over` (asked with its name) says no; the names of those dropped.

    A drop that was interrupted is finished by the next call. Raises: Unavailable.
    """
    dropped = []
    for partition in await _partitions(pool, table):
        if partition.month.plus(1).start_ms > before_ms:
            break
        if partition.is_attached and not partition.is_leaving:
            if not await is_over(partition.name):
                break
            await pool.execute(
                f"ALTER TABLE {table} DETACH PARTITION {partition.name} CONCURRENTLY"
            )
        elif partition.is_leaving:
            await pool.execute(
                f"ALTER TABLE {table} DETACH PARTITION {partition.name} FINALIZE"
            )
        await pool.execute(f"DROP TABLE IF EXISTS {partition.name}")
        dropped.append(partition.name)
    return dropped


async def _partitions(pool: Pool, table: str) -> list[_Partition]:
    """The oldest first, also those that were detached and not yet dropped."""
    rows = await pool.fetch(_PARTITIONS, {"prefix": f"{table}_"})
    found = []
    for name, is_attached, is_leaving in rows:
        matched = _NAME.fullmatch(name.removeprefix(table))
        if matched is not None:
            month = Month(int(matched[1]), int(matched[2]))
            found.append(_Partition(name, month, is_attached, is_leaving))
    return found
