"""Circles in memory: loaded once, the newest stays, what is not known is not shown."""

from __future__ import annotations

import pytest

from tchatd.domains.people.circles import Circles
from tchatd.domains.people.models import PLAIN, ChangePrivacy
from tchatd.stores.memory.people import MemoryPeopleStore


@pytest.fixture
def store() -> MemoryPeopleStore:
    return MemoryPeopleStore()


@pytest.fixture
def circles(store: MemoryPeopleStore) -> Circles:
    return Circles(store, circles_max=10, plain_max=100)


async def test_each_is_loaded_once(store: MemoryPeopleStore, circles: Circles) -> None:
    await store.add_blocks(1, [2], 0, 10)
    before = store.queries
    for _ in range(2):
        await circles.load([1, 2, 3])
        assert (await circles.get(2)) is PLAIN
    assert store.queries == before + 1
    assert circles.is_blocked(1, 2) is True
    assert circles.is_blocked(2, 1) is False


async def test_what_is_not_loaded_is_not_shown(circles: Circles) -> None:
    assert circles.is_blocked(1, 2) is None
    await circles.load([1])
    assert circles.sight(1, 2) == "nothing"
    assert circles.sight(1, 1) == "exact"
    await circles.load([2])
    assert circles.sight(1, 2) == "exact"


async def test_what_was_read_before_a_change_does_not_undo_it(
    store: MemoryPeopleStore, circles: Circles
) -> None:
    old = await store.change_privacy(1, ChangePrivacy(phone="nobody"))
    new = await store.change_privacy(1, ChangePrivacy(last_seen="nobody"))
    circles.put(1, new)
    assert circles.put(1, old) is new
    assert circles.put(1, None) is new
    assert circles.peek(1) is new


async def test_who_decides_for_the_first_time_is_plain_no_more(
    store: MemoryPeopleStore, circles: Circles
) -> None:
    await circles.load([1, 2])
    circles.put(1, await store.add_blocks(1, [2], 0, 10))
    assert circles.is_blocked(1, 2) is True
    assert circles.sight(2, 1) == "nothing"


async def test_memory_is_bounded_and_loads_again(store: MemoryPeopleStore) -> None:
    circles = Circles(store, circles_max=2, plain_max=3)
    for number in range(1, 6):
        await store.change_privacy(number, ChangePrivacy(phone="nobody"))
    await circles.load(range(1, 11))
    assert sum(circles.peek(n) is not None for n in range(1, 6)) == 2
    assert sum(circles.peek(n) is not None for n in range(6, 11)) <= 3
    assert (await circles.get(1)).privacy.phone == "nobody"


async def test_who_may_be_added_to_a_group(
    store: MemoryPeopleStore, circles: Circles
) -> None:
    await store.change_privacy(2, ChangePrivacy(groups="nobody"))
    await store.change_privacy(3, ChangePrivacy(groups="contacts"))
    await store.change_privacy(4, ChangePrivacy(groups="contacts"))
    await store.add_contacts(4, [1], 0, 10)
    await store.add_blocks(5, [1], 0, 10)
    assert await circles.not_addable(1, [2, 3, 4, 5, 6]) == [2, 3, 5]
