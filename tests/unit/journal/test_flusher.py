"""What is durable reaches the store, however often it takes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
import trio

from tchatd.domains.messaging.entry import Entry
from tchatd.domains.messaging.models import ReadMessages
from tchatd.domains.messaging.records import Record
from tchatd.domains.messaging.store import FlushBatch, StoreDiverged
from tchatd.journal import applier as applier_module
from tchatd.journal.errors import JournalFull
from tchatd.journal.flusher import FlusherSettings, batch_of
from tchatd.kernel.errors import Unavailable
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support import applied as a
from tests.support.applied import Applied
from tests.support.messaging import Core, group_of, loading, text, with_user


class FlakyStore(MemoryDialogStore):
    """failures: of the next flushes; `after_commit` loses the answer, not the batch."""

    def __init__(self, failures: int = 0, *, after_commit: bool = False) -> None:
        super().__init__()
        self.failures = failures
        self.after_commit = after_commit
        self.begun: list[tuple[float, FlushBatch]] = []

    async def flush(self, batch: FlushBatch) -> None:
        self.begun.append((trio.current_time(), batch))
        if self.failures:
            self.failures -= 1
            if self.after_commit:
                await super().flush(batch)
            raise Unavailable("away")
        await super().flush(batch)


async def talk(core: Core, count: int) -> None:
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        for _ in range(count - 1):
            await core.do(1, text(dialog.id))


async def test_only_what_is_durable_is_flushed_and_then_trimmed() -> None:
    core = Core()
    await talk(core, 3)
    core.auto = False
    dialog_id = core.hub.told[0][1].dialog_id
    core.service.send_message(core.context(1), text(dialog_id))
    await core.flusher.flush()
    assert await core.store.position() == core.journal.trimmed == 3
    core.journal.sync()
    await core.flusher.flush()
    assert await core.store.position() == core.journal.trimmed == 4


async def test_batches_are_bounded_and_follow_each_other() -> None:
    store = FlakyStore()
    core = Core(store, settings=FlusherSettings(interval_s=0, batch_max=10))
    await talk(core, 25)
    await core.flusher.flush()
    batches = [(b.previous_position, b.position) for _, b in store.begun]
    assert batches == [(0, 10), (10, 20), (20, 25)]


@pytest.mark.parametrize("after_commit", [False, True])
async def test_a_store_that_is_away_is_tried_until_it_takes_the_batch(
    after_commit: bool, autojump_clock: object
) -> None:
    store = FlakyStore(8, after_commit=after_commit)
    core = Core(store, settings=FlusherSettings(interval_s=0.05, retry_s_max=1.0))
    await talk(core, 5)
    async with trio.open_nursery() as nursery:
        await nursery.start(core.flusher.run)
        await trio.sleep(2)
        assert core.flusher.is_failing
        assert core.journal.trimmed == 0
        await trio.sleep(20)
        assert not core.flusher.is_failing
        assert core.journal.trimmed == 5
        core.flusher.close()
    times = [time for time, _ in store.begun]
    waits = [round(b - a, 2) for a, b in pairwise(times)]
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert len(store.log[1]) == 5


async def test_a_full_journal_refuses_until_the_store_is_back() -> None:
    store = FlakyStore()
    core = Core(store)
    core.journal.room = 3
    await talk(core, 3)
    dialog_id = core.hub.told[0][1].dialog_id
    with pytest.raises(JournalFull):
        await core.do(1, text(dialog_id))
    await core.flusher.flush()
    assert (await core.do(1, text(dialog_id))).seq == 4


async def test_another_writer_stops_it() -> None:
    core = Core()
    await talk(core, 3)
    assert isinstance(core.store, MemoryDialogStore)
    core.store._position = 2
    with pytest.raises(StoreDiverged):
        await core.flusher.flush()


async def test_a_trickle_is_written_in_few_transactions(autojump_clock: object) -> None:
    store = FlakyStore()
    core = Core(store, settings=FlusherSettings(interval_s=0.5))
    async with loading(core), trio.open_nursery() as nursery:
        await nursery.start(core.flusher.run)
        dialog = await core.do(1, with_user(2))
        for _ in range(100):
            await core.do(1, text(dialog.id))
            await trio.sleep(0.01)
        core.flusher.close()
    assert len(store.begun) <= 5
    assert core.journal.trimmed == 101


async def test_a_stop_writes_what_is_durable_first() -> None:
    core = Core(settings=FlusherSettings(interval_s=10, batch_max=2))
    await talk(core, 9)
    core.flusher.close()
    await core.flusher.run()
    assert core.journal.trimmed == 9


async def test_a_batch_is_of_its_entries_and_not_of_the_state_ahead() -> None:
    core = Core()
    async with loading(core):
        dialog = await core.do(1, group_of([2, 3]))
        first: Any = core.service.send_message(core.context(2), text(dialog.id))
        entries = list(core.applier.unflushed)
        await core.do(2, text(dialog.id))
        await core.do(3, text(dialog.id))
    assert first.done
    batch = await batch_of(entries, 0)
    [change], [member] = batch.changes, batch.cursors
    assert (batch.position, change.last_seq, change.message_count) == (2, 2, 1)
    assert (member.user_number, member.read_seq, member.read_ordinal) == (2, 2, 1)
    assert batch.memberships == [(1, 1, 1), (1, 2, 0), (1, 3, 0)]
    assert len(batch.events.seq) == 2


async def test_a_dialog_and_a_member_are_written_once_a_batch() -> None:
    store = FlakyStore()
    core = Core(store)
    async with loading(core):
        dialogs = [(await core.do(1, with_user(n))).id for n in (2, 3)]
        await core.flusher.flush()
        store.begun.clear()
        last = None
        for _ in range(5):
            for id in dialogs:
                last = await core.do(1, text(id))
        assert last is not None
        await core.do(3, ReadMessages(UUID(last.id)))
    await core.flusher.flush()
    [(_, batch)] = store.begun
    assert (batch.previous_position, batch.position) == (2, 13)
    assert [(c.number, c.last_seq, c.message_count) for c in batch.changes] == [
        *((1, 6, 5), (2, 7, 5)),
    ]
    # A read moves the dialog's seq, not what it is sorted by.
    assert [c.last_message_seq for c in batch.changes] == [6, 6]
    assert [c.active_position for c in batch.changes] == [11, 12]
    keys = [(m.dialog_number, m.user_number) for m in batch.cursors]
    assert keys == [(1, 1), (2, 1), (2, 3)]
    assert len(batch.events.seq) == 11


async def test_reading_a_large_dialog_moves_a_cursor_and_no_log() -> None:
    store = FlakyStore()
    core = Core(store)
    async with loading(core):
        dialog = await core.do(1, group_of(range(2, 130)))
        message = await core.do(1, text(dialog.id))
        await core.flusher.flush()
        await core.do(2, ReadMessages(UUID(message.id)))
    await core.flusher.flush()
    batch = store.begun[-1][1]
    assert (batch.events.seq, batch.changes) == ([], [])
    assert [(m.user_number, m.read_seq) for m in batch.cursors] == [(2, 2)]


async def test_the_journal_is_trimmed_only_after_the_commit() -> None:
    trimmed: list[int] = []

    class Watching(FlakyStore):
        async def flush(self, batch: FlushBatch) -> None:
            trimmed.append(core.journal.trimmed)
            await super().flush(batch)
            trimmed.append(core.journal.trimmed)

    core = Core(Watching(), settings=FlusherSettings(interval_s=0, batch_max=2))
    await talk(core, 6)
    await core.flusher.flush()
    assert trimmed == [0, 0, 2, 2, 4, 4]
    assert core.journal.trimmed == 6


class Follower:
    """A `Feed` that remembers; failures: of the next times."""

    def __init__(self, core: Core, failures: int = 0) -> None:
        self.core = core
        self.failures = failures
        self.taken: list[tuple[int, int]] = []
        self.flushed: list[int] = []
        core.flusher.feeds.append(self)
        core.flusher.on_flushed.append(self.note)

    async def take(self, entries: Sequence[Entry]) -> None:
        self.taken.append((entries[-1].position, await self.core.store.position()))
        if self.failures:
            self.failures -= 1
            raise Unavailable("away")

    def note(self, entries: Sequence[Entry]) -> None:
        self.flushed += [entry.position for entry in entries]


async def test_whoever_follows_has_a_batch_before_the_store_has_it(
    autojump_clock: object,
) -> None:
    core = Core()
    follower = Follower(core, failures=2)
    await talk(core, 3)
    await core.flusher.flush()
    assert follower.taken == [(3, 0), (3, 0), (3, 0)]
    assert follower.flushed == [1, 2, 3]
    assert await core.store.position() == core.journal.trimmed == 3


async def test_what_the_store_never_got_is_followed_again() -> None:
    core = Core(FlakyStore(failures=1))
    await talk(core, 2)
    first = Follower(core)
    with trio.move_on_after(0.01):
        await core.flusher.flush()
    assert first.taken == [(2, 0)]
    assert first.flushed == []
    again = Core(core.store, core.journal.crash())
    second = Follower(again)
    await again.applier.recover(again.flusher.flush)
    assert second.taken == [(2, 0)]
    assert second.flushed == [1, 2]


async def test_a_batch_that_was_full_is_followed_by_the_next_at_once(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applier_module, "FLUSH_ROWS_MAX", 40)
    store = FlakyStore()
    core = Core(store, settings=FlusherSettings(interval_s=5))
    async with loading(core):
        for _ in range(6):
            await core.do(1, group_of(range(2, 32)))
    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(core.flusher.run)
        while core.journal.trimmed < 6:
            await trio.sleep(0.1)
        assert trio.current_time() - began_s < 5
        core.flusher.close()
    assert [batch.position for _, batch in store.begun] == [1, 2, 3, 4, 5, 6]


async def test_a_rows_last_value_is_written_once_whatever_moved_it() -> None:
    # Given what changes rows whole between what moves cursors only,
    records: list[Record] = [
        a.dialog_of(1, 2, 3),
        a.message(1, 1, mention_numbers=(2,)),
        a.message(1, 2),
        a.message(1, 1, mention_numbers=(2,)),
        a.deliver(1, 3, 2),
        a.read(1, 3, 2, 1),
        a.message(1, 3),
        a.profile(1, 1, "Dinner"),
        a.react(1, 1, 2),
        a.edit(1, 1, 2),
        a.pin(1, 1, 2),
    ]
    apply = Applied()
    entries = [apply(record) for record in records]
    # when they are written in one batch, or in two, divided anywhere,
    whole = MemoryDialogStore()
    await whole.flush(await batch_of(entries, 0))
    for middle in range(1, len(entries)):
        parts = MemoryDialogStore()
        first, second = entries[:middle], entries[middle:]
        for part, before in ((first, 0), (second, middle)):
            batch = await batch_of(part, before)
            keys = [(m.dialog_number, m.user_number) for m in batch.members]
            keys += [(c.dialog_number, c.user_number) for c in batch.cursors]
            assert len(keys) == len(set(keys))
            await parts.flush(batch)
        # then the rows are the same.
        assert (parts.log, parts.dialogs, parts.members) == (
            *(whole.log, whole.dialogs),
            whole.members,
        )
    member = whole.members[1, 2]
    assert member.sent_ms == a.AT_MS + 5
    assert member.mentions is not None
