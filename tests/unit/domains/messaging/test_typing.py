"""Who is typing: told, thinned, and ended by itself, without a task."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.access import DialogAccess
from tchatd.domains.messaging.models import StartTyping, StopTyping
from tchatd.domains.messaging.typing import Typing, TypingSettings
from tests.support.messaging import Core, group_of, loading, text, user_id, with_user


class FakeBlocks:
    """blocked: (by, user). unknown: who has to be loaded first."""

    def __init__(self) -> None:
        self.blocked: set[tuple[int, int]] = set()
        self.unknown: set[int] = set()

    def is_blocked(self, by: int, user: int) -> bool | None:
        return None if by in self.unknown else (by, user) in self.blocked

    async def load(self, numbers: Sequence[int]) -> None:
        self.unknown.difference_update(numbers)

    async def not_addable(self, adder: int, numbers: Sequence[int]) -> list[int]:
        return []


class World:
    """Typing over a core, with a clock of its own."""

    def __init__(self, core: Core | None = None, **settings: float) -> None:
        self.core = core or Core()
        self.blocks = FakeBlocks()
        self.now_s = 100.0
        self.typing = Typing(
            DialogAccess(self.core.state, self.core.applier),
            self.core.hub,
            self.blocks,
            self.core.clock,
            TypingSettings(**settings),  # type: ignore[arg-type]  # some are whole
            now=lambda: self.now_s,
        )

    async def start(self, user: int, dialog_id: str, connection: int = 0) -> None:
        context = self.core.context(user, connection or user)
        await self.core.settle(
            self.typing.start_typing(context, StartTyping(dialog_id))
        )

    async def stop(self, user: int, dialog_id: str) -> None:
        context = self.core.context(user, user)
        await self.core.settle(self.typing.stop_typing(context, StopTyping(dialog_id)))

    def told(self) -> list[tuple[str, int]]:
        """(op, user) since it was last asked."""
        told = [
            (type(event).__name__, number)
            for _, event, _ in self.core.hub.told
            if type(event).__name__.startswith("Typing")
            for number in range(1, 2_000)
            if event.user_id == str(user_id(number))
        ]
        self.core.hub.told.clear()
        return told

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.typing.tick()


START, STOP = "TypingStarted", "TypingStopped"


@pytest.fixture
async def world(core: Core) -> World:
    return World(core)


async def test_typing_that_is_not_repeated_ends_by_itself(world: World) -> None:
    dialog = await world.core.do(1, with_user(2))
    await world.start(1, dialog.id)
    assert world.told() == [(START, 1)]
    world.pass_s(5.9)
    assert world.told() == []
    world.pass_s(0.1)
    assert world.told() == [(STOP, 1)]
    world.pass_s(60)
    assert world.told() == []
    assert len(world.typing) == 0


async def test_a_repeated_start_is_passed_on_every_few_seconds(world: World) -> None:
    dialog = await world.core.do(1, with_user(2))
    for _ in range(9):  # for eight seconds
        await world.start(1, dialog.id)
        world.pass_s(1)
    assert world.told() == [(START, 1)] * 3
    world.pass_s(6)
    assert world.told() == [(STOP, 1)]


async def test_a_stop_is_told_once_and_only_after_a_start(world: World) -> None:
    dialog = await world.core.do(1, with_user(2))
    await world.stop(1, dialog.id)
    assert world.told() == []
    await world.start(1, dialog.id)
    await world.stop(1, dialog.id)
    await world.stop(1, dialog.id)
    world.pass_s(10)
    assert world.told() == [(START, 1), (STOP, 1)]


async def test_starting_and_stopping_in_turns_tells_no_more(world: World) -> None:
    dialog = await world.core.do(1, with_user(2))
    for _ in range(30):
        await world.start(1, dialog.id)
        await world.stop(1, dialog.id)
        world.pass_s(0.1)
    assert world.told() == [(START, 1), (STOP, 1)]
    world.pass_s(3)
    await world.start(1, dialog.id)
    assert world.told() == [(START, 1)]


async def test_a_message_ends_it_and_the_next_one_begins_anew(world: World) -> None:
    dialog = await world.core.do(1, with_user(2))
    number = world.core.state.find(dialog.id).number  # type: ignore[union-attr]
    await world.start(1, dialog.id)
    world.typing.sent(number, 1)
    world.typing.sent(number, 1)
    world.typing.sent(number, 2)
    assert world.told() == [(START, 1), (STOP, 1)]
    await world.start(1, dialog.id)
    assert world.told() == [(START, 1)]


async def test_a_message_that_was_sent_ends_typing(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    await core.do(1, StartTyping(dialog.id), connection=1)
    core.hub.told.clear()
    await core.do(1, text(dialog.id), connection=1)
    told = [type(event).__name__ for _, event, _ in core.hub.told]
    assert told == [STOP, "MessageNew"]


async def test_it_ends_with_the_connection(world: World) -> None:
    dialog = await world.core.do(1, with_user(2))
    other = await world.core.do(1, with_user(3))
    await world.start(1, dialog.id, connection=7)
    await world.start(1, other.id, connection=8)
    world.told()
    world.typing.gone(7)
    world.pass_s(1)
    assert world.told() == [(STOP, 1)]
    world.typing.gone(99)
    world.pass_s(1)
    assert world.told() == []


async def test_who_goes_on_typing_on_another_device_is_typing(world: World) -> None:
    dialog = await world.core.do(1, with_user(2))
    await world.start(1, dialog.id, connection=7)
    await world.start(1, dialog.id, connection=8)
    world.typing.gone(7)
    world.pass_s(1)
    assert world.told() == [(START, 1)]
    world.typing.gone(8)
    await world.start(1, dialog.id, connection=9)  # before the tick
    world.pass_s(1)
    assert world.told() == []


async def test_in_a_larger_dialog_only_so_many_are_shown_at_once() -> None:
    world = World(Core(users=101))
    async with loading(world.core):
        dialog = await world.core.do(1, group_of(range(2, 102)))
        for user in range(1, 9):
            await world.start(user, dialog.id)
        assert world.told() == [(START, user) for user in range(1, 6)]
        await world.stop(3, dialog.id)
        await world.start(8, dialog.id)
        await world.start(7, dialog.id)
        assert world.told() == [(STOP, 3), (START, 8)]
        world.pass_s(6)
        assert sorted(world.told()) == [(STOP, user) for user in (1, 2, 4, 5, 8)]
        await world.start(7, dialog.id)
        assert world.told() == [(START, 7)]


async def test_in_a_dialog_of_a_hundred_everybody_is_shown(core: Core) -> None:
    world = World(core)
    dialog = await world.core.do(1, group_of(range(2, 101)))
    for user in range(1, 101):
        await world.start(user, dialog.id)
    assert len(world.told()) == 100


@pytest.mark.parametrize(("members", "told"), [(1_000, 1), (1_001, 0)])
async def test_nobody_is_told_who_types_in_a_crowd(members: int, told: int) -> None:
    world = World(Core(users=members))
    async with loading(world.core):
        dialog = await world.core.do(1, group_of(range(2, members + 1)))
        await world.start(1, dialog.id)
    assert len(world.told()) == told
    assert len(world.typing) == told


async def test_memory_is_bounded(core: Core) -> None:
    world = World(core, typers_max=3)
    dialog = await world.core.do(1, group_of(range(2, 10)))
    for user in range(1, 6):
        await world.start(user, dialog.id)
    assert world.told() == [(START, user) for user in (1, 2, 3)]
    assert len(world.typing) == 3
    world.pass_s(6)
    await world.start(5, dialog.id)
    assert (START, 5) in world.told()


@pytest.mark.parametrize("pair", [(1, 2), (2, 1)])
async def test_between_two_of_whom_one_blocks_nothing_is_told(
    world: World, pair: tuple[int, int]
) -> None:
    dialog = await world.core.do(1, with_user(2))
    group = await world.core.do(1, group_of([2]))
    world.blocks.blocked = {pair}
    await world.start(1, dialog.id)
    await world.start(2, dialog.id)
    assert world.told() == []
    await world.start(1, group.id)
    assert world.told() == [(START, 1)]


async def test_who_blocks_whom_is_loaded_first(world: World) -> None:
    dialog = await world.core.do(1, with_user(2))
    world.blocks.unknown = {1, 2}
    await world.start(1, dialog.id)
    assert world.told() == [(START, 1)]
    world.blocks.unknown = {2}
    world.blocks.blocked = {(2, 1)}
    await world.stop(1, dialog.id)
    world.pass_s(6)
    assert world.told() == [(STOP, 1)]


async def test_an_outsider_cannot_say_that_they_type(world: World) -> None:
    dialog = await world.core.do(1, with_user(2))
    for ask in (world.start, world.stop):
        with pytest.raises(errors.DialogNotFound):
            await ask(3, dialog.id)
    assert world.told() == []
