"""Reactions, pins and polls: who may, how many, and once whatever is repeated."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import trio
from msgspec import UNSET

from tchatd.domains.messaging import errors, reacting
from tchatd.domains.messaging.events import (
    MessagePinned,
    MessageUnpinned,
    PollVoted,
    ReactionAdded,
    ReactionRemoved,
)
from tchatd.domains.messaging.message_commands import (
    ClosePoll,
    DeleteMessage,
    GetMessage,
    ListPins,
    PinMessage,
    React,
    UnpinMessage,
    Unreact,
    Vote,
)
from tchatd.domains.messaging.models import SendMessage
from tchatd.domains.messaging.settings import DialogSettings
from tchatd.kernel.errors import Invalid
from tests.support.messaging import loading, shape, user_id
from tests.support.rooms import OUTSIDER, Room, id_of

KINDS = [chr(0x1F600 + n) for n in range(21)]


def react(message: Any, emoji: str = "👍") -> React:
    return React(message_id=id_of(message), emoji=emoji)


def unreact(message: Any, emoji: str = "👍") -> Unreact:
    return Unreact(message_id=id_of(message), emoji=emoji)


async def ask(room: Room, user: int = 2, **content: Any) -> Any:
    poll = {"question": "Where?", "options": ["here", "there", "nowhere"], **content}
    return await room.do(
        user, SendMessage(dialog_id=room.id, type="poll", content=poll)
    )


def vote(message: Any, *options: int) -> Vote:
    return Vote(message_id=id_of(message), options=list(options))


# Reactions


async def test_reactions_are_counted_named_and_told(room: Room) -> None:
    message = await room.say(2)
    await room.fill()
    answer = await room.do(3, react(message))
    assert [(r.emoji, r.user_id) for r in answer.reactions] == [("👍", str(user_id(3)))]
    event = room.told[-1][1]
    assert isinstance(event, ReactionAdded)
    assert (event.emoji, event.count, event.user_id) == ("👍", 1, str(user_id(3)))
    await room.do(4, react(message))
    both = await room.do(4, react(message, ":party:"))
    assert shape(both.reaction_counts) == [
        {"emoji": "👍", "count": 2},
        {"emoji": ":party:", "count": 1},
    ]
    left = await room.do(3, unreact(message))
    assert isinstance(room.told[-1][1], ReactionRemoved)
    assert [r.user_id for r in left.reactions] == [str(user_id(4))] * 2
    assert shape(await room.do(1, GetMessage(id_of(message)))) == shape(left)


async def test_what_is_there_already_journals_nothing(room: Room) -> None:
    message = await room.say(2)
    first = await room.do(3, react(message))
    entries = room.entries
    assert shape(await room.do(3, react(message))) == shape(first)
    await room.do(4, unreact(message))
    await room.do(3, unreact(message, "😀"))
    assert room.entries == entries


async def test_a_message_has_20_kinds_of_reaction(room: Room) -> None:
    message = await room.say(2)
    for emoji in KINDS[:20]:
        await room.do(3, react(message, emoji))
    with pytest.raises(errors.TooManyReactions):
        await room.do(4, react(message, KINDS[20]))
    await room.do(4, react(message, KINDS[0]))
    await room.do(3, unreact(message, KINDS[1]))
    assert len((await room.do(4, react(message, KINDS[20]))).reaction_counts) == 20


async def test_many_at_once_are_counted_once_each_and_keep_the_limits() -> None:
    """All wait for the same cold message, then decide one after the other."""
    room = await Room("large").open()
    message = await room.say(2)
    await room.fill()
    await room.forget()
    refused = 0

    async def ask(user: int, emoji: str) -> None:
        nonlocal refused
        try:
            await room.core.do(user, react(message, emoji))
        except errors.TooManyReactions:
            refused += 1

    async with loading(room.core), trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(ask, 3, chr(0x1F600 + number))
            nursery.start_soon(ask, 10 + number, chr(0x1F600 + number % 3))
    found = await room.do(1, GetMessage(id_of(message)))
    assert len(found.reaction_counts) == 20
    total = sum(kind.count for kind in found.reaction_counts)
    assert total == 60 - refused
    assert len(found.reactions) == total


async def test_who_may_not_react_is_told_why(room: Room) -> None:
    message, gone = await room.say(2), await room.say(2)
    await room.do(2, DeleteMessage(message_id=id_of(gone)))
    entries = room.entries
    for user, command, error in (
        (3, react(message, "no"), Invalid),
        (3, react(gone), errors.MessageGone),
        (OUTSIDER, react(message), errors.MessageNotFound),
        (OUTSIDER, unreact(message), errors.MessageNotFound),
        (3, React(message_id=uuid4(), emoji="👍"), errors.MessageNotFound),
    ):
        with pytest.raises(error):
            await room.do(user, command)
    assert room.entries == entries


async def test_a_guest_of_a_channel_reacts_to_nothing() -> None:
    room = await Room(type="channel").open()
    message = await room.say(1)
    assert (await room.do(3, react(message))).reactions
    dialog = room.core.state.find(room.id)
    assert dialog is not None
    dialog.by_number[3].role = 3
    with pytest.raises(errors.NotAllowed):
        await room.do(3, react(message, "😀"))
    assert (await room.do(3, unreact(message))).reactions == ()  # one's own


# Pins


async def test_pins_are_listed_the_latest_first(room: Room) -> None:
    said = [await room.say(2) for _ in range(5)]
    for message in (said[0], said[3], said[1]):
        pinned = await room.do(1, PinMessage(id_of(message)))
        assert pinned.is_pinned
        assert isinstance(room.told[-1][1], MessagePinned)
    await room.fill()
    pins = await room.do(3, ListPins(room.id))
    ids = [m.id for m in pins.messages]
    assert ids == [said[1].id, said[3].id, said[0].id]
    assert all(m.is_pinned for m in pins.messages)
    assert not (await room.do(1, UnpinMessage(id_of(said[3])))).is_pinned
    assert isinstance(room.told[-1][1], MessageUnpinned)
    pins = await room.do(3, ListPins(room.id))
    assert [m.id for m in pins.messages] == [said[1].id, said[0].id]
    with pytest.raises(errors.DialogNotFound):
        await room.do(OUTSIDER, ListPins(room.id))


async def test_pinning_twice_is_pinning_once(room: Room) -> None:
    message = await room.say(2)
    await room.do(1, UnpinMessage(id_of(message)))
    entries = room.entries
    for _ in range(2):
        assert (await room.do(1, PinMessage(id_of(message)))).is_pinned
    assert room.entries == entries + 1


async def test_pins_have_an_end_and_rules(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reacting, "PINS_MAX", 2)
    said = [await room.say(2) for _ in range(3)]
    gone = await room.say(2)
    await room.do(2, DeleteMessage(message_id=id_of(gone)))
    with pytest.raises(errors.MessageGone):
        await room.do(1, PinMessage(id_of(gone)))
    for message in said[:2]:
        await room.do(1, PinMessage(id_of(message)))
    with pytest.raises(errors.TooManyPins):
        await room.do(1, PinMessage(id_of(said[2])))
    with pytest.raises(errors.MessageNotFound):
        await room.do(OUTSIDER, PinMessage(id_of(said[2])))


async def test_who_may_pin_is_a_setting() -> None:
    settings = DialogSettings(who_may_pin="admin")
    room = await Room().open(settings=settings)
    message = await room.say(2)
    for command in (PinMessage, UnpinMessage):
        with pytest.raises(errors.NotAllowed):
            await room.do(3, command(id_of(message)))
    assert (await room.do(1, PinMessage(id_of(message)))).is_pinned


# Polls


async def test_a_vote_is_all_that_one_chooses(room: Room) -> None:
    poll = await ask(room, is_multiple=True)
    assert shape(poll)["poll"] == {"counts": [0, 0, 0], "voters": 0, "is_closed": False}
    await room.fill()
    await room.do(3, vote(poll, 0, 2))
    event = room.told[-1][1]
    assert isinstance(event, PollVoted)
    assert (event.user_id, event.options) == (str(user_id(3)), (0, 2))
    answer = await room.do(4, vote(poll, 2, 2))
    assert (answer.poll.counts, answer.poll.voters) == ((1, 0, 2), 2)
    assert (await room.do(3, GetMessage(id_of(poll)))).poll.chosen == (0, 2)
    assert (await room.do(5, GetMessage(id_of(poll)))).poll.chosen == ()
    answer = await room.do(3, vote(poll))
    assert (answer.poll.counts, answer.poll.voters) == ((0, 0, 1), 1)


async def test_the_same_vote_again_journals_nothing(room: Room) -> None:
    poll = await ask(room)
    await room.do(3, vote(poll))
    await room.do(3, vote(poll, 1))
    entries = room.entries
    await room.do(3, vote(poll, 1))
    await room.do(4, vote(poll))
    assert room.entries == entries


async def test_who_may_not_vote_is_told_why(room: Room) -> None:
    poll, message, gone = await ask(room), await room.say(2), await ask(room)
    await room.do(2, DeleteMessage(message_id=id_of(gone)))
    entries = room.entries
    for user, command, error in (
        (3, vote(poll, 0, 1), Invalid),
        (3, vote(poll, 3), Invalid),
        (3, vote(message, 0), errors.NotAPoll),
        (3, vote(gone, 0), errors.MessageGone),
        (OUTSIDER, vote(poll, 0), errors.MessageNotFound),
        (3, ClosePoll(id_of(poll)), errors.NotTheSender),
        (2, ClosePoll(id_of(message)), errors.NotAPoll),
        (2, ClosePoll(id_of(gone)), errors.MessageGone),
        (OUTSIDER, ClosePoll(id_of(poll)), errors.MessageNotFound),
    ):
        with pytest.raises(error):
            await room.do(user, command)
    assert room.entries == entries


@pytest.mark.parametrize("closer", [1, 2])
async def test_its_sender_or_a_moderator_ends_a_poll(room: Room, closer: int) -> None:
    poll = await ask(room)
    await room.do(3, vote(poll, 1))
    assert (await room.do(closer, ClosePoll(id_of(poll)))).poll.is_closed
    with pytest.raises(errors.PollClosed):
        await room.do(4, vote(poll, 0))
    entries = room.entries
    again = await room.do(closer, ClosePoll(id_of(poll)))
    assert (again.poll.counts, again.poll.is_closed) == ((0, 1, 0), True)
    assert room.entries == entries


async def test_an_anonymous_poll_names_nobody_but_tells_each_their_own(
    room: Room,
) -> None:
    poll = await ask(room, is_anonymous=True)
    await room.do(3, vote(poll, 1))
    event = room.told[-1][1]
    assert (event.user_id, event.options) == (UNSET, UNSET)
    assert (await room.do(3, GetMessage(id_of(poll)))).poll.chosen == (1,)


@pytest.mark.parametrize("options", [["a"], ["a", "a"], ["a"] * 13, ["", "b"]])
async def test_a_poll_has_2_to_12_different_options(options: list[str]) -> None:
    room = await Room().open()
    with pytest.raises(errors.InvalidContent):
        await ask(room, options=options)
