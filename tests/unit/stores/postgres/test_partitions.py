"""Partitions are made ahead and dropped whole; nobody who writes waits."""

from __future__ import annotations

import pytest
import trio

from tchatd.stores.postgres import partitions
from tchatd.stores.postgres.event_log import append_statement
from tchatd.stores.postgres.partitions import (
    Month,
    drop_partitions,
    ensure_partitions,
    month_of,
)
from tchatd.stores.postgres.pool import Pool
from tests.support.events import draft

TABLE = "event_log"
DECEMBER = Month(2026, 12).start_ms


async def yes(_: str) -> bool:
    return True


async def no(_: str) -> bool:
    return False


async def attached(pool: Pool) -> list[str]:
    rows = await pool.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent = 'event_log'::regclass ORDER BY 1"
    )
    return [row[0] for row in rows]


def test_months_are_of_utc_and_go_over_years() -> None:
    assert Month(1970, 1).start_ms == 0
    assert month_of(DECEMBER - 1) == Month(2026, 11)
    assert month_of(DECEMBER) == Month(2026, 12)
    assert Month(2026, 12).plus(1) == Month(2027, 1)
    assert Month(2026, 1).plus(-1) == Month(2025, 12)


@pytest.mark.service
class TestPartitions:
    async def test_they_are_made_once_with_indexes_from_last_month_on(
        self, pool: Pool
    ) -> None:
        made = await ensure_partitions(pool, TABLE, DECEMBER)
        assert made == [
            "event_log_2026_11",
            "event_log_2026_12",
            "event_log_2027_01",
            "event_log_2027_02",
            "event_log_2027_03",
        ]
        assert await ensure_partitions(pool, TABLE, DECEMBER) == []
        later = Month(2027, 1).start_ms
        assert await ensure_partitions(pool, TABLE, later) == ["event_log_2027_04"]
        indexes = await pool.fetch_value(
            "SELECT count(*) FROM pg_index"
            " WHERE indrelid = 'event_log_2027_04'::regclass"
        )
        assert indexes == 2
        for time_ms in (DECEMBER - 1, DECEMBER, Month(2027, 5).start_ms - 1):
            await pool.execute(*append_statement([draft(created_ms=time_ms)]))

    async def test_several_nodes_make_them_at_once(self, pool: Pool) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ensure_partitions, pool, TABLE, DECEMBER)
        assert len(await attached(pool)) == 5

    async def test_making_and_dropping_waits_for_nobody_who_writes(
        self, pool: Pool
    ) -> None:
        await ensure_partitions(pool, TABLE, DECEMBER)
        async with pool.transaction() as connection:
            await connection.execute(*append_statement([draft(created_ms=DECEMBER)]))
            assert await ensure_partitions(pool, TABLE, Month(2027, 1).start_ms)

    async def test_what_is_old_and_over_is_dropped_the_oldest_first(
        self, pool: Pool
    ) -> None:
        await ensure_partitions(pool, TABLE, DECEMBER)
        asked: list[str] = []

        async def is_over(name: str) -> bool:
            asked.append(name)
            return name != "event_log_2026_12"

        end = Month(2027, 2).start_ms
        assert await drop_partitions(pool, TABLE, DECEMBER - 1, yes) == []
        assert await drop_partitions(pool, TABLE, DECEMBER, no) == []
        dropped = await drop_partitions(pool, TABLE, end, is_over)
        assert dropped == ["event_log_2026_11"]
        assert asked == ["event_log_2026_11", "event_log_2026_12"]
        assert (await attached(pool))[0] == "event_log_2026_12"

    async def test_a_drop_that_was_interrupted_is_finished(self, pool: Pool) -> None:
        await ensure_partitions(pool, TABLE, DECEMBER)
        await pool.execute("ALTER TABLE event_log DETACH PARTITION event_log_2026_11")
        dropped = await drop_partitions(pool, TABLE, DECEMBER, no)
        assert dropped == ["event_log_2026_11"]
        assert await ensure_partitions(pool, TABLE, DECEMBER) == dropped

    async def test_other_tables_are_left_alone(self, pool: Pool) -> None:
        await pool.execute("CREATE TABLE event_log_notes (created_ms bigint)")
        assert await partitions._partitions(pool, TABLE) == []

    async def test_a_detaching_that_was_interrupted_is_finished(
        self, pool: Pool
    ) -> None:
        await ensure_partitions(pool, TABLE, DECEMBER)
        is_leaving = (
            "SELECT inhdetachpending FROM pg_inherits"
            " WHERE inhrelid = 'event_log_2026_11'::regclass"
        )
        async with pool.transaction() as writer:
            late = draft(created_ms=DECEMBER - 1)
            await writer.execute(*append_statement([late]))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drop_partitions, pool, TABLE, DECEMBER, yes)
                with trio.fail_after(20):
                    while not await pool.fetch_value(is_leaving):
                        await trio.sleep(0.005)
                nursery.cancel_scope.cancel()
        assert await pool.fetch_value(is_leaving)
        assert await drop_partitions(pool, TABLE, DECEMBER, no) == ["event_log_2026_11"]
