"""When users were last here: in memory, and written now and then."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
import trio

from tchatd.edge.last_seen import LastSeen, LastTimes
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.errors import Unavailable
from tchatd.stores.memory.people import MemoryPeopleStore

NOW_S = 1_800_000_000


class Store(MemoryPeopleStore):
    """broken: refuses. writes: what came, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False
        self.writes: list[dict[int, int]] = []

    async def keep_last_seen(self, seen: Mapping[int, int]) -> None:
        if self.broken:
            raise Unavailable
        self.writes.append(dict(seen))
        await super().keep_last_seen(seen)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_S * 1000)


@pytest.fixture
def last_seen(store: Store, clock: ManualClock) -> LastSeen:
    return LastSeen(store, clock, times_max=1000, write_s=60)


@pytest.mark.parametrize("spread", [500, 5_000_000])
def test_times_are_a_dict_of_users(spread: int) -> None:
    chance = random.Random(spread)
    times, model = LastTimes(10_000), {}
    for _ in range(5_000):
        number, seconds = chance.randrange(1, spread), chance.randrange(1 << 32)
        times.put(number, seconds)
        model[number] = seconds
    assert len(times) == len(model)
    assert {number: times.get(number) for number in model} == model
    assert times.get(spread) is None


def test_no_more_are_kept_than_the_limit_and_what_is_kept_is_right() -> None:
    chance = random.Random(1)
    times, model = LastTimes(100), {}
    for _ in range(3_000):
        number, seconds = chance.randrange(1, 1 << 20), chance.randrange(1 << 32)
        times.put(number, seconds)
        model[number] = seconds
        assert times.get(number) == seconds
        assert len(times) <= 100
    kept = {number: times.get(number) for number in model}
    assert sum(seconds is not None for seconds in kept.values()) == 100
    assert all(seconds in (None, model[number]) for number, seconds in kept.items())


def test_what_is_not_written_yet_is_forgotten_last() -> None:
    times = LastTimes(10)
    for number in range(1, 11):
        times.put(number, number)
    times.unwritten.update(range(1, 9))
    for number in range(20, 40):
        times.put(number, number)
    assert [times.get(number) for number in range(1, 9)] == list(range(1, 9))


def test_when_nothing_else_is_left_it_is_forgotten_too() -> None:
    times = LastTimes(2)
    for number in (1, 2, 3):
        times.put(number, number)
        times.unwritten.add(number)
    assert len(times) == 2
    assert len(times.unwritten) == 2


async def test_a_time_is_asked_for_once_also_when_there_is_none(
    store: Store, last_seen: LastSeen
) -> None:
    await store.keep_last_seen({1: 5_000})
    queries = store.queries
    for _ in range(2):
        await last_seen.load([1, 2])
    assert store.queries == queries + 1
    assert last_seen.peek_ms(1) == 5_000
    assert last_seen.peek_ms(2) is None


async def test_who_left_while_the_store_was_asked_was_here_later(
    store: Store, last_seen: LastSeen
) -> None:
    await store.keep_last_seen({1: 5_000})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(last_seen.load, [1])
        await trio.lowlevel.checkpoint()
        last_seen.left(1)
    assert last_seen.peek_ms(1) == NOW_S * 1000


async def test_times_are_written_together_once_a_minute(
    store: Store, last_seen: LastSeen, clock: ManualClock, autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(last_seen.run)
        last_seen.left(1)
        clock.advance(2_000)
        last_seen.left(2)
        await trio.sleep(61)
        assert store.writes == [{1: NOW_S * 1000, 2: NOW_S * 1000 + 2_000}]
        await trio.sleep(600)
        assert len(store.writes) == 1
        nursery.cancel_scope.cancel()


async def test_what_could_not_be_written_is_written_later(
    store: Store, last_seen: LastSeen, autojump_clock: object
) -> None:
    store.broken = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(last_seen.run)
        last_seen.left(1)
        await trio.sleep(61)
        store.broken = False
        await trio.sleep(61)
        nursery.cancel_scope.cancel()
    assert store.writes == [{1: NOW_S * 1000}]


async def test_who_left_again_during_a_write_is_written_again(
    store: Store, last_seen: LastSeen, clock: ManualClock
) -> None:
    last_seen.left(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(last_seen.write)
        await trio.lowlevel.checkpoint()
        clock.advance(5_000)
        last_seen.left(1)
    await last_seen.write()
    assert (await store.last_seen([1]))[1] == NOW_S * 1000 + 5_000


async def test_who_stays_online_is_written_once_an_hour(
    store: Store, last_seen: LastSeen, autojump_clock: object
) -> None:
    last_seen.online = lambda: BitMap(range(1, 91))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(last_seen.run)
        await trio.sleep(60 * 60 + 1)
        nursery.cancel_scope.cancel()
    written = [number for write in store.writes for number in write]
    assert sorted(written) == list(range(1, 91))
    assert max(len(write) for write in store.writes) == 2
