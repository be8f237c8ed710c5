"""A member's cursor, what it remembers as sent, and the dialog as a member sees it."""

from __future__ import annotations

import pytest

from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.identifiers import client_time_ms, uuid_text
from tchatd.domains.messaging.member import Member
from tchatd.domains.messaging.store import DialogRow, MemberRow
from tchatd.kernel.bitmaps import BitMap
from tests.support.messaging import client_id, user_id


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
