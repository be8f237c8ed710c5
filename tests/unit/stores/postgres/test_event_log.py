"""Events are written in the transaction of the change, in order."""

from __future__ import annotations

from uuid import UUID

import pytest

from tchatd.kernel.events import EventMetadata
from tchatd.stores.postgres.errors import CheckViolation, UniqueViolation
from tchatd.stores.postgres.event_log import append_statement
from tchatd.stores.postgres.partitions import ensure_partitions
from tchatd.stores.postgres.pool import Pool
from tests.support.events import NOW, A, B, draft

pytestmark = pytest.mark.service


@pytest.fixture
async def log(pool: Pool) -> Pool:
    await ensure_partitions(pool, "event_log", NOW)
    return pool


async def test_positions_rise_in_the_order_of_the_drafts(log: Pool) -> None:
    drafts = [draft(B if n % 3 else A, 1 + n) for n in range(500)]
    await log.execute(*append_statement(drafts))
    rows = await log.fetch("SELECT position, id FROM event_log ORDER BY position")
    assert rows == [(1 + n, drafts[n].id) for n in range(500)]


async def test_all_of_an_event_is_kept(log: Pool) -> None:
    told = EventMetadata(actor=UUID(int=7), request_id="r-1", causation=UUID(int=8))
    event = draft(data='{"name":"สมชาย \\u0000"}'.encode(), metadata=told)
    await log.execute(*append_statement([event]))
    [row] = await log.fetch(
        "SELECT id, aggregate_id, version, created_ms, domain, type, data, metadata"
        " FROM event_log"
    )
    metadata = (
        '{"actor":"00000000-0000-0000-0000-000000000007","request_id":"r-1",'
        '"causation":"00000000-0000-0000-0000-000000000008"}'
    )
    assert row == (
        *(event.id, A, 1, NOW, "payment", "transaction.completed"),
        *(event.data.decode(), metadata),
    )


async def test_in_a_pipeline_and_of_none(log: Pool) -> None:
    async with log.transaction() as connection, connection.pipeline():
        await connection.execute(*append_statement([draft()]))
        await connection.execute(*append_statement([]))
        await connection.execute(*append_statement([draft(version=2)]))
    assert await log.fetch_value("SELECT count(*) FROM event_log") == 2


async def test_a_version_is_there_once(log: Pool) -> None:
    await log.execute(*append_statement([draft(version=3)]))
    with pytest.raises(UniqueViolation):
        await log.execute(*append_statement([draft(version=3)]))


async def test_without_its_month_an_event_is_refused_and_not_lost(log: Pool) -> None:
    with pytest.raises(CheckViolation):
        await log.execute(*append_statement([draft(created_ms=0)]))


async def test_a_transaction_has_its_id_before_it_draws_a_position(log: Pool) -> None:
    """Else nobody could know whether the position may still appear."""
    default = await log.fetch_value(
        "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef"
        " WHERE adrelid = 'event_log'::regclass AND adnum = 1"
    )
    assert default.index("pg_current_xact_id") < default.index("nextval")
    assert default.startswith("\nCASE")
    cached = await log.fetch_value(
        "SELECT seqcache FROM pg_sequence"
        " WHERE seqrelid = 'event_log_position'::regclass"
    )
    assert cached == 1
