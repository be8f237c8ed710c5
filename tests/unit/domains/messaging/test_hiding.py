"""What a member deletes for themselves is gone for them, everywhere, and for nobody
else; and what has been delivered."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from tchatd.domains.messaging import errors, hiding
from tchatd.domains.messaging.events import (
    MessageDelivered,
    MessageRead,
    OwnState,
)
from tchatd.domains.messaging.message_commands import (
    ClearDialog,
    DeleteMessage,
    DeliverMessages,
    EditMessage,
    GetMessage,
    ListPins,
    ListThread,
    PinMessage,
    React,
)
from tchatd.domains.messaging.models import (
    Done,
    ListDialogs,
    ListEvents,
    ListMessages,
    ReadMessages,
)
from tests.support.messaging import shape, user_id
from tests.support.rooms import OUTSIDER, Room, id_of


def for_me(message: Any) -> DeleteMessage:
    return DeleteMessage(message_id=id_of(message), for_="me")


async def seen_by(room: Room, user: int, **edge: Any) -> list[str]:
    page = await room.do(user, ListMessages(dialog_id=room.id, limit=100, **edge))
    return [message.id for message in page.messages]


async def test_what_is_hidden_is_gone_for_one_and_there_for_others(room: Room) -> None:
    one = await room.say(2, "one", mentions=[user_id(3)])
    two = await room.say(2, "two")
    own = await room.do(3, for_me(one))
    assert isinstance(own, OwnState)
    assert (own.unread_count, own.mention_count) == (1, 0)
    assert own.hidden == ((one.seq, one.seq),)
    [told] = [event for m, event, _ in room.told if m == [3]][-1:]
    assert told == own
    assert await seen_by(room, 3) == [two.id]
    assert await seen_by(room, 4) == [two.id, one.id]
    for command in (
        GetMessage(id_of(one)),
        React(message_id=id_of(one), emoji="👍"),
        ListThread(message_id=id_of(one)),
    ):
        with pytest.raises(errors.MessageNotFound):
            await room.do(3, command)
    view = await room.view(3)
    assert (view.unread_count, view.mention_count) == (1, 0)
    assert (await room.view(4)).unread_count == 2


async def test_the_log_keeps_its_seqs_and_says_nothing_of_what_is_hidden(
    room: Room,
) -> None:
    one = await room.say(2, "one")
    await room.do(2, EditMessage(message_id=id_of(one), content={"text": "uno"}))
    await room.fill(2)
    await room.do(3, for_me(one))
    for user, text in ((3, None), (4, "uno")):
        page = await room.do(user, ListEvents(dialog_id=room.id, limit=1_000))
        assert [e.seq for e in page.events] == list(range(1, page.last_seq + 1))
        about = [e for e in page.events if getattr(e, "message", None)]
        shown = [shape(e.message) for e in about if e.message.id == one.id]
        assert [m["content"].get("text") for m in shown] == [text, text]
        assert all(m.get("is_hidden", False) == (user == 3) for m in shown)


async def test_hiding_twice_is_hiding_once(room: Room) -> None:
    message = await room.say(2)
    first = await room.do(3, for_me(message))
    entries = room.entries
    assert await room.do(3, for_me(message)) == first
    assert room.entries == entries
    with pytest.raises(errors.MessageNotFound):
        await room.do(OUTSIDER, for_me(message))


async def test_what_is_hidden_can_still_be_deleted_for_everyone(room: Room) -> None:
    message = await room.say(2)
    await room.do(2, for_me(message))
    assert await room.do(2, DeleteMessage(message_id=id_of(message))) == Done()
    assert (await room.view(3)).unread_count == 0


async def test_the_last_message_is_the_last_one_that_the_member_sees(
    room: Room,
) -> None:
    said = [await room.say(2, f"{n}") for n in range(8)]
    assert (await room.view(3)).last_message.id == said[-1].id
    for message in said[:2:-1]:
        await room.do(3, for_me(message))
    assert (await room.view(3)).last_message.id == said[2].id
    assert (await room.view(4)).last_message.id == said[-1].id
    listed = await room.do(3, ListDialogs())
    assert [d.last_message.id for d in listed.dialogs] == [said[2].id]
    for message in said[2::-1]:
        await room.do(3, for_me(message))
    assert (await room.view(3)).last_message is UNSET
    [only] = (await room.do(3, ListDialogs())).dialogs
    assert only.last_message is UNSET


@pytest.mark.parametrize("limit", [1, 3])
async def test_pages_go_on_behind_what_is_hidden(room: Room, limit: int) -> None:
    said = [await room.say(2, f"{n}") for n in range(16)]
    for message in said[3:12]:
        await room.do(3, for_me(message))
    left = [m.id for m in said[:3] + said[12:]]
    for side in ("before", "after"):
        found: list[str] = []
        edge = {"after": id_of(said[0])} if side == "after" else {}
        if side == "after":
            found = [said[0].id]
        for _ in range(20):
            page = await room.do(
                3, ListMessages(dialog_id=room.id, limit=limit, **edge)
            )
            ids = [message.id for message in page.messages]
            assert len(ids) == limit or not page.has_more
            found = found + ids[::-1] if side == "after" else ids[::-1] + found
            if not page.has_more:
                break
            last = page.messages[0 if side == "after" else -1]
            edge = {side: id_of(last)}
        assert found == left


async def test_very_many_hidden_ones_cost_few_queries() -> None:
    room = await Room("tail").open()
    first = await room.say(2, "first")
    for _ in range(260):
        await room.say(2)
    page = await room.do(2, ListMessages(dialog_id=room.id, limit=100))
    for _ in range(3):
        for message in page.messages:
            if message.id != first.id:
                await room.do(3, for_me(message))
        if not page.has_more:
            break
        edge = id_of(page.messages[-1])
        page = await room.do(2, ListMessages(dialog_id=room.id, limit=100, before=edge))
    asked = 0
    store: Any = room.core.store
    plain = store.messages_before

    async def counted(*around: Any) -> Any:
        nonlocal asked
        asked += 1
        return await plain(*around)

    store.messages_before = counted
    assert await seen_by(room, 3) == [first.id]
    assert asked <= 4
    assert (await room.view(3)).last_message.id == first.id


async def test_more_than_so_many_are_not_hidden_one_by_one(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hiding, "HIDDEN_MAX", 2)
    said = [await room.say(2) for _ in range(4)]
    for message in said[:2]:
        await room.do(3, for_me(message))
    entries = room.entries
    with pytest.raises(errors.TooManyHidden):
        await room.do(3, for_me(said[2]))
    assert room.entries == entries
    cleared = await room.do(3, ClearDialog(room.id))
    assert cleared.hidden == ()
    again = await room.say(2)
    assert (await room.do(3, for_me(again))).hidden == ((again.seq, again.seq),)


async def test_clearing_hides_and_reads_everything_so_far(room: Room) -> None:
    said = [await room.say(2, mentions=[user_id(3)]) for _ in range(5)]
    own = await room.do(3, ClearDialog(room.id), connection=9)
    assert (own.unread_count, own.mention_count) == (0, 0)
    assert own.cleared_seq >= said[-1].seq == own.read_seq
    reads = [event for _, event, _ in room.told if isinstance(event, MessageRead)]
    assert [(e.user_id, e.read_seq) for e in reads] == [(str(user_id(3)), own.read_seq)]
    assert await seen_by(room, 3) == []
    assert len(await seen_by(room, 4)) == 5
    view = await room.view(3)
    assert (view.last_message, view.unread_count) == (UNSET, 0)
    entries = room.entries
    assert (await room.do(3, ClearDialog(room.id))).cleared_seq == own.cleared_seq
    assert room.entries == entries
    new = await room.say(2)
    assert await seen_by(room, 3) == [new.id]
    assert (await room.view(3)).last_message.id == new.id
    with pytest.raises(errors.DialogNotFound):
        await room.do(OUTSIDER, ClearDialog(room.id))


async def test_clearing_what_was_read_tells_nobody_else(room: Room) -> None:
    message = await room.say(2)
    await room.do(3, ReadMessages(id_of(message)))
    entries = room.entries
    await room.do(3, ClearDialog(room.id))
    assert room.entries == entries + 1
    assert room.told[-1][0] == [3]
    [by] = (await room.do(2, GetMessage(id_of(message)))).read_by or [None]
    assert room.place == "large" or by.user_id == str(user_id(3))


async def test_an_empty_dialog_has_nothing_to_clear(room: Room) -> None:
    entries = room.entries
    assert (await room.do(3, ClearDialog(room.id))).cleared_seq == 0
    assert room.entries == entries


async def test_hidden_pins_and_thread_messages_are_left_out(room: Room) -> None:
    root = await room.say(2)
    one = await room.say(3, thread_id=id_of(root))
    two = await room.say(4, thread_id=id_of(root))
    for message in (one, two):
        await room.do(1, PinMessage(id_of(message)))
    await room.do(3, for_me(one))
    pins = await room.do(3, ListPins(room.id))
    assert [m.id for m in pins.messages] == [two.id]
    thread = await room.do(3, ListThread(message_id=id_of(root)))
    assert [m.id for m in thread.messages] == [two.id]


# Delivered


async def test_delivered_moves_forward_only(room: Room) -> None:
    one, two = await room.say(2), await room.say(2)
    entries = room.entries
    assert await room.do(3, DeliverMessages(id_of(two))) == Done()
    if room.place == "large":  # nobody is shown it there
        assert room.entries == entries
        return
    event = room.told[-1][1]
    assert isinstance(event, MessageDelivered)
    assert (event.user_id, event.delivered_seq) == (str(user_id(3)), two.seq)
    assert room.entries == entries + 1
    for message in (one, two):
        assert await room.do(3, DeliverMessages(id_of(message))) == Done()
    assert room.entries == entries + 1


async def test_what_was_read_was_delivered(room: Room) -> None:
    message = await room.say(2)
    await room.do(3, ReadMessages(id_of(message)))
    entries = room.entries
    await room.do(3, DeliverMessages(id_of(message)))
    await room.do(2, DeliverMessages(id_of(message)))
    assert room.entries == entries
    with pytest.raises(errors.MessageNotFound):
        await room.do(OUTSIDER, DeliverMessages(id_of(message)))
