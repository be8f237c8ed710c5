"""Who is blocked writes to nobody who blocks them, and adds nobody who minds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from tchatd.domains.messaging.errors import NotAllowed
from tchatd.domains.messaging.reach import NoBlocks, may_reach, other_of
from tests.support.messaging import (
    Core,
    client_id,
    group_of,
    loading,
    text,
    user_id,
    with_user,
)


class FakeBlocks(NoBlocks):
    """blocked: (by, user). known: of whom it is in memory. loads: how many."""

    def __init__(self) -> None:
        self.blocked: set[tuple[int, int]] = set()
        self.refusing: list[int] = []
        self.known: set[int] = set()
        self.loads = 0

    def is_blocked(self, by: int, user: int) -> bool | None:  # type: ignore[override]
        return (by, user) in self.blocked if by in self.known else None

    async def load(self, numbers: Sequence[int]) -> None:
        self.loads += 1
        self.known.update(numbers)

    async def not_addable(self, adder: int, numbers: Sequence[int]) -> list[int]:
        return [number for number in numbers if number in self.refusing]


@pytest.fixture
def blocks() -> FakeBlocks:
    return FakeBlocks()


@pytest.fixture
async def core(blocks: FakeBlocks) -> AsyncIterator[Core]:
    core = Core(blocks=blocks)
    async with loading(core):
        yield core


async def test_whom_a_user_dialog_is_with(core: Core) -> None:
    two = await core.do(5, with_user(2))
    group = await core.do(5, group_of([2]))
    dialog = core.state.find(two.id)
    assert dialog is not None
    assert (other_of(dialog, 5), other_of(dialog, 2)) == (2, 5)
    larger = core.state.find(group.id)
    assert larger is not None
    assert other_of(larger, 5) == 0
    assert may_reach(NoBlocks(), dialog, 5)


async def test_who_is_blocked_is_refused_and_nothing_is_journaled(
    core: Core, blocks: FakeBlocks
) -> None:
    dialog = await core.do(1, with_user(2))
    blocks.blocked = {(2, 1)}
    position = core.journal.next_position
    for _ in range(2):
        with pytest.raises(NotAllowed) as refused:
            await core.do(1, text(dialog.id))
        assert "block" not in refused.value.detail.lower()
    assert core.journal.next_position == position
    assert (await core.do(2, text(dialog.id))).seq == 2
    blocks.blocked = set()
    assert (await core.do(1, text(dialog.id))).seq == 3


async def test_it_is_asked_of_memory_once_it_was_loaded(
    core: Core, blocks: FakeBlocks
) -> None:
    dialog = await core.do(1, with_user(2))
    for _ in range(3):
        await core.do(1, text(dialog.id))
    assert blocks.loads == 1


async def test_a_repeat_of_what_was_sent_before_the_block_gets_its_answer(
    core: Core, blocks: FakeBlocks
) -> None:
    dialog = await core.do(1, with_user(2))
    name = client_id(core.clock.now_ms(), 1)
    first = await core.do(1, text(dialog.id, client_id=name))
    blocks.blocked = {(2, 1)}
    assert (await core.do(1, text(dialog.id, client_id=name))).id == first.id


async def test_in_a_group_a_block_does_not_matter(
    core: Core, blocks: FakeBlocks
) -> None:
    group = await core.do(1, group_of([2, 3]))
    blocks.blocked = {(2, 1)}
    await core.do(1, text(group.id))
    assert blocks.loads == 0


async def test_who_minds_is_not_put_into_a_dialog(
    core: Core, blocks: FakeBlocks
) -> None:
    blocks.refusing = [3]
    for command in (group_of([2, 3]), with_user(3)):
        with pytest.raises(NotAllowed) as refused:
            await core.do(1, command)
        assert refused.value.fields == {"participants": str(user_id(3))}
    assert (await core.do(1, group_of([2]))).member_count == 2


async def test_a_dialog_that_there_is_stays_open_to_who_is_blocked(
    core: Core, blocks: FakeBlocks
) -> None:
    dialog = await core.do(1, with_user(2))
    blocks.refusing = [2]
    again = await core.do(1, with_user(2))
    assert again.body.id == dialog.id
