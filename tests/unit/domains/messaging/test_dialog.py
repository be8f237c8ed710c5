"""A member's cursor, what it remembers as sent, and the dialog as a member sees it."""

from __future__ import annotations

import pytest

from tchatd.domains.messaging import dialog as dialog_module
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.identifiers import client_time_ms, uuid_text
from tchatd.domains.messaging.member import Member
from tchatd.domains.messaging.store import (
    MESSAGE_NEW,
    DialogRow,
    EventRow,
    Found,
    MemberRow,
    Wants,
)
from tchatd.kernel.bitmaps import BitMap
from tests.support import applied as a
from tests.support.applied import Applied
from tests.support.messaging import client_id, shape, user_id


def row_of(members: int) -> DialogRow:
    shown = range(1, min(members, 100) + 1)
    return DialogRow(
        number=3,
        id=bytes(16),
        type=1,
        name="Lunch",
        avatar=None,
        creator=1,
        created_ms=1_800_000_000_000,
        members=BitMap(range(1, members + 1)).serialize(),
        participants=b"".join(user_id(number).bytes for number in shown),
        last_seq=9,
        message_count=7,
        active_position=20,
        active_ms=1_800_000_001_000,
        last_position=21,
    )


def test_a_loaded_dialog_is_as_it_was_stored() -> None:
    dialog = DialogState(row_of(3))
    view = dialog.view(Member.of_row(MemberRow(3, 1, read_seq=5, read_ordinal=4)))
    assert (view.id, view.type, view.name) == (uuid_text(bytes(16)), "group", "Lunch")
    assert (view.member_count, len(view.participants)) == (3, 3)
    assert (view.last_seq, view.unread_count) == (9, 3)
    assert view.created_at < view.updated_at
    assert (dialog.tail_first_seq, dialog.entry_at(9)) == (10, None)


@pytest.mark.parametrize(("members", "is_large"), [(100, False), (101, True)])
def test_of_a_large_dialog_only_members_who_act_are_loaded(
    members: int, is_large: bool
) -> None:
    dialog = DialogState(row_of(members))
    assert (dialog.is_large, dialog.all_loaded) == (is_large, not is_large)
    assert (dialog.member(5) is None) == is_large
    assert len(dialog.participants) == 100


def test_a_loaded_member_has_everything_sent_below_the_floor() -> None:
    member = Member.of_row(MemberRow(3, 1, client_ms=50))
    assert (member.floor_ms, member.client_ms, member.recent) == (50, 50, {})
    assert Member().floor_ms == -1


def test_the_floor_is_above_every_forgotten_id_and_the_greatest_stay() -> None:
    member = Member()
    times = [50, 10, 40, 99_999, 20, 30]
    for seq, time_ms in enumerate(times, 1):
        member.recent[client_id(time_ms).bytes] = seq
    member.forget(flushed_seq=0, kept=2)
    assert (len(member.recent), member.floor_ms) == (6, -1)
    member.forget(flushed_seq=5, kept=2)
    assert [client_time_ms(id) for id in member.recent] == [50, 99_999, 30]
    assert member.floor_ms == 40


def test_an_edit_in_the_tail_never_shows_what_has_been_deleted_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialog_module, "LOADED_MESSAGES_MAX", 2)
    apply = Applied(tail_max=2)
    apply(a.dialog_of(1, 2))
    for _ in range(5):
        apply(a.message(1, 1))
    for seq in range(2, 6):
        apply(a.edit(1, 1, seq, "secret"))
    apply(a.edit(1, 1, 2, "more secret"))
    apply(a.delete(1, 1, 2))
    apply.flush()
    dialog = apply.dialog()
    assert [entry.seq for entry in dialog.tail] == [11, 12]
    shown = shape(dialog.shown_event(dialog.tail[0].event))
    assert shown["message"]["content"] == {}
    assert list(dialog.messages) == [2, 5]
    for _ in range(6):
        apply(a.message(1, 1))
    for seq in (15, 16, 17, 18):
        apply(a.react(1, 1, seq))
    apply.flush()
    assert 2 not in dialog.messages


