"""What payments see of people and of dialogs."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import pytest
import trio

from tchatd.app.wallets import PaidDialogs, PaidPeople
from tchatd.domains.auth.models import ChangeProfile
from tchatd.domains.messaging import errors as messaging_errors
from tchatd.domains.messaging.member_models import RemoveMember
from tchatd.domains.messaging.models import CreateDialog, ListMessages
from tchatd.domains.messaging.reach import Blocks
from tchatd.domains.moderation.models import Sanction
from tchatd.domains.moderation.standing import Standing
from tchatd.domains.payment.errors import DialogNotFound, PaymentNotAllowed
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.errors import DomainError, Invalid
from tchatd.kernel.routing import Caller
from tests.support.auth import PHONE, World
from tests.support.messaging import (
    Core,
    client_id,
    group_of,
    loading,
    user_id,
    with_user,
)

CONTENT = {
    "amount": 250,
    "currency": "THB",
    "transaction_id": "019a0000-0000-7000-8000-000000000001",
}
NOW_MS = 1_800_000_000_000


class FakeBlocks:
    """pairs: (by, user). known: of whom it is in memory."""

    def __init__(self, *pairs: tuple[int, int], known: Sequence[int] = ()) -> None:
        self.pairs = set(pairs)
        self.known = set(known)

    def is_blocked(self, by: int, user: int) -> bool | None:
        return (by, user) in self.pairs if by in self.known else None

    async def load(self, numbers: Sequence[int]) -> None:
        self.known.update(numbers)

    async def not_addable(self, adder: int, numbers: Sequence[int]) -> list[int]:
        return []


def banned(number: int) -> Sanction:
    return Sanction(number=number, kind="ban", until_ms=0, since_ms=1, reason="x")


# People.


async def test_a_person_is_as_sign_in_says() -> None:
    world = World()
    caller = world.caller((await world.sign_in(PHONE)).access_token)
    await world.service.change_profile(caller, ChangeProfile(name="Somchai"))
    standing = Standing(ManualClock())
    people = PaidPeople(world.service, standing, FakeBlocks())
    number = caller.user_number

    loaded = await people.load((number, 999))

    person = people.peek(number)
    assert loaded == {number: person}
    assert person is not None
    assert (person.id, person.name, person.tier) == (caller.user_id, "Somchai", 1)
    assert (person.country, person.is_payable) == ("TH", True)
    assert await people.find(caller.user_id) == number
    assert people.number_of(caller.user_id) == number
    assert await people.find(uuid4()) is None
    standing.add(banned(number))
    person = people.peek(number)
    assert person is not None
    assert not person.is_payable


async def test_reach_is_known_once_it_is_loaded() -> None:
    blocks = FakeBlocks((2, 1))
    people = PaidPeople(World().service, Standing(ManualClock()), blocks)
    assert not people.check_reach(1, 2)

    await people.load_reach(1, 2)

    with pytest.raises(PaymentNotAllowed):
        people.check_reach(1, 2)
    assert people.check_reach(3, 2)


# Dialogs.


class Room:
    def __init__(self, blocks: Blocks | None = None) -> None:
        self.core = Core(blocks=blocks)
        self.standing = Standing(self.core.clock)
        self.dialogs = self.seen_by(self.core)

    def seen_by(self, core: Core) -> PaidDialogs:
        blocks = core.service._blocks
        return PaidDialogs(
            core.service, core.state, core.applier, blocks, self.standing, core.clock
        )

    def check(self, payer: int, id: str, payee: int) -> bool:
        caller = Caller(user_id(payer), payer, user_id(payer))
        return self.dialogs.check(caller, id, payee)

    async def post(self, id: str, payer: int = 1) -> str:
        return await self.dialogs.post(
            payer, user_id(payer), id, client_id(NOW_MS), CONTENT
        )


async def test_both_have_to_be_in_it() -> None:
    room = Room()
    dialog = await room.core.do(1, group_of([2, 3]))

    assert room.check(1, dialog.id, 2)
    for payer, payee in ((1, 4), (4, 1)):
        with pytest.raises(DialogNotFound):
            room.check(payer, dialog.id, payee)


async def test_a_dialog_that_is_not_in_memory_is_loaded() -> None:
    room = Room()
    dialog = await room.core.do(1, group_of([2]))
    await room.core.flusher.flush()
    room.core = await room.core.restart()
    room.dialogs = room.seen_by(room.core)
    caller = Caller(user_id(1), 1, user_id(1))
    async with loading(room.core):
        await room.dialogs.load(caller, dialog.id, 2)
        assert room.check(1, dialog.id, 2)
        with pytest.raises(DialogNotFound):
            await room.dialogs.load(caller, str(uuid4()), 2)
        with pytest.raises(Invalid):
            await room.dialogs.load(caller, "x" * 36, 2)


async def test_the_payer_has_to_be_let_write() -> None:
    room = Room()
    channel = await room.core.do(
        1, CreateDialog(type="channel", name="News", participants=[user_id(2)])
    )
    with pytest.raises(PaymentNotAllowed):
        room.check(2, channel.id, 1)
    assert room.check(1, channel.id, 2)
    room.standing.add(banned(1))
    with pytest.raises(PaymentNotAllowed):
        room.check(1, channel.id, 2)


async def test_who_is_blocked_in_a_dialog_of_two_shows_no_payment_there() -> None:
    blocks = FakeBlocks((2, 1))
    room = Room(blocks)
    async with loading(room.core):
        dialog = await room.core.do(1, with_user(2))
    assert not room.check(1, dialog.id, 2)

    await room.dialogs.load(Caller(user_id(1), 1, user_id(1)), dialog.id, 2)

    with pytest.raises(PaymentNotAllowed):
        room.check(1, dialog.id, 2)


async def posted(room: Room, id: str) -> list[str]:
    page = await room.core.do(2, ListMessages(dialog_id=id))
    return [message.type for message in page.messages if message.type != "system"]


async def test_a_payment_is_posted_once() -> None:
    room = Room()
    dialog = await room.core.do(1, group_of([2]))
    ids: set[str] = set()
    async with loading(room.core):
        for _ in range(3):
            ids.add(await synced(room, dialog.id))
    assert len(ids) == 1
    assert await posted(room, dialog.id) == ["payment"]


async def test_who_has_left_shows_nothing_more() -> None:
    room = Room()
    dialog = await room.core.do(1, group_of([2, 3]))
    await room.core.do(3, RemoveMember(dialog_id=dialog.id, user_id=user_id(3)))

    async with loading(room.core):
        with pytest.raises(messaging_errors.DialogNotFound):
            await synced(room, dialog.id, 3)
    assert await posted(room, dialog.id) == []


async def synced(room: Room, id: str, payer: int = 1) -> str:
    """Post while the disk keeps up."""

    async def sync() -> None:
        while True:
            room.core.journal.sync()
            await trio.lowlevel.checkpoint()

    message_id = ""
    refusal: DomainError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync)
        try:
            message_id = await room.post(id, payer)
        except DomainError as error:
            refusal = error
        nursery.cancel_scope.cancel()
    if refusal is not None:
        raise refusal
    return message_id
