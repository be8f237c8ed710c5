"""Circles and last times come many by one query."""

from __future__ import annotations

import trio

from tchatd.domains.people.models import ChangePrivacy
from tchatd.stores.memory.people import MemoryPeopleStore
from tchatd.stores.people import CoalescedLastSeen, CoalescedPeople


async def test_circles_are_loaded_together() -> None:
    store = MemoryPeopleStore()
    for number in range(1, 31):
        await store.change_privacy(number, ChangePrivacy(phone="nobody"))
    loader = CoalescedPeople(store)
    before = store.queries
    found: set[int] = set()

    async def load(number: int) -> None:
        found.update(await loader.circles([number, 99]))

    async with trio.open_nursery() as nursery:
        for number in range(1, 31):
            nursery.start_soon(load, number)
    assert found == set(range(1, 31))
    assert store.queries - before <= 3


async def test_last_times_are_read_together_and_written_through() -> None:
    store = MemoryPeopleStore()
    shared = CoalescedLastSeen(store)
    await shared.keep_last_seen({number: number for number in range(1, 31)})
    before = store.queries
    found: dict[int, int] = {}

    async def load(number: int) -> None:
        found.update(await shared.last_seen([number, 99]))

    async with trio.open_nursery() as nursery:
        for number in range(1, 31):
            nursery.start_soon(load, number)
    assert found == {number: number for number in range(1, 31)}
    assert store.queries - before <= 3
