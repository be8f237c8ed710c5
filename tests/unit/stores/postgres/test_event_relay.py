"""The contract of the event log in PostgreSQL, and what only transactions show."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import pytest
import trio

from tchatd.events.horizon import Horizon, Look
from tchatd.kernel.events import Event, EventDraft
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.dead_letters import PostgresLetterStore
from tchatd.stores.postgres.event_log import append_statement
from tchatd.stores.postgres.event_relay import (
    PostgresEventStore,
    event_of,
    first_time,
)
from tchatd.stores.postgres.partitions import Month
from tchatd.stores.postgres.pool import Pool
from tests.support.event_store import (
    DECIDED,
    LEASE_S,
    EventStoreContract,
    Stores,
    behind,
    buried,
    dead,
    held,
    letters_of,
)
from tests.support.events import NOW, A, B, draft
from tests.support.postgres import until_running

pytestmark = pytest.mark.service


@pytest.fixture
async def store(pool: Pool) -> PostgresEventStore:
    store = PostgresEventStore(pool)
    await store.ensure_partitions(NOW)
    return store


@pytest.fixture
async def stores(pool: Pool, store: PostgresEventStore) -> Stores:
    async def write(drafts: Sequence[EventDraft]) -> list[Event]:
        await pool.execute(*append_statement(drafts))
        rows = await pool.fetch(
            "SELECT position, id, aggregate_id, domain, type, version, data,"
            " created_ms, metadata FROM event_log WHERE id = ANY(%s)"
            " ORDER BY position",
            ([draft.id for draft in drafts],),
        )
        return [event_of(row) for row in rows]

    return Stores(store, PostgresLetterStore(pool), write)


class TestPostgresEvents(EventStoreContract):
    pass


async def looked(store: PostgresEventStore, horizon: Horizon) -> Look:
    look = await store.look(horizon.settled, 100)
    if horizon.see(look):
        horizon.fence(await store.draw_fence())
    return look


async def test_what_commits_in_the_wrong_order_is_waited_for(
    database: str, store: PostgresEventStore
) -> None:
    with (
        closing(await Connection.connect(database)) as slow,
        closing(await Connection.connect(database)) as fast,
    ):
        horizon = Horizon()
        async with slow.transaction():
            await slow.execute(*append_statement([draft(A)]))
            async with fast.transaction():
                await fast.execute(*append_statement([draft(B)]))
            for _ in range(5):
                look = await looked(store, horizon)
                assert (list(look.positions), horizon.settled) == ([2], 0)
        await looked(store, horizon)
        assert horizon.settled == 2


async def test_the_snapshots_xmax_would_have_been_no_fence(
    database: str, store: PostgresEventStore
) -> None:
    """It is not behind the transaction that is going to fill the hole."""
    with (
        closing(await Connection.connect(database)) as slow,
        closing(await Connection.connect(database)) as fast,
        closing(await Connection.connect(database)) as reader,
    ):
        async with fast.transaction():
            await fast.fetch_value("SELECT pg_current_xact_id()")
            async with slow.transaction():
                await slow.execute(*append_statement([draft(A)]))
                slow_xid = await slow.fetch_value(
                    "SELECT pg_current_xact_id()::text::bigint"
                )
                await fast.execute(*append_statement([draft(B)]))
                await fast.execute("COMMIT")
                xmax = await reader.fetch_value(
                    "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
                )
                look = await store.look(0, 10)
                fence = await store.draw_fence()
            await fast.execute("BEGIN")
        assert list(look.positions) == [2]
        assert xmax <= look.xmin <= slow_xid < fence


async def test_a_rollback_is_stepped_over_once_all_that_were_there_have_ended(
    database: str, store: PostgresEventStore
) -> None:
    with (
        closing(await Connection.connect(database)) as one,
        closing(await Connection.connect(database)) as other,
    ):
        horizon = Horizon()
        async with other.transaction():
            await other.fetch_value("SELECT pg_current_xact_id()")
            await one.execute("BEGIN")
            await one.execute(*append_statement([draft(A)]))
            await one.execute("ROLLBACK")
            await one.execute(*append_statement([draft(A)]))
            for _ in range(3):
                await looked(store, horizon)
                assert horizon.settled == 0
        await looked(store, horizon)
        assert horizon.settled == 2


async def test_a_letter_is_not_left_behind_one_that_is_dropped_at_that_moment(
    database: str, pool: Pool, stores: Stores
) -> None:
    await held(stores)
    first, second = await stores.write([draft(A), draft(A, 2)])
    await buried(stores, dead(first))
    with (
        closing(await Connection.connect(database)) as operator,
        closing(await Connection.connect(database)) as observer,
    ):
        async with trio.open_nursery() as nursery, operator.transaction():
            await operator.execute("SELECT FROM event_subscriptions FOR NO KEY UPDATE")
            await operator.execute("DELETE FROM dead_letters")
            nursery.start_soon(buried, stores, behind(second))
            await until_running(observer, "UPDATE event_subscriptions SET position")
    [orphan] = await letters_of(stores)
    assert (orphan.event, orphan.is_released) == (second, True)


async def test_what_an_operator_did_is_noted_with_the_change(
    pool: Pool, stores: Stores
) -> None:
    await held(stores)
    events = await stores.write([draft(A), draft(B)])
    letters = await buried(stores, *map(dead, events))
    await stores.letters.retry(letters[0], DECIDED)
    await stores.letters.retry_all("s", DECIDED)
    await stores.letters.drop(letters[0], DECIDED)
    await stores.letters.drop(letters[0], DECIDED)
    rows = await pool.fetch(
        "SELECT at_ms, who, action, thing, reason FROM moderation_log ORDER BY number"
    )
    about = f"s: event {events[0].id}"
    assert rows == [
        (NOW, DECIDED.who, "dlq retry", about, "fixed"),
        (NOW, DECIDED.who, "dlq retry", "s: all", "fixed"),
        (NOW, DECIDED.who, "dlq drop", about, "fixed"),
    ]


async def test_a_month_is_dropped_when_it_is_old_and_everybody_has_passed(
    pool: Pool, store: PostgresEventStore, stores: Stores
) -> None:
    month = Month(2026, 12)
    [event] = await stores.write([draft(created_ms=month.start_ms)])
    await held(stores)
    end = month.plus(1).start_ms
    assert await store.drop_partitions(end - 1) == []
    assert await store.drop_partitions(end) == []
    await store.settle("s", "n1", event.position, [], LEASE_S)
    assert await store.drop_partitions(end) == ["event_log_2026_12"]
    assert (await store.look(0, 10)).last == 0


async def test_an_effect_is_had_once_and_forgotten_when_it_cannot_come_again(
    pool: Pool, store: PostgresEventStore, stores: Stores
) -> None:
    await held(stores)
    events = await stores.write([draft(A, n) for n in range(1, 4)])

    async def new(chosen: Sequence[Event]) -> list[Event]:
        async with pool.transaction() as connection:
            return await first_time(connection, "s", chosen, NOW)

    assert await new(events[:2]) == events[:2]
    assert await new(events) == events[2:]
    assert await store.prune_handled(NOW + 1, 10) == 0
    await buried(stores, dead(events[0]))
    await store.settle("s", "n1", events[1].position, [], LEASE_S)
    assert await store.prune_handled(NOW, 10) == 0
    assert await store.prune_handled(NOW + 1, 10) == 1
    assert await new(events) == events[1:2]
