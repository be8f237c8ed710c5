"""The store in PostgreSQL keeps the contract of dialog stores, and what only it can."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer

from tchatd.domains.messaging.models import ListDialogs, ListEvents, ListMessages
from tchatd.domains.messaging.store import StoreDiverged, Wants
from tchatd.journal.flusher import FlusherSettings
from tchatd.stores.postgres.messaging import PostgresDialogStore
from tchatd.stores.postgres.pool import Pool
from tests.support.dialog_store import DialogStoreContract, history
from tests.support.messaging import Core, loading, text, with_user

pytestmark = pytest.mark.service


class TestPostgresDialogStore(DialogStoreContract):
    @pytest.fixture
    def store(self, pool: Pool) -> PostgresDialogStore:
        return PostgresDialogStore(pool)


@pytest.fixture
def store(pool: Pool) -> PostgresDialogStore:
    return PostgresDialogStore(pool)


async def test_a_process_goes_on_where_another_was_killed(
    store: PostgresDialogStore,
) -> None:
    core = Core(store, settings=FlusherSettings(interval_s=0, batch_max=7))
    await store.position()
    ids: list[str] = []
    dialog_id = ""
    for life in range(5):
        core.clock.advance(1_000)
        async with loading(core):
            dialog = await core.do(1 + life % 2, with_user(2 - life % 2))
            dialog_id = getattr(dialog, "body", dialog).id
            for _ in range(10):
                message = await core.do(1, text(dialog_id, client_id=core.ids.v7()))
                ids.append(message.id)
            await core.flusher.flush_batch()
        core = await core.restart()
    async with loading(core):
        page = await core.do(2, ListMessages(dialog_id=dialog_id, limit=100))
        assert [message.id for message in page.messages] == ids[::-1]
        listed = await core.do(2, ListDialogs())
        assert [d.unread_count for d in listed.dialogs] == [50]
        events = await core.do(2, ListEvents(dialog_id=dialog_id, limit=1_000))
        assert [event.seq for event in events.events] == list(range(1, 52))


async def test_a_commit_whose_answer_was_lost_is_not_done_twice(
    store: PostgresDialogStore, pool: Pool
) -> None:
    source = await history(commands=30)
    await store.position()
    first, *rest = source.batches
    await store.flush(first)
    async with trio.open_nursery() as nursery:  # two tries of the next at once
        nursery.start_soon(store.flush, rest[0])
        nursery.start_soon(store.flush, rest[0])
    assert await store.position() == rest[0].position
    count = await pool.fetch_value("SELECT count(*) FROM events")
    assert count == len(first.events.seq) + len(rest[0].events.seq)


async def test_rows_that_do_not_fit_are_not_tried_for_ever(
    store: PostgresDialogStore, pool: Pool
) -> None:
    [batch, *_] = (await history(commands=30)).batches
    await store.position()
    await pool.execute(
        "INSERT INTO events VALUES (%s, 1, 1, %s, 1, 1, %s, '', NULL, '{}')",
        (batch.events.dialog_number[0], 1, 1),
    )
    with pytest.raises(StoreDiverged):
        await store.flush(batch)
    assert await store.position() == 0
    assert await pool.fetch_value("SELECT count(*) FROM dialogs") == 0


async def test_a_page_of_messages_passes_over_reads_within_the_index(
    pool: Pool,
) -> None:
    await pool.execute(
        "INSERT INTO events SELECT 1, n, n, n, 1, n, CASE WHEN n % 50 = 0 THEN 2"
        " ELSE 3 END, '', NULL, '{}' FROM generate_series(1, 20000) AS n"
    )
    await pool.execute("VACUUM ANALYZE events")
    rows = await pool.fetch(
        "EXPLAIN (ANALYZE, BUFFERS OFF) SELECT * FROM events WHERE dialog_number = 1"
        " AND seq < 15000 AND kind = 2 ORDER BY seq DESC LIMIT 51"
    )
    plan = "\n".join(row[0] for row in rows)
    assert "Index Scan Backward using events_pkey" in plan
    assert "kind = 2" in plan.split("Index Cond:")[1].split("\n")[0]
    assert "Filter" not in plan


@pytest.mark.parametrize("last_seq", [0, 1, 2, 3, 7, 8, 100])
async def test_the_seq_at_any_position(pool: Pool, last_seq: int) -> None:
    await pool.execute(
        "INSERT INTO events SELECT 1, n * 10, n, n, 1, n, 2, '', NULL, '{}'"
        " FROM generate_series(1, %s) AS n",
        (last_seq,),
    )
    rows = await pool.fetch(
        "SELECT p, event_seq_at(1, p, %s) FROM generate_series(0, 1010, 5) AS p",
        (last_seq,),
    )
    assert all(found == min(last_seq, position // 10) for position, found in rows)


class Explaining:
    """A pool that remembers how the server would go about what it is asked.

    With these very values, and with none: a statement that is run often is planned
    once for all values.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.plans: list[str] = []

    async def fetch(self, query: str, params: Any = None) -> list[tuple[Any, ...]]:
        rows = await self._pool.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) {query}", params)
        async with self._pool.connection() as connection:
            prepared = PostgresQuery(Transformer())
            prepared.convert(query, params)
            generic = f"EXPLAIN (GENERIC_PLAN) {prepared.query.decode()}"
            cursor = await connection._driver.execute(generic)  # without values
            rows += await cursor.fetchall()
        self.plans.append("\n".join(row[0] for row in rows))
        return await self._pool.fetch(query, params)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Explaining]:
        yield self

    @property
    def pages(self) -> list[int]:
        """8 KiB pages that each statement has touched."""
        found = (re.search(r"Buffers: shared hit=(\d+)", plan) for plan in self.plans)
        return [int(one[1]) if one else 0 for one in found]


