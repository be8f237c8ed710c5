"""The store in PostgreSQL keeps the contract of dialog stores, and what only it can."""

from __future__ import annotations

import pytest
import trio

from tchatd.domains.messaging.models import ListDialogs, ListEvents, ListMessages
from tchatd.domains.messaging.store import StoreDiverged
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
