"""A message is found for who may see it, wherever it is, and decided about at once."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.message_access import Missing, Target, address_of
from tchatd.domains.messaging.message_commands import DeleteMessage
from tchatd.domains.messaging.store import MESSAGE_NEW
from tchatd.kernel.errors import Unavailable
from tests.support.messaging import loading, text, user_id, with_user
from tests.support.rooms import OUTSIDER, Room, id_of


def access(room: Room) -> Any:
    return room.core.service._targets


async def test_who_looks_leaves_nothing_behind_in_memory() -> None:
    room = await Room("store").open()
    message = await room.say(2)
    await room.fill()
    await room.restart()
    async with loading(room.core):
        target = await access(room).look(3, id_of(message))
        assert target.state.id == message.id
        assert target.message == (await access(room).look(4, id_of(message))).message
        assert target.dialog.messages == {}
        opened = await access(room).open(3, id_of(message))
        assert opened.state.seq in opened.dialog.messages


async def test_an_outsider_finds_nothing_however_it_is_asked(room: Room) -> None:
    message = await room.say(2)
    await room.forget()
    async with loading(room.core):
        for ask in (access(room).open, access(room).look):
            for user, id in ((OUTSIDER, id_of(message)), (2, uuid4())):
                with pytest.raises(errors.MessageNotFound):
                    await ask(user, id)


async def test_what_one_has_deleted_for_oneself_is_found_only_if_asked_for(
    room: Room,
) -> None:
    message = await room.say(2)
    await room.do(3, DeleteMessage(message_id=id_of(message), for_="me"))
    await room.forget()
    async with loading(room.core):
        for ask in (access(room).open, access(room).look):
            with pytest.raises(errors.MessageNotFound):
                await ask(3, id_of(message))
            found = await ask(3, id_of(message), sees_hidden=True)
            assert found.state.id == message.id


async def test_what_is_missing_is_loaded_before_it_is_decided_again(
    room: Room,
) -> None:
    first, message = await room.say(2), await room.say(2)
    await room.fill()
    await room.forget()
    asked: list[Target] = []

    def decide(target: Target) -> Any:
        asked.append(target)
        if target.dialog.message_state(first.seq) is None:
            return Missing(seqs=(first.seq,))
        if target.dialog.member(5) is None:
            return Missing(members=(5,))
        return "decided"

    async with loading(room.core):
        answer = access(room).decide(3, id_of(message), decide)
        assert await room.core.settle(answer) == "decided"
    assert {target.state.id for target in asked} == {message.id}


async def test_what_never_gets_there_is_given_up(room: Room) -> None:
    message = await room.say(2)
    await room.forget()
    async with loading(room.core):
        with pytest.raises(Unavailable):
            await access(room).decide_later(
                3, id_of(message), lambda _: Missing(members=(4,))
            )


async def test_many_forged_ids_cost_two_queries_each() -> None:
    room = await Room("store").open()
    message = await room.say(2)
    await room.fill()
    await room.restart()
    loads = room.core.applier.loader
    async with loading(room.core):
        await access(room).open(2, id_of(message))
        before = loads.batches
        forged = UUID(int=id_of(message).int - message.seq + 1)
        with pytest.raises(errors.MessageNotFound):
            await access(room).open(2, forged)
        assert loads.batches - before == 1


class Blocks:
    """2 is blocked by everybody; known once it was loaded."""

    def __init__(self) -> None:
        self.loads = 0

    def is_blocked(self, by: int, user: int) -> bool | None:
        return user == 2 if self.loads else None

    async def load(self, numbers: Any) -> None:
        self.loads += 1

    async def not_addable(self, adder: int, numbers: Any) -> list[int]:
        return []


async def test_who_is_blocked_is_refused_what_would_reach_the_other() -> None:
    room = await Room().open()
    pair = await room.do(1, with_user(2))
    message = await room.do(1, text(pair.id))
    access(room)._blocks = blocks = Blocks()

    async def ask(user: int, *, reaches: bool) -> Any:
        answer = access(room).decide(
            user, id_of(message), lambda _: "decided", reaches=reaches
        )
        return await room.core.settle(answer)

    assert await ask(2, reaches=False) == "decided"
    assert blocks.loads == 0
    with pytest.raises(errors.NotAllowed):
        await ask(2, reaches=True)
    assert blocks.loads == 1
    assert await ask(1, reaches=True) == "decided"


def test_an_id_that_no_message_has_is_told_by_itself() -> None:
    for id in (uuid4(), user_id(0)):
        with pytest.raises(errors.MessageNotFound):
            address_of(id)
    assert MESSAGE_NEW == 2
