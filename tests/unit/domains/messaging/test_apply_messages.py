"""What becomes of a message: edits, deletions, reactions, pins, polls, threads."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from tchatd.domains.messaging import events as e
from tchatd.domains.messaging.content import Button
from tchatd.domains.messaging.message_state import HISTORY_MAX
from tchatd.domains.messaging.models import PollResults
from tchatd.domains.messaging.settings import DialogSettings, settings_bytes
from tchatd.kernel.bitmaps import BitMap
from tests.support import applied as a
from tests.support.applied import Applied
from tests.support.messaging import shape, user_id


@pytest.fixture
def apply() -> Applied:
    """A group of 1, 2 and 3; its message with seq 2 is by 1."""
    apply = Applied()
    apply(a.dialog_of(1, 2, 3))
    apply(a.message(1, 1))
    return apply


def shown(apply: Applied, seq: int = 2) -> Any:
    """The message as a client sees it now, whichever way it is shown."""
    dialog = apply.dialog()
    state = apply.message(seq)
    message = shape(dialog.message_of(state))
    entry = dialog.entry_at(seq)
    if entry is not None:
        assert shape(dialog.shown_event(entry.event))["message"] == message
        assert shape(dialog.shown_message(entry.event.message)) == message
    if seq == dialog.last_message_seq:
        view = shape(dialog.view(None))["last_message"]
        assert {**view, "read_by": []} == message
    return message


def test_an_edit_shows_everywhere_and_keeps_what_was_said(apply: Applied) -> None:
    entry = apply(a.edit(1, 1, 2, "new"))
    assert isinstance(entry.event, e.MessageEdited)
    assert (entry.seq, entry.event.seq, entry.event.message.seq) == (3, 3, 2)
    assert entry.members == BitMap((1, 2, 3))
    message = shown(apply)
    assert (message["content"], message["is_edited"]) == ({"text": "new"}, True)
    assert message["edited_at"] > message["created_at"]
    [past] = apply.message(2).changes.history
    assert past.content == {"text": "x"}


def test_history_is_bounded_and_begins_with_what_was_first_said(
    apply: Applied,
) -> None:
    for index in range(HISTORY_MAX + 5):
        apply(a.edit(1, 1, 2, str(index)))
    said = [past.content["text"] for past in apply.message(2).changes.history]
    assert len(said) == HISTORY_MAX
    assert (said[0], said[-1]) == ("x", str(HISTORY_MAX + 3))


def test_an_edit_mentions_who_has_not_read_it_and_takes_mentions_back(
    apply: Applied,
) -> None:
    apply(a.read(1, 3, 2, 1))
    both = (str(user_id(2)), str(user_id(3)))
    entry = apply(a.edit(1, 1, 2, mentions=both, mention_numbers=(2, 3)))
    dialog = apply.dialog()
    assert [dialog.mention_count(apply.member(n)) for n in (1, 2, 3)] == [0, 1, 0]
    assert entry.changes is not None
    assert [row.user_number for row in entry.changes.members] == [2]
    assert shown(apply)["mentions"] == list(both)
    entry = apply(a.edit(1, 1, 2, unmentioned=(2, 3)))
    assert dialog.mention_count(apply.member(2)) == 0
    assert entry.changes is not None
    assert [row.user_number for row in entry.changes.members] == [2]


def test_an_edit_that_mentions_somebody_who_has_left_makes_no_row_of_them(
    apply: Applied,
) -> None:
    a.remove(apply, 1, 2, 2)
    del apply.dialog().by_number[2]  # as after the dialog was loaded again
    entry = apply(a.edit(1, 1, 2, mention_numbers=(2,)))
    assert entry.changes is not None
    assert entry.changes.members == ()
    apply(a.edit(1, 1, 2, unmentioned=(2,)))
    assert 2 not in apply.dialog().by_number


def test_buttons_are_buttons_also_when_replayed(apply: Applied) -> None:
    [[press]] = buttons = ((Button("ok", data="1"),),)
    apply(a.message(1, 1, buttons=buttons))
    apply(a.edit(1, 1, 2, buttons=buttons))
    for seq in (2, 3):
        assert apply.message(seq).body.buttons == ((press,),)
    apply(a.edit(1, 1, 3))
    assert apply.message(3).body.buttons is UNSET


def test_a_deleted_message_says_nothing_more(apply: Applied) -> None:
    apply(a.edit(1, 1, 2, mentions=(str(user_id(2)),), mention_numbers=(2,)))
    apply(a.react(1, 3, 2))
    apply(a.pin(1, 3, 2))
    entry = apply(a.delete(1, 2, 2, reason="spam"))
    event = entry.event
    assert isinstance(event, e.MessageDeleted)
    assert (event.message_seq, event.user_id, event.reason) == (
        *(2, str(user_id(2))),
        "spam",
    )
    message = shown(apply)
    assert message["content"] == {}
    assert message["reactions"] == message["mentions"] == []
    assert not message["is_edited"]
    assert not message["is_pinned"]
    assert message["deleted_at"]
    changes = apply.message(2).changes
    assert (changes.deleted_by, changes.reason, changes.history) == (2, "spam", ())
    assert apply.dialog().pins == ()


def test_a_message_that_vanished_was_deleted_by_nobody(apply: Applied) -> None:
    event = apply(a.delete(1, 0, 2)).event
    assert event.user_id is UNSET
    assert "user_id" not in shape(event)


def test_what_is_deleted_is_neither_unread_nor_mentioned(apply: Applied) -> None:
    apply(a.message(1, 1, mention_numbers=(2,), mentions=(str(user_id(2)),)))
    dialog = apply.dialog()
    member = apply.member(2)
    assert (dialog.unread(member), dialog.mention_count(member)) == (2, 1)
    apply(a.delete(1, 1, 3))
    assert (dialog.unread(member), dialog.mention_count(member)) == (1, 0)
    apply(a.read(1, 2, 2, 1))
    assert (dialog.unread(member), dialog.mention_count(member)) == (0, 0)
    apply(a.message(1, 1))
    assert dialog.unread(member) == 1


def test_earlier_states_are_not_touched_by_later_records(apply: Applied) -> None:
    apply(a.react(1, 2, 2))
    before = apply.message(2)
    event, answer = apply.entries[-1].event, apply.entries[-1].answer
    was = shape([event, answer])
    apply(a.react(1, 3, 2))
    apply(a.edit(1, 1, 2))
    apply(a.delete(1, 1, 2))
    assert len(before.changes.shown) == 1
    assert before.body.content == {"text": "x"}
    assert shape([event, answer]) == was


def test_reactions_are_counted_by_emoji_and_the_first_ones_named(
    apply: Applied,
) -> None:
    counts = [
        apply(a.react(1, user, 2, emoji)).event.count
        for user, emoji in ((1, "a"), (2, "a"), (2, "b"))
    ]
    assert counts == [1, 2, 1]
    message = shown(apply)
    assert message["reaction_counts"] == [
        {"emoji": "a", "count": 2},
        {"emoji": "b", "count": 1},
    ]
    assert [(r["emoji"], r["user_id"]) for r in message["reactions"]] == [
        *(("a", str(user_id(1))), ("a", str(user_id(2)))),
        ("b", str(user_id(2))),
    ]
    gone = apply(a.react(1, 2, 2, "b", is_added=False)).event
    assert isinstance(gone, e.ReactionRemoved)
    assert gone.count == 0
    assert [r["emoji"] for r in shown(apply)["reaction_counts"]] == ["a"]
    apply(a.react(1, 2, 2, "a", is_added=False))
    apply(a.react(1, 1, 2, "a", is_added=False))
    assert "reaction_counts" not in shown(apply)
    assert shown(apply)["reactions"] == []


def test_of_many_reactions_the_first_100_are_named() -> None:
    apply = Applied()
    apply(a.dialog_of(*range(1, 151)))
    apply(a.message(1, 1))
    for user in range(1, 151):
        apply(a.react(1, user, 2))
    message = shown(apply)
    assert len(message["reactions"]) == 100
    assert message["reaction_counts"] == [{"emoji": "👍", "count": 150}]
    apply(a.react(1, 5, 2, is_added=False))
    assert len(shown(apply)["reactions"]) == 99
    assert shown(apply)["reaction_counts"][0]["count"] == 149


def test_pins_are_in_the_order_of_pinning(apply: Applied) -> None:
    apply(a.message(1, 2))
    for seq in (3, 2):
        event = apply(a.pin(1, 2, seq)).event
        assert isinstance(event, e.MessagePinned)
    ids = [apply.message(seq).id for seq in (3, 2)]
    assert list(apply.dialog().pins) == ids
    assert shape(apply.dialog().view(None))["pinned_message_ids"] == ids
    assert shown(apply, 2)["is_pinned"]
    assert shown(apply, 3)["is_pinned"]
    assert isinstance(apply(a.pin(1, 2, 3, is_pinned=False)).event, e.MessageUnpinned)
    assert not shown(apply, 3)["is_pinned"]
    assert list(apply.dialog().pins) == ids[1:]


def test_a_vote_is_all_that_somebody_chooses_now(apply: Applied) -> None:
    apply(a.poll(1, 1, is_multiple=True))
    assert shown(apply, 3)["poll"] == {
        "counts": [0, 0, 0],
        "voters": 0,
        "is_closed": False,
    }
    event = apply(a.vote(1, 2, 3, 0, 2)).event
    assert event.poll == PollResults((1, 0, 1), 1)
    assert (event.user_id, event.options) == (str(user_id(2)), (0, 2))
    assert apply(a.vote(1, 3, 3, 2)).event.poll == PollResults((1, 0, 2), 2)
    assert apply(a.vote(1, 2, 3, 1)).event.poll == PollResults((0, 1, 1), 2)
    assert apply(a.vote(1, 2, 3)).event.poll == PollResults((0, 0, 1), 1)
    closed = apply(a.vote(1, 1, 3, closes=True)).event
    assert closed.poll == PollResults((0, 0, 1), 1, is_closed=True)
    assert closed.user_id is UNSET
    apply(a.delete(1, 1, 3))
    assert "poll" not in shown(apply, 3)


def test_nobody_is_told_who_voted_in_an_anonymous_poll(apply: Applied) -> None:
    apply(a.poll(1, 1, is_anonymous=True))
    event = shape(apply(a.vote(1, 2, 3, 0)).event)
    assert not {"user_id", "options"} & set(event)
    assert event["poll"]["counts"] == [1, 0, 0]


def test_a_thread_counts_its_messages_and_names_who_wrote_first(
    apply: Applied,
) -> None:
    assert "thread" not in shown(apply)
    for user in (2, 3, 2):
        apply(a.message(1, user, thread_seq=2))
    last = apply.message(5)
    assert shown(apply, 5)["thread_id"] == apply.message(2).id
    assert shown(apply)["thread"] == {
        "count": 3,
        "last_message_id": last.id,
        "last_at": shown(apply, 5)["created_at"],
        "participants": [str(user_id(2)), str(user_id(3))],
        "seq": 5,
    }
    entry = apply(a.delete(1, 3, 4, thread_seq=2))
    assert entry.changes is not None
    assert [state.seq for state in entry.changes.messages] == [4, 2]
    assert shown(apply)["thread"]["count"] == 2
    apply(a.delete(1, 1, 2))
    assert shown(apply)["thread"]["count"] == 2


def test_a_message_vanishes_by_the_setting_that_it_was_sent_under(
    apply: Applied,
) -> None:
    apply(a.profile(1, 1, settings=settings_bytes(DialogSettings(vanish_after_s=60))))
    apply(a.message(1, 1))
    apply(a.profile(1, 1))
    apply(a.message(1, 1))
    at_ms = a.AT_MS + 5
    assert [apply.message(seq).expires_ms for seq in (2, 4, 6)] == [
        0,
        at_ms + 60_000,
        0,
    ]
    apply(a.delete(1, 0, 4))
    assert apply.message(4).expires_ms == 0