def test_what_was_only_looked_at_is_forgotten_when_it_is_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialog_module, "LOADED_MESSAGES_MAX", 4)
    apply = Applied(tail_max=2)
    apply(a.dialog_of(1, 2))
    for _ in range(30):
        apply(a.message(1, 1))
    apply.flush()
    rows = [state_row(apply, seq) for seq in range(2, 20)]
    for row in rows:
        apply.state.install(Found([], [], [], [row]), Wants(messages={(1, row.seq)}))
        assert row.seq in apply.dialog().messages
    assert len(apply.dialog().messages) <= 5


@pytest.mark.parametrize("is_busy", [False, True])
def test_of_a_large_dialog_members_are_forgotten_when_the_store_knows_them(
    is_busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialog_module, "LOADED_MEMBERS_MAX", 10)
    apply = Applied()
    apply(a.dialog_of(*range(1, 202)))
    apply(a.message(1, 1, client_id(5).bytes))
    for user in range(2, 102):
        apply(a.read(1, user, 2, 1))
    if is_busy:
        apply(a.read(1, 150, 2, 1))
        apply.flush(len(apply.entries) - 1)
    else:
        apply.flush()
    dialog = apply.dialog()
    assert not dialog.all_loaded
    assert sorted(dialog.by_number) == [
        *(1, 97, 98, 99, 100, 101),
        *([150] if is_busy else []),
    ]
    assert dialog.member(2) is None
    wants = apply.missing(a.read(1, 2, 2, 1))
    assert wants.members == {(1, 2)}


def test_looking_at_many_members_of_a_large_dialog_does_not_keep_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialog_module, "LOADED_MEMBERS_MAX", 10)
    apply = Applied()
    apply(a.dialog_of(*range(1, 202)))
    apply(a.read(1, 200, 1, 0))
    apply.flush(1)
    for user in range(2, 102):
        found = Found([], [MemberRow(1, user, read_seq=1)], [])
        apply.state.install(found, Wants(members={(1, user)}))
        assert user in apply.dialog().by_number
    assert len(apply.dialog().by_number) <= 20
    assert apply.member(200).changed_position == 2


def test_of_a_small_dialog_who_has_left_is_forgotten_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialog_module, "LOADED_MEMBERS_MAX", 10)
    apply = Applied()
    apply(a.dialog_of(1, 2, 3))
    for user in range(4, 44):
        a.add(apply, 1, 1, user)
        a.remove(apply, 1, user, user)
    apply.flush()
    dialog = apply.dialog()
    assert sorted(dialog.by_number) == [1, 39, 40, 41, 42, 43]
    assert dialog.all_loaded
    assert dialog.member(2) is not None
    assert dialog.member(4) is None


def state_row(apply: Applied, seq: int) -> EventRow:
    """What the store has of a plain message."""
    state = apply.dialog().entry_at(seq)
    body = '{"type":"text","content":{"text":"x"}}'
    at_ms = a.AT_MS if state is None else state.at_ms
    return EventRow(1, seq, MESSAGE_NEW, seq, at_ms, seq - 1, 1, bytes(16), body)


def test_a_stored_event_in_the_tail_does_not_hold_on_to_who_was_there_then() -> None:
    apply = Applied()
    created = apply(a.dialog_of(1, 2))
    sent = apply(a.message(1, 1))
    joined = a.add(apply, 1, 1, 3)
    apply.flush()
    tail = apply.dialog().tail
    assert [entry.event for entry in tail] == [
        *(created.event, sent.event),
        joined.event,
    ]
    assert all(entry.members is None for entry in tail)
    assert all(entry.changes is None and entry.created is None for entry in tail)
    assert created.created is not None  # for who follows the log
    assert joined.changes is not None
