"""Many who ask at once, few queries; nobody hangs whoever fails or leaves."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest
import trio
import trio.testing

from tchatd.kernel.errors import Unavailable
from tchatd.stores.coalescing import Coalescer


class Squares:
    """Takes a second a query; negative numbers have no square here."""

    def __init__(self) -> None:
        self.queries: list[list[int]] = []
        self.failures = 0

    async def fetch(self, keys: Sequence[int]) -> Mapping[int, int]:
        self.queries.append(list(keys))
        await trio.sleep(1)
        if self.failures:
            self.failures -= 1
            raise Unavailable("down")
        return {key: key * key for key in keys if key >= 0}


async def test_one_who_asks_alone_asks_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    squares = Squares()
    coalescer = Coalescer(squares.fetch)
    assert await coalescer.get([3, -1, 3]) == {3: 9}
    assert squares.queries == [[3, -1]]
    assert await coalescer.get([]) == {}
    assert trio.current_time() == 1


async def test_a_thousand_who_ask_together_wait_for_two_queries(
    autojump_clock: trio.testing.MockClock,
) -> None:
    squares = Squares()
    coalescer = Coalescer(squares.fetch)
    found: dict[int, int] = {}

    async def ask(key: int) -> None:
        found.update(await coalescer.get([key, key // 2]))

    async with trio.open_nursery() as nursery:
        for key in range(1000):
            nursery.start_soon(ask, key)
    assert found == {key: key * key for key in range(1000)}
    assert len(squares.queries) == 2
    assert sum(len(keys) for keys in squares.queries) == 1000
    assert trio.current_time() == 2


async def test_batches_are_bounded_and_go_in_order_of_arrival(
    autojump_clock: trio.testing.MockClock,
) -> None:
    squares = Squares()
    coalescer = Coalescer(squares.fetch, batch_max=10)
    assert len(await coalescer.get(range(25))) == 25
    assert squares.queries == [
        list(range(10)),
        list(range(10, 20)),
        list(range(20, 25)),
    ]


async def test_more_than_may_wait_are_refused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    coalescer = Coalescer(Squares().fetch, batch_max=1, waiting_max=2)
    async with trio.open_nursery() as nursery:
        for key in range(3):
            nursery.start_soon(coalescer.get, [key])
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Unavailable):
            await coalescer.get([9])
        # Whoever wants what is waited for already takes no room.
        assert await coalescer.get([2]) == {2: 4}


async def test_a_query_that_fails_fails_those_who_waited_for_it_and_no_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    squares = Squares()
    squares.failures = 1
    coalescer = Coalescer(squares.fetch)
    results: list[str] = []

    async def ask(key: int) -> None:
        try:
            await coalescer.get([key])
            results.append("found")
        except Unavailable:
            results.append("failed")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 1)
        nursery.start_soon(ask, 1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, 2)
    assert sorted(results) == ["failed", "failed", "found"]


async def test_when_the_one_who_leads_is_cancelled_another_leads(
    autojump_clock: trio.testing.MockClock,
) -> None:
    squares = Squares()
    coalescer = Coalescer(squares.fetch)
    found: dict[int, int] = {}

    async def ask(key: int) -> None:
        found.update(await coalescer.get([key]))

    async def lead(scope: trio.CancelScope) -> None:
        with scope:
            await coalescer.get([1, 5])

    leader = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lead, leader)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, 1)
        nursery.start_soon(ask, 2)
        await trio.testing.wait_all_tasks_blocked()
        leader.cancel()
    assert found == {1: 1, 2: 4}
    assert len(squares.queries) == 2


async def test_an_error_of_the_programmer_reaches_them_and_nobody_hangs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    calls = 0

    async def broken(keys: Sequence[int]) -> Mapping[int, int]:
        nonlocal calls
        calls += 1
        await trio.sleep(1)
        raise ZeroDivisionError

    coalescer = Coalescer(broken)
    failures = 0

    async def ask() -> None:
        nonlocal failures
        with pytest.raises(ZeroDivisionError):
            await coalescer.get([1])
        failures += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    assert (failures, calls) == (2, 2)


@pytest.mark.parametrize("seed", range(20))
async def test_whoever_is_not_cancelled_gets_an_answer(
    seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    chance = random.Random(seed)
    squares = Squares()
    coalescer = Coalescer(squares.fetch, batch_max=4)
    asked = answered = 0

    async def ask() -> None:
        nonlocal asked, answered
        await trio.sleep(chance.random() * 5)
        keys = [chance.randrange(-3, 20) for _ in range(chance.randrange(1, 4))]
        with trio.move_on_after(chance.choice([0, 0.5, 1.5, 100])) as scope:
            found = await coalescer.get(keys)
            assert found == {key: key * key for key in keys if key >= 0}
            answered += 1
        if not scope.cancelled_caught:
            asked += 1

    with trio.fail_after(500):
        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(ask)
    assert answered == asked


class Steps(trio.abc.Instrument):
    def __init__(self) -> None:
        self.count = 0

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_who_waits_is_woken_for_the_answer_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    squares, steps = Squares(), Steps()
    coalescer = Coalescer(squares.fetch, batch_max=10)
    trio.lowlevel.add_instrument(steps)
    async with trio.open_nursery() as nursery:
        for key in range(1_000):
            nursery.start_soon(coalescer.get, [key])
    trio.lowlevel.remove_instrument(steps)
    assert len(squares.queries) == 101  # the first one is alone
    assert steps.count < 4_000