@pytest.fixture
async def full(pool: Pool) -> AsyncIterator[tuple[PostgresDialogStore, Explaining]]:
    """500 dialogs of 200 users, 200 events each: messages, reads, and some edits;
    every tenth message is in a thread, every hundredth vanishes."""
    await pool.execute(
        """INSERT INTO events (dialog_number, seq, kind, position, at_ms, ordinal,
            actor, actor_id, body, thread_seq, expires_ms)
        SELECT d, s, CASE WHEN s % 20 = 3 THEN 4 WHEN s % 2 = 0 THEN 2 ELSE 3 END,
            s * 500 + d, s, s / 2, s % 200, '', '{"message_seq": ' || s - 1 || '}',
            CASE WHEN s % 20 = 0 THEN 2 ELSE 0 END,
            CASE WHEN s = 100 THEN d ELSE 0 END
        FROM generate_series(1, 200) AS s, generate_series(1, 500) AS d"""
    )
    await pool.execute(
        """INSERT INTO members (dialog_number, user_number, role, left_seq)
        SELECT d, u, CASE WHEN u = d % 200 THEN 1 ELSE 0 END, 0
        FROM generate_series(1, 500) AS d, generate_series(0, 199) AS u"""
    )
    await pool.execute(
        """INSERT INTO dialogs (number, id, created_ms, active_position, active_ms,
            last_position, last_seq, message_count, last_message_seq, creator, type,
            participants, members)
        SELECT d, gen_random_uuid(), 0, 100000 + d, 0, 100000 + d, 200, 100, 200, 1, 1,
            '', '' FROM generate_series(1, 20000) AS d"""
    )
    for table in ("events", "members", "dialogs"):
        await pool.execute(f"VACUUM ANALYZE {table}")
    explaining = Explaining(pool)
    yield PostgresDialogStore(explaining), explaining  # type: ignore[arg-type]
    assert explaining.plans
    for plan in explaining.plans:
        for scan in re.findall(r"Seq Scan on (\w+)", plan):
            assert scan in ("mine", "e", "w", "r"), plan


Full = tuple[PostgresDialogStore, Explaining]


async def test_pages_of_a_log_and_of_messages_are_read_by_the_key(full: Full) -> None:
    store, explaining = full
    assert len(await store.events(77, 100, 200, 50)) == 50
    assert len(await store.messages_before(77, 150, 50)) == 50
    assert len(await store.messages_after(77, 50, 200, 50)) == 50
    for plan in explaining.plans:
        assert plan.count("events_pkey") == 2
        assert "Sort" not in plan
    assert max(explaining.pages) <= 65  # of dialogs in turns, each row has its page


async def test_a_page_of_a_thread_is_read_by_its_index(full: Full, pool: Pool) -> None:
    store, explaining = full
    await pool.execute(
        """INSERT INTO events (dialog_number, seq, kind, position, at_ms, ordinal,
            actor, actor_id, body, thread_seq)
        SELECT 501, s, 2, s, s, s, 1, '', '{}', 2 FROM generate_series(3, 5000) AS s"""
    )
    await pool.execute("VACUUM ANALYZE events")
    assert len(await store.thread_before(77, 2, 150, 5)) == 5
    assert len(await store.thread_before(501, 2, 4000, 50)) == 50
    for plan in explaining.plans:
        assert plan.count("Index Only Scan Backward using events_thread") == 2
    assert max(explaining.pages) <= 220  # by 50 keys, however long the thread is


async def test_what_has_expired_is_found_by_its_index(full: Full) -> None:
    store, explaining = full
    assert await store.expired(20, 10) == [(d, 100) for d in range(1, 11)]
    assert explaining.plans[0].count("events_expires") == 2
    assert max(explaining.pages) <= 15


async def test_owners_are_found_by_their_index(full: Full) -> None:
    store, explaining = full
    assert [m.user_number for m in await store.in_role(77, [1, 2])] == [77]
    assert explaining.plans[0].count("members_role") == 2
    assert max(explaining.pages) <= 8


async def test_members_and_messages_are_loaded_by_their_keys(full: Full) -> None:
    store, explaining = full
    keys = {(77, user) for user in range(50)}
    messages = {(dialog, 100) for dialog in range(1, 51)}
    found = await store.load(Wants(members=keys, messages=messages))
    assert (len(found.members), len(found.messages)) == (50, 50)
    await store.members_of(77, range(50))
    for plan, key in zip(
        explaining.plans, ("members_pkey", "events_pkey", "members_pkey"), strict=True
    ):
        assert key in plan
    assert max(explaining.pages) <= 250


async def test_what_changed_is_read_by_user_and_the_logs_ends(full: Full) -> None:
    store, explaining = full
    args: dict[str, Any] = {"from_number": 0, "also": [], "limit": 50, "count_max": 60}
    changed, count = await store.changed(
        7, after_position=100_400, until_position=100_499, **args
    )
    assert (len(changed), count) == (50, 60)
    rows, _ = await store.ranges([(d, 150, 200) for d in range(1, 11)], 1 << 40)
    assert len(rows) == 500
    assert "members_pkey" in explaining.plans[0]
    assert "events_pkey" in explaining.plans[1]
    assert explaining.pages[1] <= 650
