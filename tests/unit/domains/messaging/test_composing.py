"""What a message carries beside its content: threads, mentions, buttons."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.composing import NOTHING, says_more
from tchatd.domains.messaging.content import (
    BUTTON_ROWS_MAX,
    BUTTONS_A_ROW_MAX,
    Button,
)
from tchatd.domains.messaging.message_commands import DeleteMessage, GetMessage
from tchatd.domains.messaging.models import SendMessage
from tchatd.domains.messaging.settings import DialogSettings
from tests.support.messaging import client_id, group_of, text, user_id
from tests.support.rooms import PLACES, Room, SomeBots, id_of

NOW_MS = 1_800_000_000_000
BUTTONS = ((Button("Yes", data="y"), Button("Web", url="https://b.example/")),)


def too_large() -> Any:
    """As many and as long as their shape allows."""
    long = "https://b.example/" + "x" * 2_000
    return ((Button("x" * 64, url=long),) * BUTTONS_A_ROW_MAX,) * BUTTON_ROWS_MAX


def test_most_messages_carry_nothing() -> None:
    plain = SendMessage(dialog_id="d", type="text", content={})
    assert not says_more(plain)
    for more in (
        {"mentions": [uuid4()]},
        {"reply_to_id": uuid4()},
        {"thread_id": uuid4()},
        {"buttons": BUTTONS},
    ):
        assert says_more(structs.replace(plain, **more))
    assert NOTHING.thread_seq == 0


async def test_a_thread_is_counted_under_its_message(room: Room) -> None:
    root = await room.say(2)
    await room.fill()
    first = await room.say(3, thread_id=id_of(root))
    assert first.thread_id == root.id
    room.core.clock.advance(1_000)
    last = await room.say(4, thread_id=id_of(root))
    thread = (await room.do(1, GetMessage(id_of(root)))).thread
    assert (thread.count, thread.last_message_id) == (2, last.id)
    assert thread.participants == (str(user_id(3)), str(user_id(4)))
    assert thread.last_at == last.created_at


async def test_who_cannot_write_in_a_thread_is_told_why(room: Room) -> None:
    root, gone, hidden = await room.say(2), await room.say(2), await room.say(2)
    inner = await room.say(3, thread_id=id_of(root))
    await room.do(2, DeleteMessage(message_id=id_of(gone)))
    await room.do(3, DeleteMessage(message_id=id_of(hidden), for_="me"))
    other = (await room.do(3, group_of([2], "Other"))).id
    there = await room.do(3, text(other))
    no_message = UUID(int=id_of(root).int - root.seq + 1)
    beyond = UUID(int=id_of(root).int + 900)
    entries = room.entries
    refusals: list[tuple[UUID, type[Exception]]] = [
        (id_of(inner), errors.NoThreadHere),
        (id_of(gone), errors.MessageGone),
        (id_of(hidden), errors.MessageNotFound),
        (id_of(there), errors.ForeignReply),
        (uuid4(), errors.MessageNotFound),
        (no_message, errors.MessageNotFound),
        (beyond, errors.MessageNotFound),
    ]
    for thread_id, error in refusals:
        with pytest.raises(error):
            await room.say(3, thread_id=thread_id)
    assert room.entries == entries


@pytest.mark.parametrize("place", PLACES)
async def test_nobody_writes_under_a_message_whose_time_is_over(place: str) -> None:
    room = await Room(place).open(settings=DialogSettings(vanish_after_s=3_600))
    root = await room.say(2)
    room.core.clock.advance(3_600_000)
    with pytest.raises(errors.MessageGone):
        await room.say(3, thread_id=id_of(root))


async def test_a_repeat_in_a_thread_gets_the_first_answer_whatever_became_of_it(
    room: Room,
) -> None:
    root = await room.say(2)
    id = client_id(NOW_MS)
    first = await room.say(3, thread_id=id_of(root), client_id=id)
    for rest in range(1, 6):
        await room.say(3, client_id=client_id(NOW_MS + rest))
    await room.do(2, DeleteMessage(message_id=id_of(root)))
    entries = room.entries
    again = await room.say(3, thread_id=id_of(root), client_id=id)
    assert (again.id, again.thread_id) == (first.id, root.id)
    assert room.entries == entries


async def test_in_a_large_dialog_who_is_mentioned_is_loaded(room: Room) -> None:
    everybody: list[Any] = [user_id(number) for number in (3, 4, 5)]
    await room.say(2, mentions=everybody, client_id=client_id(NOW_MS))
    await room.say(2, mentions=everybody[:1])
    assert [(await room.view(n)).mention_count for n in (3, 4, 5, 1)] == [2, 1, 1, 0]


async def test_only_bots_send_buttons() -> None:
    room = await Room(bots=SomeBots(3)).open()
    with pytest.raises(errors.OnlyBots):
        await room.say(2, buttons=BUTTONS)
    message = await room.say(3, buttons=BUTTONS)
    assert message.buttons == BUTTONS
    assert (await room.do(2, GetMessage(id_of(message)))).buttons == BUTTONS
    await room.say(2, buttons=())  # none is none
    with pytest.raises(errors.InvalidContent):
        await room.say(3, buttons=too_large())
    nobody = await Room().open()
    with pytest.raises(errors.OnlyBots):
        await nobody.say(3, buttons=BUTTONS)
