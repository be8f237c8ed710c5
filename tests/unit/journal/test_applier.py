"""Same records, same order: same state, same events, live or replayed from anywhere."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
import trio

from tchatd.domains.messaging import dialog as dialog_module
from tchatd.domains.messaging.models import GetDialog, ListEvents, ReadMessages
from tchatd.domains.messaging.records import (
    AddRecord,
    MessageRecord,
    RemoveRecord,
    decode,
)
from tchatd.domains.messaging.rows import message_of
from tchatd.domains.messaging.state import MessagingState, StateLimits
from tchatd.domains.messaging.store import (
    MESSAGE_NEW,
    Found,
    StoreDiverged,
    Wants,
)
from tchatd.journal import applier as applier_module
from tchatd.journal.applier import TURNS_MAX, Applier
from tchatd.journal.errors import JournalDamaged, JournalFull, JournalUnusable
from tchatd.journal.flusher import FlusherSettings
from tchatd.journal.journal import LocalJournal
from tchatd.journal.replay import find_segments
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.deferred import Deferred
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support import applied as a
from tests.support.journals import SMALL, fill
from tests.support.messaging import (
    Core,
    FakeHub,
    FakeJournal,
    group_of,
    loading,
    shape,
    text,
    with_user,
)
from tests.support.record_history import Engine, RecordHistory, SlowStore


async def random_history(seed: int, commands: int) -> Core:
    """A core that many commands went through; flushed, evicted and loaded meanwhile."""
    choose = random.Random(seed)
    core = Core(seed=seed, limits=StateLimits(dialogs_max=3, tail_max=2))
    dialogs: list[tuple[str, list[int]]] = []
    messages: list[tuple[UUID, list[int]]] = []
    async with loading(core):
        for _ in range(commands):
            core.clock.advance(choose.randrange(-20, 100))
            step = choose.random()
            if step < 0.1 or not messages:
                users = choose.sample(range(1, 6), 2)
                command = with_user(users[1])
                if choose.random() < 0.5:
                    users = [users[0], *range(1, choose.choice([5, 130]))]
                    command = group_of(users)
                answer = await core.do(users[0], command)
                dialogs.append((getattr(answer, "body", answer).id, users))
            if step < 0.3 and messages:
                id, users = choose.choice(messages)
                user = choose.choice([user for user in users if user < 6])
                await core.do(user, ReadMessages(id))
            elif step < 0.9:
                dialog_id, users = choose.choice(dialogs)
                user = choose.choice([user for user in users if user < 6])
                send = text(dialog_id, str(step), client_id=core.ids.v7())
                message = await core.do(user, send)
                messages.append((UUID(message.id), users))
            else:
                await core.flusher.flush_batch()
    return core


def told_events(core: Core) -> dict[str, list[Any]]:
    events: dict[str, list[Any]] = {}
    for _, event, _ in core.hub.told:
        if getattr(event, "seq", msgspec.UNSET) is not msgspec.UNSET:
            events.setdefault(event.dialog_id, []).append(shape(event))
    return events


def members_of(core: Core) -> dict[str, list[int]]:
    return {event.dialog_id: who for who, event, _ in core.hub.told if len(who) > 1}


def rows_of(store: Any) -> tuple[Any, ...]:
    assert isinstance(store, MemoryDialogStore)
    return store.dialogs, store.members, store.log


@pytest.mark.parametrize("seed", range(6))
async def test_a_replay_from_any_position_ends_in_the_same_rows(seed: int) -> None:
    live = await random_history(seed, 60)
    await live.flusher.flush()
    records = live.journal.kept
    want, events = rows_of(live.store), told_events(live)
    choose = random.Random(seed)
    for stored in range(len(records) + 1):
        # Given a store that has the first `stored` records,
        store = MemoryDialogStore()
        settings = FlusherSettings(interval_s=0, batch_max=choose.randrange(1, 9))
        before = Core(store, FakeJournal(records[:stored]), settings=settings)
        await before.applier.recover(before.flusher.flush)
        assert await store.position() == stored
        # when a process with all of them starts over it,
        after = Core(store, FakeJournal(records), settings=settings)
        assert await after.applier.recover(after.flusher.flush) == len(records) - stored
        # then rows and events are what they are live.
        assert rows_of(store) == want
    async with loading(after):
        for dialog_id, members in members_of(live).items():
            command = ListEvents(dialog_id=dialog_id, limit=1_000)
            page = shape(await after.do(members[0], command))
            assert page["events"] == events[dialog_id]


@pytest.mark.parametrize("seed", range(6))
async def test_a_replayed_state_answers_as_the_live_one(seed: int) -> None:
    live = await random_history(seed, 80)
    again = Core(MemoryDialogStore(), FakeJournal(live.journal.kept))
    await again.applier.recover(again.flusher.flush)
    async with loading(live), loading(again):
        for dialog_id, members in members_of(live).items():
            for user in members[:5]:
                command = GetDialog(dialog_id)
                want = shape(await live.do(user, command))
                assert shape(await again.do(user, command)) == want


async def test_what_was_not_durable_is_gone_and_its_seq_is_used_again() -> None:
    core = Core()
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        core.auto = False
        lost = core.service.send_message(core.context(1), text(dialog.id, "lost"))
        assert not lost.done
        again = await core.restart()
        again.auto = True
    async with loading(again):
        message = await again.do(1, text(dialog.id, "kept"))
        assert message.seq == 2


async def test_answers_and_deliveries_keep_the_journals_order() -> None:
    core = Core(auto=False)
    order: list[tuple[str, int]] = []
    async with loading(core):
        created = core.service.create_dialog(core.context(1), group_of([2]))
        deferred = await created
        core.journal.sync()
        dialog = deferred.result()
        core.hub.deliver = lambda members, event, **_: order.append(  # type: ignore[method-assign]
            ("event", event.seq)
        )
        for user in (1, 2, 1):
            answer = core.service.send_message(core.context(user), text(dialog.id))
            answer.on_done(lambda a: order.append(("reply", a.value.seq)))
        held = core.applier.hold("held", core.applier.applied_position)
        held.on_done(lambda _: order.append(("held", 0)))
        core.journal.sync()
    assert order == [
        *(("reply", 2), ("event", 2), ("reply", 3), ("event", 3)),
        *(("reply", 4), ("event", 4), ("held", 0)),
    ]


async def test_who_is_answered_may_ask_again_at_once() -> None:
    core = Core(auto=False)
    async with loading(core):
        deferred = await core.service.create_dialog(core.context(1), group_of([2]))
        core.journal.sync()
        dialog = deferred.result()
        answers: list[Deferred[Any]] = []

        def ask(_: object = None) -> None:
            if len(answers) < 3:
                answer = core.service.send_message(core.context(1), text(dialog.id))
                answers.append(answer)
                answer.on_done(ask)

        ask()
        for count in (1, 2, 3):
            assert len(answers) == count
            core.journal.sync()
        assert [answer.result().seq for answer in answers] == [2, 3, 4]


async def test_a_value_is_held_until_its_position_is_durable() -> None:
    core = Core(auto=False)
    async with loading(core):
        deferred = await core.service.create_dialog(core.context(1), group_of([2]))
        assert isinstance(core.applier.hold("x", 1), Deferred)
        done: list[int] = []

        async def wait() -> None:
            await core.applier.durable(1)
            done.append(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert (done, core.applier.undurable) == ([], 3)
            core.journal.sync()
        assert (done, deferred.done, core.applier.undurable) == ([1], True, 0)
        assert core.applier.hold("x", 1) == "x"
        await core.applier.durable(1)


async def test_a_store_that_is_ahead_of_the_journal_is_refused() -> None:
    core = Core()
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        await core.do(1, text(dialog.id))
    await core.flusher.flush()
    other = Core(core.store, FakeJournal(core.journal.kept[:1]))
    with pytest.raises(StoreDiverged):
        await other.applier.recover(other.flusher.flush)


async def test_a_record_of_a_later_version_is_not_passed_over() -> None:
    later = msgspec.msgpack.encode([99, 1, 2, 3])
    core = Core(journal=FakeJournal([later]))
    with pytest.raises(JournalUnusable, match="Record 1"):
        await core.applier.recover(core.flusher.flush)


@pytest.mark.parametrize("seed", range(4))
async def test_a_crash_anywhere_forgets_no_client_id(seed: int) -> None:
    live = await random_history(seed, 60)
    await live.flusher.flush()
    records = live.journal.kept
    assert isinstance(live.store, MemoryDialogStore)
    dialogs = live.store.dialogs
    choose = random.Random(seed)
    for durable in range(1, len(records) + 1):
        # Given that the store had some of what was durable when the process died,
        store = MemoryDialogStore()
        before = Core(store, FakeJournal(records[: choose.randint(0, durable)]))
        await before.applier.recover(before.flusher.flush)
        after = Core(store, FakeJournal(records[:durable]))
        # and that the next one has flushed what it replayed, or not yet,
        await after.applier.recover(choose.choice([after.flusher.flush, nothing]))
        async with loading(after):
            # when everything is sent again,
            for row in [row for log in live.store.log.values() for row in log]:
                if row.kind != MESSAGE_NEW or row.position > durable:
                    continue
                assert row.client_id is not None
                id, client_id = dialogs[row.dialog_number].id, UUID(bytes=row.client_id)
                again = text(str(UUID(bytes=id)), "again", client_id=client_id)
                answer = await after.do(row.actor, again)
                # then each gets its first answer, and nothing is taken.
                assert shape(answer.content) == message_of(row, "").content
                assert answer.seq == row.seq
        assert after.journal.next_position == durable + 1


async def nothing() -> None:
    pass


async def test_one_sync_tells_what_it_covers_with_one_flush_of_the_hub() -> None:
    core = Core(auto=False)
    async with loading(core):
        deferred = await core.service.create_dialog(core.context(1, 7), group_of([2]))
        core.journal.sync()
        dialog = deferred.result()
        for user in (1, 2, 1):
            core.service.send_message(core.context(user, user), text(dialog.id))
    core.hub.told.clear()
    core.hub.flushes = 0
    core.journal.sync(3)
    assert [(e.seq, c) for _, e, c in core.hub.told] == [(2, 1), (3, 2)]
    assert core.hub.flushes == 1
    core.journal.sync()
    assert [(e.seq, c) for _, e, c in core.hub.told[2:]] == [(4, 1)]
    assert core.hub.flushes == 2


@pytest.mark.parametrize("refusal", ["journal", "memory"])
async def test_a_refused_record_changes_nothing(refusal: str) -> None:
    core = Core(auto=False)
    async with loading(core):
        deferred = await core.service.create_dialog(core.context(1), group_of([2]))
        core.journal.sync()
        id = deferred.result().id
        state = core.state.find(id)
        assert state is not None

        def seen() -> tuple[Any, ...]:
            applier = core.applier
            return (
                shape(state.view(state.member(1))),
                *(state.changed_position, state.unflushed, len(state.tail)),
                *(applier.applied_position, len(applier.unflushed)),
                *(applier.undurable, list(core.journal.kept), len(core.hub.told)),
            )

        before = seen()
        if refusal == "journal":
            core.journal.room = 1
        else:
            core.applier._unflushed_max = 1
        client_id = core.ids.v7()
        for _ in range(2):
            with pytest.raises(JournalFull):
                core.service.send_message(
                    core.context(1), text(id, client_id=client_id)
                )
        core.journal.sync()
        assert seen() == before
        await core.flusher.flush()
        answer = core.service.send_message(
            core.context(1), text(id, client_id=client_id)
        )
        core.journal.sync()
        assert answer.result().seq == 2


async def test_what_is_held_while_telling_waits_for_its_own_sync() -> None:
    core = Core(auto=False)
    async with loading(core):
        deferred = await core.service.create_dialog(core.context(1), group_of([2]))
        core.journal.sync()
        dialog = deferred.result()
        held: list[Any] = []

        def look_and_send(_: object) -> None:
            position = core.applier.applied_position
            held.append(core.applier.hold("old", position))
            core.service.send_message(core.context(2), text(dialog.id))
            held.append(core.applier.hold("new", position + 1))

        answer = core.service.send_message(core.context(1), text(dialog.id))
        answer.on_done(look_and_send)
        core.journal.sync()
        assert held[0] == "old"
        assert not held[1].done
        assert core.hub.told[-1][1].seq == 2
        core.journal.sync()
        assert held[1].result() == "new"
        assert core.hub.told[-1][1].seq == 3


class AskedStore(MemoryDialogStore):
    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def load(self, wants: Wants) -> Found:
        self.asked += 1
        return await super().load(wants)


async def test_a_replay_takes_a_bounded_batch_and_one_query_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(applier_module, "REPLAY_RECORDS_MAX", 10)
    live = await random_history(1, 60)
    await live.flusher.flush()
    records = live.journal.kept
    store = AskedStore()
    core = Core(store, FakeJournal(records), limits=StateLimits(dialogs_max=1))
    waiting: list[int] = []

    async def flush() -> None:
        waiting.append(len(core.applier.unflushed))
        await core.flusher.flush()

    assert await core.applier.recover(flush) == len(records)
    whole, rest = divmod(len(records), 10)
    assert waiting == [10] * whole + [rest] * (rest > 0)
    assert store.asked <= len(waiting)
    assert rows_of(store) == rows_of(live.store)
    assert core.hub.told == []


async def test_a_journal_without_what_the_store_lacks_is_refused(
    tmp_path: Path,
) -> None:
    live = await random_history(2, 60)
    payloads = live.journal.kept
    batches = [payloads[at : at + 2] for at in range(0, len(payloads), 2)]
    await fill(tmp_path, batches, clean=True)
    find_segments(tmp_path)[0].path.unlink()
    journal = LocalJournal(tmp_path, **SMALL)
    store = MemoryDialogStore()
    applier = Applier(journal, MessagingState(StateLimits()), store, FakeHub())
    try:
        with pytest.raises(JournalDamaged, match="missing"):
            await applier.recover(nothing)
    finally:
        journal.close()
    assert await store.position() == 0


async def test_a_store_of_other_data_is_refused_in_words() -> None:
    core = Core()
    async with loading(core):
        first = await core.do(1, with_user(2))
        second = await core.do(1, with_user(3))
        await core.do(1, text(first.id))
        await core.do(1, text(second.id))
    records = core.journal.kept
    assert isinstance(decode(records[3]), MessageRecord)
    other = Core()
    async with loading(other):
        group = await other.do(1, group_of([2, 3]))
        await other.do(1, text(group.id))
        await other.do(1, text(group.id))
    await other.flusher.flush()
    wrong = Core(other.store, FakeJournal(records))
    with pytest.raises(StoreDiverged, match="lacks"):
        await wrong.applier.recover(wrong.flusher.flush)


@pytest.mark.parametrize("seed", range(24))
async def test_records_of_every_kind_end_the_same_whatever_is_forgotten_or_crashes(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialog_module, "LOADED_MEMBERS_MAX", 6)
    monkeypatch.setattr(dialog_module, "LOADED_MESSAGES_MAX", 4)
    history = RecordHistory(seed)
    for life in range(3):
        await history.run(80)
        if (seed + life) % 4:
            await history.crash()
    assert len(history.records) > 30
    await history.finish()


async def test_what_waits_for_the_store_is_bounded_by_what_it_holds() -> None:
    # Given a channel of which every change of its members is large,
    core = Engine(SlowStore(1), FakeJournal(), StateLimits(), FlusherSettings())
    core.applier._held_bytes_max = 100_000
    members = range(1, 100_001)
    core.applier.submit(a.dialog_of(*members))
    # when the store is away and people leave one after another,
    for user in range(2, 102):
        left = core.state._by_number[1].members - BitMap((user,))
        by = (1, a.AT_MS, user, bytes(16))
        record = RemoveRecord(*by, user, bytes(16), "left", a.ids_of(left[:100]))
        try:
            core.applier.submit(record)
        except JournalFull:
            break
    # then it is refused before memory is full, and no more when the store is back.
    assert 5 < len(core.applier.unflushed) < 30
    core.journal.sync()
    await core.flusher.flush()
    assert core.applier.held_bytes == 0
    core.applier.submit(a.message(1, 1))


async def test_a_batch_ends_before_it_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(applier_module, "FLUSH_ROWS_MAX", 40)
    store = SlowStore(1)
    core = Engine(store, FakeJournal(), StateLimits(), FlusherSettings(interval_s=0))
    core.applier.submit(a.dialog_of(1))
    for first in range(2, 152, 30):
        added = BitMap(range(first, first + 30))
        members = core.state._by_number[1].members | added
        never_here = Wants(members={(1, user) for user in added})
        core.state.install(Found([], [], []), never_here)
        core.applier.submit(
            AddRecord(
                *(1, a.AT_MS, 1, bytes(16)),
                added.serialize(),
                a.ids_of(added),
                a.ids_of(members),
            )
        )
    core.journal.sync()
    await core.flusher.flush()
    assert [len(batch.members) for batch in store.batches] == [30] * 5
    assert len(store.members) == 151
    monkeypatch.setattr(applier_module, "FLUSH_BYTES_MAX", 5_000)
    for _ in range(20):
        core.applier.submit(a.message(1, 1))
    for seq in range(7, 27):
        core.applier.submit(a.react(1, 1, seq))
    core.journal.sync()
    await core.flusher.flush()
    reactions = [len(batch.updates) for batch in store.batches[5:]]
    assert sum(reactions) < 20  # those in the batch of their messages are in its rows
    assert max(len(batch.events.seq) for batch in store.batches[5:]) <= 25
    assert all(row.changed for row in store.log[1][6:26])


@pytest.mark.parametrize(("is_long", "at_once"), [(False, TURNS_MAX), (True, 1)])
async def test_of_many_with_something_long_few_have_their_turn_at_once(
    is_long: bool, at_once: int
) -> None:
    core = Core()
    done: list[int] = []
    seen: list[int] = []

    async def work(number: int) -> None:
        await core.applier.turn(is_long=is_long)
        done.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(work, number)
        while len(done) < 50:
            seen.append(len(done))
            await trio.lowlevel.checkpoint()
    seen.append(50)
    assert max(b - a for a, b in pairwise(seen)) <= at_once
