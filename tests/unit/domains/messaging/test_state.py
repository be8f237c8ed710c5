"""How records change what is in memory, and what memory may forget."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tchatd.domains.messaging import state
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.events import (
    MessageRead,
)
from tchatd.domains.messaging.identifiers import client_time_ms
from tchatd.domains.messaging.models import (
    ReadState,
)
from tchatd.domains.messaging.records import AddRecord, Record
from tchatd.domains.messaging.state import MessagingState, StateLimits
from tchatd.domains.messaging.store import MEMBER, OWNER, Found, MemberRow, Wants
from tchatd.kernel.bitmaps import BitMap
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support import applied as records
from tests.support.applied import AT_MS, Applied, dialog_of, message, read
from tests.support.history import History
from tests.support.messaging import Core, client_id, user_id


@pytest.fixture
def apply() -> Applied:
    return Applied()


def unread(dialog: DialogState, user: int) -> int:
    return dialog.view(dialog.member(user)).unread_count


def test_a_dialogs_seq_is_dense_and_counts_every_event(apply: Applied) -> None:
    number = apply(dialog_of(1, 2)).dialog_number
    assert number == 1
    records: list[Record] = [
        message(1, 1),
        message(1, 2),
        read(1, 1, 3, 2),
        message(1, 1),
    ]
    assert [apply(record).seq for record in records] == [2, 3, 4, 5]
    dialog = apply.dialog(1)
    assert (dialog.last_seq, dialog.message_count) == (5, 3)
    assert [entry.seq for entry in dialog.tail] == [1, 2, 3, 4, 5]


def test_unread_counts_follow_messages_reads_and_ones_own_sending(
    apply: Applied,
) -> None:
    apply(dialog_of(1, 2, 3))
    for _ in range(4):
        apply(message(1, 1))
    dialog = apply.dialog(1)
    assert [unread(dialog, user) for user in (1, 2, 3)] == [0, 4, 4]
    answer = apply(read(1, 2, 3, 2)).answer
    assert answer == ReadState(dialog.id, 3, 2, 6)
    apply(message(1, 3))
    assert [unread(dialog, user) for user in (1, 2, 3)] == [1, 3, 0]


def test_a_creator_of_a_group_owns_it_and_in_a_dialog_of_two_nobody_does(
    apply: Applied,
) -> None:
    assert apply(dialog_of(3, 2)).role == OWNER
    assert apply.dialog(1).by_number[3].role == OWNER
    assert apply(dialog_of(1, 2, type="user")).role == MEMBER


def test_reading_a_large_dialog_is_told_to_the_reader_alone(apply: Applied) -> None:
    apply(dialog_of(*range(1, 102)))
    apply(message(1, 1))
    entry = apply(read(1, 5, 2, 1))
    assert (entry.seq, entry.members, entry.actor) == (0, None, 5)
    assert isinstance(entry.event, MessageRead)
    dialog = apply.dialog(1)
    assert (dialog.last_seq, unread(dialog, 5), unread(dialog, 6)) == (2, 0, 1)
    assert (dialog.last_position, dialog.changed_position) == (2, 3)


def test_a_message_shows_who_has_read_it_but_not_its_sender(apply: Applied) -> None:
    apply(dialog_of(1, 2, 3))
    apply(message(1, 1))
    apply(read(1, 2, 2, 1))
    dialog = apply.dialog(1)
    assert dialog.last_message is not None
    [reader] = dialog.with_readers(dialog.last_message, None).read_by
    assert reader.user_id == str(user_id(2))
    assert dialog.last_message.read_by == ()


def test_the_tail_keeps_what_is_not_flushed_and_some_of_what_is() -> None:
    apply = Applied(tail_max=4)
    apply(dialog_of(1, 2))
    for _ in range(20):
        apply(message(1, 1))
    apply.flush(15)
    dialog = apply.dialog(1)
    assert (dialog.tail_first_seq, dialog.last_seq, dialog.unflushed) == (16, 21, 6)
    apply.flush()
    assert (dialog.tail_first_seq, dialog.unflushed) == (16, 0)
    assert dialog.entry_at(15) is None
    assert dialog.entry_at(22) is None
    entry = dialog.entry_at(16)
    assert entry is not None
    assert entry.seq == 16


def test_a_user_finds_their_dialogs_that_are_not_wholly_flushed(apply: Applied) -> None:
    apply(dialog_of(1, 2))
    apply(dialog_of(2, 3))
    apply(dialog_of(*range(2, 60)))
    apply(message(1, 1))

    def dirty(user: int) -> list[int]:
        return [dialog.number for dialog in apply.state.dirty_of(user)]

    assert [dirty(user) for user in (1, 2, 3, 99)] == [[1], [1, 2, 3], [2, 3], []]
    apply.flush(3)
    assert [dirty(user) for user in (1, 2, 3, 99)] == [[1], [1], [], []]
    apply.flush()
    assert [dirty(user) for user in (1, 2, 3, 99)] == [[], [], [], []]


def test_only_flushed_dialogs_are_evicted_the_longest_unused_first() -> None:
    apply = Applied(dialogs_max=2)
    for _ in range(4):
        apply(dialog_of(1, 2))
    assert len(apply.state) == 4
    apply.flush(1)
    assert [bool(apply.state.find_number(n)) for n in (1, 2, 3, 4)] == [
        False,
        *[True] * 3,
    ]
    apply.state.find_number(2)
    apply.flush()
    assert [bool(apply.state.find_number(n)) for n in (2, 3, 4)] == [True, False, True]
    apply.state.find(apply.dialog(2).id)
    apply(dialog_of(1, 2))
    apply.flush()
    assert [bool(apply.state.find_number(n)) for n in (2, 4, 5)] == [True, False, True]


def test_the_events_of_all_dialogs_are_bounded_together() -> None:
    apply = Applied(dialogs_max=100, tail_max=50, tails_max=40)
    first, second, third, *_ = [apply(dialog_of(1, 2)).dialog_number for _ in range(5)]
    for _ in range(10):
        for number in (first, second, third):
            apply(message(number, 1))
    apply.flush()
    assert len(apply.state) == 5  # 35 events
    for _ in range(10):
        apply(message(third, 1))
    assert len(apply.state) == 5  # none of them is stored
    apply.state.find(apply.dialog(first).id)
    apply.flush()
    assert apply.state.find_number(second) is None
    assert len(apply.state) == 4  # 34 events
    for _ in range(6):
        apply(message(first, 1))
    apply.flush()
    assert len(apply.state) == 4  # those of who went are not counted any more


def test_what_is_loaded_is_bounded_unless_records_wait_for_it() -> None:
    source = Applied()
    rows = [source(dialog_of(1, 2)).created for _ in range(5)]
    found = Found([row for row in rows if row is not None], [], [])
    for evict, kept in ((False, 5), (True, 2)):
        loaded = MessagingState(StateLimits(dialogs_max=2))
        loaded.install(found, Wants(), evict=evict)
        assert len(loaded) == kept


@pytest.mark.parametrize("size", [2, 16, 17, 130])
def test_a_dialog_of_any_size_is_dirty_until_it_is_flushed(
    apply: Applied, size: int
) -> None:
    apply(dialog_of(*range(1, size + 1)))
    for user in (1, size):
        assert [d.number for d in apply.state.dirty_of(user)] == [1]
    assert apply.state.dirty_of(size + 1) == []
    apply.flush()
    assert apply.state.dirty_of(1) == apply.state.dirty_of(size) == []


def test_texts_of_user_ids_are_kept_up_to_a_number(
    apply: Applied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "_USER_TEXTS_MAX", 3)
    apply(dialog_of(*range(1, 11)))
    for user in range(1, 11):
        assert apply(message(1, user)).answer.sender_id == str(user_id(user))
        assert len(apply.state._user_texts) <= 3


def test_a_dialog_that_somebody_waits_for_is_not_evicted() -> None:
    apply = Applied(dialogs_max=1)
    apply.state.is_kept = lambda dialog: dialog.number == 1
    for _ in range(3):
        apply(dialog_of(1, 2))
    apply.flush()
    assert [bool(apply.state.find_number(n)) for n in (1, 2, 3)] == [True, False, False]


def test_what_is_loaded_never_replaces_what_is_here(apply: Applied) -> None:
    record = dialog_of(1, 2)
    created = apply(record).created
    assert created is not None
    apply(message(1, 1))
    found = Found([created], [MemberRow(1, 1), MemberRow(9, 9)], [])
    apply.state.install(found, Wants())
    dialog = apply.dialog(1)
    assert (dialog.last_seq, dialog.by_number[1].read_seq) == (2, 2)
    assert apply.state.find_number(9) is None


def test_what_a_replay_needs_and_what_it_brings_itself(apply: Applied) -> None:
    records: list[tuple[int, Record]] = [
        (5, message(3, 1)),
        (6, dialog_of(1, 2)),
        (7, message(6, 1)),
        (8, read(4, 2, 2, 1)),
    ]
    wants = apply.state.missing(records)
    assert (wants.numbers, wants.members) == ({3, 4}, {(3, 1), (4, 2)})


def test_a_replay_needs_the_cursors_of_a_large_dialog_that_is_here(
    apply: Applied,
) -> None:
    created = apply(dialog_of(*range(1, 102))).created
    assert created is not None
    loaded = MessagingState(StateLimits())
    loaded.install(Found([created], [MemberRow(1, 5)], []), Wants())
    records: list[tuple[int, Record]] = [
        (2, message(1, 5)),
        (3, message(1, 6)),
        (4, read(1, 7, 2, 1)),
    ]
    wants = loaded.missing(records)
    assert (wants.numbers, wants.members) == (set(), {(1, 6), (1, 7)})


@pytest.mark.parametrize("seed", range(20))
def test_no_forgotten_id_is_ever_taken_for_new(seed: int) -> None:
    choose = random.Random(seed)
    apply = Applied(client_ids_max=3)
    apply(dialog_of(1, 2))
    sent: set[bytes] = set()
    for _ in range(300):
        if choose.random() < 0.2:
            apply.flush(choose.randrange(len(apply.entries) + 1))
        time_ms = choose.choice([choose.randrange(60), 10**6])
        id = client_id(time_ms, choose.randrange(9)).bytes
        member = apply.dialog(1).by_number[1]
        is_known = id in member.recent
        if not is_known and client_time_ms(id) > member.floor_ms:
            assert id not in sent
        if id not in sent:
            sent.add(id)
            apply(message(1, 1, id))
        assert all(
            i in member.recent for i in (e.client_id for e in apply.entries) if i
        )
    apply.flush()
    assert len(apply.dialog(1).by_number[1].recent) < 6


def rows_of(core: Core) -> tuple[Any, ...]:
    assert isinstance(core.store, MemoryDialogStore)
    return core.store.log, core.store.dialogs, core.store.members


@pytest.mark.parametrize("seed", range(8))
async def test_any_history_with_crashes_makes_what_a_simple_fold_makes(
    seed: int,
) -> None:
    # Given commands at random by four people, each process ending in a crash,
    history = History(seed)
    for _ in range(5):
        await history.run(80)
    assert history.answered > 100
    # when a process over the same store, and one over an empty store, replay,
    core = history.core
    again = await core.restart(store=MemoryDialogStore(), limits=history.limits)
    # then both tell what the truth tells, from the same rows.
    for one in (core, again):
        await history.check(one)
    assert rows_of(again) == rows_of(core)


def test_who_has_left_is_not_needed_to_be_named_by_an_edit(apply: Applied) -> None:
    apply(dialog_of(1, 2, 3))
    apply(message(1, 1))
    records.remove(apply, 1, 3, 3)
    edit = records.edit(1, 1, 2, mention_numbers=(2, 3), unmentioned=(9,))
    assert len(apply.missing(edit)) == 0
    # But of somebody who joins meanwhile, which the record of it has loaded.
    join = AddRecord(1, AT_MS, 1, bytes(16), BitMap((9,)).serialize(), b"", b"")
    assert apply.missing(join, edit).members == {(1, 9)}


def test_who_has_left_is_not_needed_for_what_they_set(apply: Applied) -> None:
    apply(dialog_of(1, 2, 3))
    for record in (records.profile(1, 9), records.ban(1, 9, 3)):
        assert len(apply.missing(record)) == 0
