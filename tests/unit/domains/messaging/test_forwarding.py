"""Forwards: what goes along, what is told of where it was, and once."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from msgspec import UNSET

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.content import Forward
from tchatd.domains.messaging.message_commands import (
    DeleteMessage,
    EditMessage,
    ForwardMessage,
    GetMessage,
)
from tchatd.domains.messaging.models import CreateDialog, Message, SendMessage
from tchatd.domains.messaging.records import ProfileRecord
from tchatd.domains.messaging.settings import DialogSettings, settings_bytes
from tchatd.kernel.clock import rfc3339
from tests.support.messaging import client_id, group_of, shape, text, user_id
from tests.support.rooms import OUTSIDER, PLACES, Room, id_of

NOW_MS = 1_800_000_000_000


def to(dialog_id: str, message: Any, **fields: Any) -> ForwardMessage:
    return ForwardMessage(message_id=id_of(message), dialog_id=dialog_id, **fields)


async def test_a_forward_says_the_same_and_who_said_it_first(room: Room) -> None:
    other = (await room.do(2, group_of([3], "Other"))).id
    message = await room.say(4, "look", mentions=[user_id(5)])
    sent_at = message.created_at
    await room.fill()
    room.core.clock.advance(5_000)
    copy = await room.do(2, to(other, message))
    assert (copy.dialog_id, copy.sender_id, copy.mentions) == (
        other,
        str(user_id(2)),
        (),
    )
    assert shape(copy)["content"] == {"text": "look"}
    assert copy.forward == Forward(str(user_id(4)), sent_at)
    third = (await room.do(3, group_of([7], "Third"))).id
    again = await room.do(3, to(third, copy))
    assert again.forward == copy.forward
    assert shape(await room.do(7, GetMessage(id_of(again)))) == shape(again)


@pytest.mark.parametrize("place", PLACES[:3])
@pytest.mark.parametrize("is_public", [True, False])
async def test_only_a_public_channel_is_named(place: str, is_public: bool) -> None:
    room = await Room(place, type="channel").open()
    if is_public:
        settings = settings_bytes(DialogSettings(public_name="daily_news"))
        by = (1, user_id(1).bytes)
        record = ProfileRecord(room.number, NOW_MS, *by, "News", None, settings)
        room.core.applier.submit(record)
        room.core.journal.sync()
    message = await room.say(1, "news")
    other = (await room.do(2, group_of([3], "Other"))).id
    copy = await room.do(2, to(other, message))
    place_of = (room.id, message.id) if is_public else (UNSET, UNSET)
    assert (copy.forward.dialog_id, copy.forward.message_id) == place_of


async def test_a_forward_is_sent_once_whatever_became_of_its_message(
    room: Room,
) -> None:
    other = (await room.do(2, group_of([3], "Other"))).id
    message = await room.say(4)
    id = client_id(NOW_MS)
    first = await room.do(2, to(other, message, client_id=id))
    for rest in range(1, 6):
        await room.do(2, text(other, client_id=client_id(NOW_MS + rest)))
    await room.do(4, DeleteMessage(message_id=id_of(message)))
    entries = room.entries
    again = await room.do(2, to(other, message, client_id=id))
    assert (again.id, again.seq) == (first.id, first.seq)
    with pytest.raises(errors.MessageGone):
        await room.do(2, to(other, message))
    assert room.entries == entries


async def test_who_may_not_forward_is_told_why(room: Room) -> None:
    other = (await room.do(2, group_of([3], "Other"))).id
    theirs = (await room.do(1, group_of([4], "Theirs"))).id
    channel = (
        await room.do(
            1,
            CreateDialog(type="channel", name="News", participants=[user_id(2)]),
        )
    ).id
    message = await room.say(2)
    poll = await room.do(
        2,
        SendMessage(
            dialog_id=room.id,
            type="poll",
            content={"question": "?", "options": ["a", "b"]},
        ),
    )
    hidden = await room.say(4)
    await room.do(2, DeleteMessage(message_id=id_of(hidden), for_="me"))
    entries = room.entries
    refusals: list[tuple[int, ForwardMessage, type[Exception]]] = [
        (2, to(theirs, message), errors.DialogNotFound),
        (2, to(channel, message), errors.NotAllowed),
        (2, to(other, poll), errors.NotForwardable),
        (2, to(other, hidden), errors.MessageNotFound),
        (
            2,
            ForwardMessage(message_id=uuid4(), dialog_id=other),
            errors.MessageNotFound,
        ),
        (OUTSIDER, to(room.id, message), errors.DialogNotFound),
    ]
    for user, command, error in refusals:
        with pytest.raises(error):
            await room.do(user, command)
    mine = (await room.do(OUTSIDER, group_of([3], "Mine"))).id
    with pytest.raises(errors.MessageNotFound):
        await room.do(OUTSIDER, to(mine, message))
    assert room.entries == entries + 1


async def test_an_edited_message_goes_on_as_it_is_now(room: Room) -> None:
    message = await room.say(2, "one")
    edit = EditMessage(message_id=id_of(message), content={"text": "two"})
    await room.do(2, edit)
    copy: Message = await room.do(3, to(room.id, message))
    assert shape(copy)["content"] == {"text": "two"}
    assert (copy.is_edited, copy.forward) == (
        False,
        Forward(str(user_id(2)), message.created_at),
    )
    assert message.created_at == rfc3339(room.core.clock.now_ms())
