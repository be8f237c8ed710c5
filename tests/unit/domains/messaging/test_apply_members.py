"""Who is in a dialog, how it is set, and what a member keeps for themselves."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from tchatd.domains.messaging import events as e
from tchatd.domains.messaging.member import DraftState, MemberExtra, extra_bytes
from tchatd.domains.messaging.models import Dialog, Done
from tchatd.domains.messaging.settings import DialogSettings, settings_bytes
from tchatd.domains.messaging.store import ADMIN, GUEST, MEMBER, OWN, OWNER
from tchatd.kernel.bitmaps import BitMap
from tests.support import applied as a
from tests.support.applied import Applied
from tests.support.messaging import client_id, shape, user_id


@pytest.fixture
def apply() -> Applied:
    apply = Applied()
    apply(a.dialog_of(1, 2, 3))
    return apply


def texts(*users: int) -> tuple[str, ...]:
    return tuple(str(user_id(user)) for user in users)


def test_who_joins_finds_the_dialog_new_and_everything_read(apply: Applied) -> None:
    apply(a.message(1, 1))
    entry = a.add(apply, 1, 1, 5, 4)
    dialog = apply.dialog()
    assert dialog.members == BitMap((1, 2, 3, 4, 5))
    assert dialog.participants == texts(1, 2, 3, 4, 5)
    event = entry.event
    assert isinstance(event, e.MemberAdded)
    assert (event.user_ids, event.count, event.member_count) == (texts(4, 5), 2, 5)
    assert entry.members == BitMap((1, 2, 3))
    assert entry.answer is event
    assert entry.changes is not None
    [(who, told)] = entry.changes.told
    assert who == BitMap((4, 5))
    assert isinstance(told, e.DialogCreated)
    assert (told.seq, told.dialog.unread_count, told.dialog.role) == (3, 0, "member")
    apply(a.message(1, 1))
    unread = [dialog.unread(apply.member(n)) for n in (1, 2, 4, 5)]
    assert unread == [0, 2, 1, 1]
    assert [row.user_number for row in entry.changes.members] == [4, 5]
    assert entry.changes.members[0].joined_seq == 3


def test_who_is_added_with_others_is_told_nobody_elses_view(apply: Applied) -> None:
    for _ in range(3):
        apply(a.message(1, 1))
    for user, extra in (
        (2, MemberExtra(cleared_seq=3)),
        (3, MemberExtra(hidden=BitMap((2,)).serialize(), silenced_until_ms=99)),
    ):
        apply(a.own(1, user, extra_bytes(extra)))
        a.remove(apply, 1, user, user)
    entry = a.add(apply, 1, 1, 2, 3, 4, 5)
    assert entry.changes is not None
    told = {tuple(who): event.dialog for who, event in entry.changes.told}
    assert set(told) == {(4, 5), (2,), (3,)}
    plain = told[4, 5]
    assert (plain.hidden, plain.cleared_seq, plain.silenced_until) == 3 * (UNSET,)
    assert (told[2,].hidden, told[2,].cleared_seq) == (UNSET, 3)
    assert (told[3,].hidden, told[3,].cleared_seq) == (((2, 2),), UNSET)
    assert told[3,].silenced_until is not UNSET


def test_nobody_comes_back_silenced_to_a_role_above_who_could_end_it(
    apply: Applied,
) -> None:
    for user, role in ((2, ADMIN), (3, MEMBER)):
        apply(a.restrict(1, 1, user, a.AT_MS))
        a.remove(apply, 1, 1, user)
        a.add(apply, 1, 1, user, role=role)
    silences = [apply.member(user).extra.silenced_until_ms for user in (2, 3)]
    assert silences == [0, a.AT_MS]


def test_who_comes_by_themselves_is_answered_with_the_dialog(apply: Applied) -> None:
    entry = a.add(apply, 1, 4, 4, role=GUEST)
    assert isinstance(entry.answer, Dialog)
    assert entry.answer.role == "guest"
    assert entry.event.by == str(user_id(4))


def test_who_leaves_is_told_and_their_row_stays(apply: Applied) -> None:
    entry = a.remove(apply, 1, 1, 3, "removed")
    event = entry.event
    assert isinstance(event, e.MemberRemoved)
    assert (event.user_id, event.by, event.reason) == (*texts(3, 1), "removed")
    assert entry.members == BitMap((1, 2, 3))
    assert entry.answer == Done()
    assert apply.dialog().members == BitMap((1, 2))
    assert apply.dialog().participants == texts(1, 2)
    assert entry.changes is not None
    [row] = entry.changes.members
    assert (row.user_number, row.left_seq, row.left_position) == (3, 2, 2)
    assert apply.dialog().banned is None


def test_a_ban_removes_and_is_remembered_until_it_is_lifted(apply: Applied) -> None:
    entry = a.remove(apply, 1, 1, 3, "banned")
    assert apply.dialog().banned == BitMap((3,))
    assert entry.changes is not None
    assert entry.changes.profile is not None
    event = apply(a.ban(1, 1, 7)).event
    assert isinstance(event, e.DialogUpdated)
    assert apply.dialog().banned == BitMap((7,))
    apply(a.ban(1, 1))
    assert apply.dialog().banned is None


def test_who_comes_back_is_a_member_as_new_but_has_sent_what_they_sent(
    apply: Applied,
) -> None:
    sent = client_id(50).bytes
    apply(a.message(1, 2, sent))
    apply(a.role(1, 1, 2, ADMIN))
    kept = MemberExtra(
        is_pinned=True,
        draft=DraftState("x", None, 1),
        hidden=BitMap((2,)).serialize(),
        cleared_seq=1,
        silenced_until_ms=99,
    )
    apply(a.own(1, 2, extra_bytes(kept)))
    apply(a.message(1, 1, mention_numbers=(2,)))
    a.remove(apply, 1, 2, 2)
    entry = a.add(apply, 1, 1, 2)
    member, dialog = apply.member(2), apply.dialog()
    assert (member.role, member.left_seq, member.left_position) == (MEMBER, 0, 0)
    assert (member.joined_seq, member.joined_position) == (entry.seq, entry.position)
    assert (dialog.unread(member), dialog.mention_count(member)) == (0, 0)
    assert member.recent == {sent: 2}
    assert member.client_ms == 50
    assert member.sent_ms == a.AT_MS + 5
    # Leaving ends no silence and shows nothing that they had deleted for themselves.
    assert member.extra == MemberExtra(
        hidden=kept.hidden, cleared_seq=1, silenced_until_ms=99
    )


def test_a_new_role_moves_what_one_may(apply: Applied) -> None:
    event = apply(a.role(1, 1, 2, ADMIN)).event
    assert isinstance(event, e.MemberRole)
    assert (event.user_id, event.role, event.hands_over) == (*texts(2), "admin", False)
    assert apply.member(2).role == ADMIN
    assert apply.member(2).own_position == 2


def test_an_owner_who_hands_over_is_an_admin(apply: Applied) -> None:
    entry = apply(a.role(1, 1, 2, OWNER, hands_over=True))
    assert (apply.member(1).role, apply.member(2).role) == (ADMIN, OWNER)
    assert entry.changes is not None
    assert [row.user_number for row in entry.changes.members] == [2, 1]


def test_a_profile_is_replaced_whole(apply: Applied) -> None:
    settings = DialogSettings(description="d", who_may_write="admin")
    entry = apply(a.profile(1, 1, "Dinner", settings_bytes(settings)))
    dialog = apply.dialog()
    assert (dialog.name, dialog.avatar, dialog.settings) == ("Dinner", None, settings)
    assert entry.event.name == "Dinner"
    assert entry.event.avatar is UNSET
    assert isinstance(entry.answer, Dialog)
    assert entry.answer.role == "owner"
    apply(a.profile(1, 1))
    assert (dialog.name, dialog.settings) == (None, DialogSettings())


def test_a_change_by_somebody_who_is_no_member_is_answered_without_the_dialog(
    apply: Applied,
) -> None:
    assert apply(a.profile(1, 9)).answer == Done()
    assert 9 not in apply.dialog().by_number


def test_a_dropped_dialog_has_nobody_and_all_are_told(apply: Applied) -> None:
    entry = apply(a.drop(1, 1))
    dialog = apply.dialog()
    assert isinstance(entry.event, e.DialogDeleted)
    assert entry.members == BitMap((1, 2, 3))
    assert (len(dialog.members), dialog.participants, dialog.is_dropped) == (
        0,
        (),
        True,
    )
    assert [d.number for d in apply.state.dirty_of(2)] == [1]


def test_what_is_ones_own_is_told_to_oneself(apply: Applied) -> None:
    apply(a.message(1, 1))
    extra = MemberExtra(is_archived=True, draft=DraftState("he", None, a.AT_MS))
    entry = apply(a.own(1, 2, extra_bytes(extra)))
    assert (entry.kind, entry.seq, entry.members) == (OWN, 0, BitMap((2,)))
    state = shape(entry.event)
    assert (state["op"], state["is_archived"]) == ("dialog.settings", True)
    assert (state["draft"]["text"], state["unread_count"]) == ("he", 1)
    assert apply.dialog().last_seq == 2
    assert apply.member(2).own_position == entry.position


def test_what_is_hidden_is_not_unread_and_a_cursor_only_moves_forward(
    apply: Applied,
) -> None:
    for _ in range(3):
        apply(a.message(1, 1))
    dialog, member = apply.dialog(), apply.member(2)
    extra = MemberExtra(hidden=BitMap((2, 4)).serialize())
    event = apply(a.own(1, 2, extra_bytes(extra))).event
    assert (dialog.unread(member), event.unread_count) == (1, 1)
    assert event.hidden == ((2, 2), (4, 4))
    extra = MemberExtra(cleared_seq=4)
    assert apply(a.own(1, 2, extra_bytes(extra), 4, 3)).event.unread_count == 0
    assert apply(a.own(1, 2, None, 2, 1)).event.read_seq == 4


def test_deliveries_are_told_in_dialogs_that_are_not_large(apply: Applied) -> None:
    apply(a.message(1, 1))
    entry = apply(a.deliver(1, 2, 2))
    assert isinstance(entry.event, e.MessageDelivered)
    assert (entry.event.delivered_seq, entry.seq) == (2, 0)
    assert apply(a.deliver(1, 2, 1)).event.delivered_seq == 2
    apply(a.dialog_of(*range(1, 102)))
    entry = apply(a.deliver(5, 2, 1))
    assert entry.event is None
    assert apply.member(2, 5).delivered_seq == 1


def test_silence_is_told_to_who_is_silenced(apply: Applied) -> None:
    entry = apply(a.restrict(1, 1, 3, a.AT_MS + 60_000))
    assert entry.members == BitMap((3,))
    assert "silenced_until" in shape(entry.event)
    assert apply.member(3).extra.silenced_until_ms == a.AT_MS + 60_000
    apply(a.restrict(1, 1, 3, 0))
    assert apply.member(3).extra == MemberExtra()


def test_members_bitmaps_are_replaced_and_never_changed(apply: Applied) -> None:
    created = apply.entries[0]
    before = apply.dialog().members
    a.add(apply, 1, 1, 4)
    a.remove(apply, 1, 1, 2)
    apply(a.drop(1, 1))
    assert before == created.members == BitMap((1, 2, 3))
