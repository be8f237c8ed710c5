"""The reads of search in PostgreSQL answer as those in memory, by their indexes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tchatd.domains.messaging.finding import FoundRow
from tchatd.domains.messaging.member_models import RemoveMember
from tchatd.domains.messaging.message_commands import DeleteMessage, EditMessage
from tchatd.domains.search.store import DialogDoc, MessageDoc, PersonDoc
from tchatd.stores.memory.finding import MemoryFindingStore, MemorySearchSource
from tchatd.stores.postgres.finding import PostgresFindingStore, PostgresSearchSource
from tchatd.stores.postgres.messaging import PostgresDialogStore
from tchatd.stores.postgres.pool import Pool
from tests.support.dialog_store import RecordingStore
from tests.support.messaging import Core, group_of, loading, text, user_id, with_user

pytestmark = pytest.mark.service

_USER = """INSERT INTO users (id, phone_hash, phone_sealed, data_key, data_key_id, name,
    country, locale, created_ms, updated_ms, deleted_ms)
VALUES (gen_random_uuid(), %s, '', '', '', %s, 'TH', 'th-TH', 0, %s, %s)"""


@pytest.fixture
async def both(pool: Pool) -> RecordingStore:
    """The same history in memory and in PostgreSQL."""
    store = RecordingStore()
    core = Core(store)
    async with loading(core):
        pair = await core.do(1, with_user(2))
        group = await core.do(1, group_of([2, 3], "Trip"))
        left = await core.do(2, group_of([3], "Left"))
        sent = []
        for n in range(30):
            core.clock.advance(1_000)
            dialog = (pair, group, left)[n % 3]
            sent.append(await core.do(2, text(dialog.id, f"hello {n}")))
        await core.flusher.flush()
        for message in sent[:6]:
            await core.do(2, DeleteMessage(message_id=UUID(message.id)))
        for message in sent[6:9]:
            edit = EditMessage(message_id=UUID(message.id), content={"text": "edited"})
            await core.do(2, edit)
        await core.do(2, DeleteMessage(message_id=UUID(sent[9].id), for_="me"))
        await core.do(3, RemoveMember(dialog_id=left.id, user_id=user_id(3)))
        await core.flusher.flush()
    real = PostgresDialogStore(pool)
    await real.position()
    for batch in store.batches:
        await real.flush(batch)
    return store


def sorted_rows(rows: list[Any]) -> list[Any]:
    return sorted(rows, key=repr)


async def test_who_is_in_what_and_sees_what(both: RecordingStore, pool: Pool) -> None:
    memory, real = MemoryFindingStore(both), PostgresFindingStore(pool)
    keys = [(n, seq) for n in [*both.dialogs, 999] for seq in range(15)]
    seen = 0
    for user in (1, 2, 3, 4):
        numbers = await real.memberships(user)
        assert sorted(numbers) == sorted(await memory.memberships(user))
        pairs = await memory.pairs(user)
        assert sorted(await real.pairs(user)) == sorted(pairs)
        found: list[FoundRow] = await real.found(user, keys)
        assert sorted_rows(found) == sorted_rows(await memory.found(user, keys))
        seen += len(found)
    assert seen > 50
    assert await real.found(1, []) == []


async def test_what_the_index_is_made_of(both: RecordingStore, pool: Pool) -> None:
    memory, real = MemorySearchSource(both), PostgresSearchSource(pool)
    end = await both.position()
    for after in range(0, end, 5):
        for until in (after + 3, after + 12, end):
            found = await real.changes(after, until)
            want = await memory.changes(after, until)
            assert sorted_rows(found) == sorted_rows(want)
    for after_message in ((0, 0), (1, 3), (2, 0), (99, 0)):
        for limit in (1, 4, 100):
            for until in (0, end // 2, end):
                rows = await real.messages(after_message, until, limit)
                want_rows = await memory.messages(after_message, until, limit)
                assert rows == want_rows
    for after in (0, 1, 2):
        dialogs: list[DialogDoc] = await real.dialogs(after, 2)
        assert dialogs == await memory.dialogs(after, 2)


async def test_a_dropped_dialog_is_a_number(both: RecordingStore, pool: Pool) -> None:
    number = next(iter(both.dialogs))
    await pool.execute(
        "UPDATE events SET kind = 15 WHERE dialog_number = %s AND kind = 1", (number,)
    )
    await pool.execute("UPDATE dialogs SET is_dropped = true")
    changes = await PostgresSearchSource(pool).changes(0, 1_000)
    assert (number, False) in changes
    docs = [doc for doc, _ in changes if isinstance(doc, MessageDoc)]
    assert {doc.dialog_number for doc in docs} == set(both.dialogs) - {number}
    named = [doc for doc, _ in changes if isinstance(doc, DialogDoc)]
    assert [doc.text for doc in named] == ["", ""]
    assert await PostgresFindingStore(pool).memberships(2) == []


async def test_people_by_the_time_of_their_change(pool: Pool) -> None:
    source = PostgresSearchSource(pool)
    for n, (name, updated_ms, deleted_ms) in enumerate(
        [("Anong", 5, None), ("Binh", 9, None), ("Gone", 7, 7), ("Chai", 9, None)]
    ):
        await pool.execute(_USER, (bytes([n]), name, updated_ms, deleted_ms))
    people = [
        PersonDoc(1, "Anong", 5),
        PersonDoc(3, "", 7),
        PersonDoc(2, "Binh", 9),
        PersonDoc(4, "Chai", 9),
    ]
    assert await source.people(0, 0, 10) == people
    assert await source.people(0, 0, 2) == people[:2]
    assert await source.people(9, 2, 10) == people[3:]


@pytest.mark.slow
async def test_every_read_goes_by_an_index(pool: Pool) -> None:
    """200,000 messages: none is read that was not asked for, but for the last block
    ranges of the log."""
    await pool.execute(
        """INSERT INTO dialogs (number, id, created_ms, active_position, active_ms,
            last_position, last_seq, message_count, last_message_seq, creator, type,
            participants, members)
        SELECT n, gen_random_uuid(), 0, 0, 0, 0, 100, 100, 100, 1, 0, '', ''
        FROM generate_series(1, 2000) AS n"""
    )
    await pool.execute(
        """INSERT INTO events (dialog_number, position, at_ms, seq, actor, ordinal,
            kind, actor_id, body)
        SELECT n % 2000 + 1, n, 0, n / 2000 + 1, 1, 1, 2, '',
            '{"type":"text","content":{"text":"' || repeat('x', 100) || '"}}'
        FROM generate_series(0, 199999) AS n"""
    )
    await pool.execute(
        """INSERT INTO users (id, phone_hash, phone_sealed, data_key, data_key_id, name,
            country, locale, created_ms, updated_ms)
        SELECT gen_random_uuid(), n::text::bytea, '', '', '', 'x', 'TH', 'th-TH', 0, n
        FROM generate_series(1, 5000) AS n"""
    )
    await pool.execute("VACUUM (ANALYZE) events, users")

    async def plan(query: str) -> str:
        rows = await pool.fetch("EXPLAIN " + query)
        return "\n".join(row[0] for row in rows)

    by_position = await plan(
        "SELECT body FROM events e WHERE e.position > 150000 AND e.position <= 152000"
        " AND e.kind = ANY ('{1,2,4,5,14,15}')"
    )
    assert "events_position" in by_position
    by_key = await plan(
        "SELECT body FROM events e WHERE (e.dialog_number, e.seq) > (700, 5)"
        " AND e.kind = 2 AND e.position <= 150000"
        " ORDER BY e.dialog_number, e.seq LIMIT 2000"
    )
    assert "events_pkey" in by_key
    assert "Sort" not in by_key
    people = await plan(
        "SELECT name FROM users WHERE (updated_ms, number) > (4900, 5)"
        " ORDER BY updated_ms, number LIMIT 1000"
    )
    assert "users_updated" in people
    source = PostgresSearchSource(pool)
    await pool.execute(
        """INSERT INTO events (dialog_number, position, at_ms, seq, actor, ordinal,
            kind, actor_id, body)
        SELECT n % 2000 + 1, n, 0, n / 2000 + 1, 1, 1, 2, '', repeat('x', 100)
        FROM generate_series(200000, 299999) AS n"""
    )
    late = "SELECT body FROM events e WHERE e.position > 299000"
    read = "EXPLAIN (ANALYZE, FORMAT JSON) " + late
    ((before,),) = await pool.fetch(read)
    await source.prepare()
    ((after,),) = await pool.fetch(read)
    removed = "Rows Removed by Index Recheck"
    assert before[0]["Plan"][removed] > 90_000
    assert after[0]["Plan"][removed] < 10_000
    docs = await source.changes(150_000, 152_000)
    assert len(docs) == 2_000
