"""Edits and deletions: whose they are, until when, and what they leave behind."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec import UNSET

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.content import Button
from tchatd.domains.messaging.editing import EDIT_MS_MAX
from tchatd.domains.messaging.events import MessageDeleted, MessageEdited
from tchatd.domains.messaging.member_models import RemoveMember
from tchatd.domains.messaging.message_commands import (
    DeleteMessage,
    EditMessage,
    ForwardMessage,
    GetMessage,
    GetMessageHistory,
    PinMessage,
)
from tchatd.domains.messaging.models import (
    Done,
    ListMessages,
    ReadMessages,
    SendMessage,
)
from tchatd.domains.messaging.records import RestrictRecord
from tchatd.kernel.errors import Invalid
from tests.support.messaging import shape, text, user_id, with_user
from tests.support.rooms import OUTSIDER, PLACES, Room, SomeBots, id_of


def edit(message: Any, words: str = "changed", **fields: Any) -> EditMessage:
    return EditMessage(message_id=id_of(message), content={"text": words}, **fields)


async def test_the_sender_says_it_differently_and_everybody_is_told(
    room: Room,
) -> None:
    message = await room.say(2, "first")
    await room.fill()
    room.core.clock.advance(1_000)
    edited = await room.do(2, edit(message))
    assert shape(edited)["content"] == {"text": "changed"}
    assert (edited.id, edited.seq, edited.is_edited) == (message.id, message.seq, True)
    members, event, left_out = room.told[-1]
    assert isinstance(event, MessageEdited)
    assert (event.message.id, left_out) == (message.id, None)
    assert set(members) >= {1, 2, 3, 4, 5}
    again = await room.do(3, GetMessage(id_of(message)))
    assert shape(again)["content"] == {"text": "changed"}
    listed = await room.do(3, ListMessages(dialog_id=room.id))
    assert shape(listed.messages[-1])["content"] == {"text": "changed"}


async def test_what_it_said_before_is_for_its_sender_and_moderators(
    room: Room,
) -> None:
    message = await room.say(2, "one")
    await room.do(2, edit(message, "two"))
    await room.do(2, edit(message, "three"))
    await room.fill()
    for user in (1, 2):
        found = await room.do(user, GetMessageHistory(id_of(message)))
        assert [shape(v.content)["text"] for v in found.versions] == ["one", "two"]
        assert found.message_id == message.id
    with pytest.raises(errors.NotTheSender):
        await room.do(3, GetMessageHistory(id_of(message)))
    with pytest.raises(errors.MessageNotFound):
        await room.do(OUTSIDER, GetMessageHistory(id_of(message)))


async def test_an_edit_that_is_repeated_is_journaled_once(room: Room) -> None:
    message = await room.say(2, "first", mentions=[user_id(3)])
    first = await room.do(2, edit(message))
    entries = room.entries
    again = await room.do(2, edit(message))
    assert again.id == first.id
    assert shape(again.content) == shape(first.content)
    await room.do(2, edit(message, mentions=[user_id(3)]))
    assert room.entries == entries


async def test_who_may_not_edit_is_told_why_and_nothing_is_journaled(
    room: Room,
) -> None:
    message = await room.say(2)
    gone = await room.say(2)
    await room.do(2, DeleteMessage(message_id=id_of(gone)))
    poll = await room.do(
        2,
        SendMessage(
            dialog_id=room.id,
            type="poll",
            content={"question": "?", "options": ["a", "b"]},
        ),
    )
    forwarded = await room.do(
        2, ForwardMessage(message_id=id_of(message), dialog_id=room.id)
    )
    entries = room.entries
    refusals: list[tuple[int, EditMessage, type[Exception]]] = [
        (1, edit(message), errors.NotTheSender),
        (3, edit(message), errors.NotTheSender),
        (OUTSIDER, edit(message), errors.MessageNotFound),
        (2, EditMessage(message_id=uuid4(), content={}), errors.MessageNotFound),
        (2, edit(gone), errors.MessageGone),
        (2, edit(poll), errors.NotEditable),
        (2, edit(forwarded), errors.NotEditable),
        (2, edit(message, ""), errors.InvalidContent),
        (2, edit(message, mentions=[user_id(OUTSIDER)]), errors.InvalidMention),
        (2, edit(message, buttons=((Button("x", data="y"),),)), errors.OnlyBots),
    ]
    for user, command, error in refusals:
        with pytest.raises(error):
            await room.do(user, command)
    assert room.entries == entries


async def test_an_edit_may_come_until_24_hours_after(room: Room) -> None:
    message = await room.say(2)
    room.core.clock.advance(EDIT_MS_MAX)
    assert (await room.do(2, edit(message))).is_edited
    room.core.clock.advance(1)
    with pytest.raises(errors.EditTooLate):
        await room.do(2, edit(message, "later"))


async def test_a_forged_id_is_no_message(room: Room) -> None:
    message = await room.say(2)
    await room.fill()
    other_time = UUID(int=id_of(message).int ^ (1 << 90))
    no_message = UUID(int=id_of(message).int - message.seq + 1)  # the creation
    beyond = UUID(int=id_of(message).int + 900)
    for id in (other_time, beyond, no_message):
        with pytest.raises(errors.MessageNotFound):
            await room.do(2, EditMessage(message_id=id, content={"text": "x"}))
        with pytest.raises(errors.MessageNotFound):
            await room.do(2, GetMessage(id))


async def test_mentions_follow_edits(room: Room) -> None:
    message = await room.say(2, mentions=[user_id(3)])
    assert (await room.view(3)).mention_count == 1
    kept = await room.do(2, edit(message, "two"))
    assert kept.mentions == (str(user_id(3)),)
    assert (await room.view(3)).mention_count == 1
    moved = await room.do(2, edit(message, "three", mentions=[user_id(4)]))
    assert moved.mentions == (str(user_id(4)),)
    assert [(await room.view(n)).mention_count for n in (3, 4)] == [0, 1]
    none = await room.do(2, edit(message, "four", mentions=[]))
    assert none.mentions == ()
    assert (await room.view(4)).mention_count == 0


async def test_an_edit_mentions_nobody_who_has_read_it(room: Room) -> None:
    message = await room.say(2)
    await room.do(3, ReadMessages(id_of(message)))
    await room.do(2, edit(message, mentions=[user_id(3)]))
    assert (await room.view(3)).mention_count == 0


async def test_only_bots_have_buttons_to_keep_or_take_away() -> None:
    room = await Room(bots=SomeBots(2)).open()
    buttons = ((Button("Yes", data="y"),),)
    message = await room.say(2, buttons=buttons)
    assert message.buttons == buttons
    kept = await room.do(2, edit(message, "again"))
    assert kept.buttons == buttons
    other = ((Button("No", url="https://b.example/"),),)
    assert (await room.do(2, edit(message, "x", buttons=other))).buttons == other
    large = ((Button("x", url="https://b.example/" + "x" * 2_000),) * 8,) * 2
    with pytest.raises(errors.InvalidContent):
        await room.do(2, edit(message, "x", buttons=large))
    assert (await room.do(2, edit(message, "x", buttons=()))).buttons is UNSET


async def test_of_a_message_deleted_for_everyone_nothing_is_left(room: Room) -> None:
    message = await room.say(2, "secret", mentions=[user_id(3)])
    await room.do(2, edit(message, "secret, too"))
    await room.do(1, PinMessage(id_of(message)))
    assert (await room.view(3)).unread_count == 1
    await room.fill(3)
    assert await room.do(2, DeleteMessage(message_id=id_of(message))) == Done()
    event = room.told[-1][1]
    assert isinstance(event, MessageDeleted)
    assert (event.message_id, event.user_id) == (message.id, str(user_id(2)))
    assert event.reason is UNSET
    left = await room.do(3, GetMessage(id_of(message)))
    assert (left.content, left.mentions, left.is_pinned) == ({}, (), False)
    assert left.deleted_at is not UNSET
    history = await room.do(2, GetMessageHistory(id_of(message)))
    assert history.versions == ()
    view = await room.view(3)
    assert (view.unread_count, view.mention_count) == (3, 0)
    assert view.pinned_message_ids == ()


async def test_deleting_twice_is_deleting_once(room: Room) -> None:
    message = await room.say(2)
    await room.do(2, DeleteMessage(message_id=id_of(message)))
    entries = room.entries
    assert await room.do(2, DeleteMessage(message_id=id_of(message))) == Done()
    assert room.entries == entries


async def test_who_moderates_deletes_what_others_said_and_says_why(
    room: Room,
) -> None:
    message = await room.say(2)
    entries = room.entries
    for user, error in ((3, errors.NotTheSender), (OUTSIDER, errors.MessageNotFound)):
        with pytest.raises(error):
            await room.do(user, DeleteMessage(message_id=id_of(message)))
    with pytest.raises(Invalid):
        await room.do(2, DeleteMessage(message_id=id_of(message), reason="mine"))
    assert room.entries == entries
    await room.do(1, DeleteMessage(message_id=id_of(message), reason="spam"))
    assert room.told[-1][1].reason == "spam"


async def test_the_sender_deletes_also_after_24_hours(room: Room) -> None:
    message = await room.say(2)
    room.core.clock.advance(10 * EDIT_MS_MAX)
    assert await room.do(2, DeleteMessage(message_id=id_of(message))) == Done()


async def test_deleting_in_a_thread_counts_one_less_there(room: Room) -> None:
    root = await room.say(2)
    first = await room.say(3, thread_id=id_of(root))
    await room.say(4, thread_id=id_of(root))
    await room.fill()
    assert (await room.do(1, GetMessage(id_of(root)))).thread.count == 2
    await room.do(3, DeleteMessage(message_id=id_of(first)))
    assert (await room.do(1, GetMessage(id_of(root)))).thread.count == 1


async def test_in_a_dialog_of_two_each_deletes_their_own() -> None:
    room = await Room(type="user").open()
    message = await room.say(2)
    with pytest.raises(errors.NotTheSender):
        await room.do(1, DeleteMessage(message_id=id_of(message)))
    assert await room.do(2, DeleteMessage(message_id=id_of(message))) == Done()


async def test_who_was_silenced_may_take_back_and_not_say_it_otherwise() -> None:
    room = await Room().open()
    one, two = await room.say(2), await room.say(2)
    restrict = RestrictRecord(
        room.number, 1, 1, user_id(1).bytes, 2, user_id(2).bytes, 1 << 45
    )
    room.core.applier.submit(restrict)
    with pytest.raises(errors.Silenced):
        await room.say(2)
    with pytest.raises(errors.Silenced):
        await room.do(2, edit(one))
    assert await room.do(2, DeleteMessage(message_id=id_of(two))) == Done()


@pytest.mark.parametrize("place", PLACES[:3])
async def test_who_was_mentioned_and_has_left_stays_named(place: str) -> None:
    room = await Room(place).open()
    message = await room.say(2, mentions=[user_id(3), user_id(4)])
    await room.do(1, RemoveMember(dialog_id=room.id, user_id=user_id(3)))
    same = await room.do(2, edit(message, "x", mentions=[user_id(3), user_id(4)]))
    assert same.mentions == (str(user_id(3)), str(user_id(4)))
    fewer = await room.do(2, edit(message, "y", mentions=[user_id(4)]))
    assert fewer.mentions == (str(user_id(4)),)
    with pytest.raises(errors.InvalidMention):
        await room.do(2, edit(message, "z", mentions=[user_id(3)]))
    with pytest.raises(errors.DialogNotFound):
        await room.view(3)


class Blocked:
    """Everybody blocks 2, as soon as it is known."""

    def __init__(self) -> None:
        self.loaded = False

    def is_blocked(self, by: int, user: int) -> bool | None:
        return user == 2 if self.loaded else None

    async def load(self, numbers: Any) -> None:
        self.loaded = True

    async def not_addable(self, adder: int, numbers: Any) -> list[int]:
        return []


async def test_who_is_blocked_reaches_nobody_by_editing() -> None:
    room = await Room().open()
    pair = (await room.do(1, with_user(2))).id
    message = await room.do(2, text(pair, "hi"))
    blocks = Blocked()
    room.core.service._targets._blocks = blocks
    with pytest.raises(errors.NotAllowed):
        await room.do(2, edit(message))
    assert blocks.loaded
    assert await room.do(2, DeleteMessage(message_id=id_of(message))) == Done()
