"""Who runs sagas beats, and who does not is relieved of them."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tchatd.kernel.errors import Unavailable
from tchatd.kernel.sagas import StepContext
from tchatd.sagas.store import Runner
from tchatd.stores.memory.sagas import MemorySagaStore
from tests.support.saga_engine import SETTINGS, Steps, an_engine, ended, running
from tests.support.saga_world import FaultyStore
from tests.support.sagas import OTHER, Amount, begun, id_of, put


@pytest.fixture
def store() -> MemorySagaStore:
    return MemorySagaStore()


@pytest.fixture
def steps() -> Steps:
    return Steps()


async def test_what_a_former_life_of_the_node_ran_is_taken_at_once(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    async def hang(_: StepContext) -> None:
        await trio.sleep(100)

    steps.does["b"] = hang
    engine = an_engine(store, steps.type())
    async with running(engine):
        await engine.begin(steps.type(), Amount(), id_of(1))
        await trio.sleep(1)
    del steps.does["b"]
    async with running(an_engine(store, steps.type())):
        assert (await ended(store)).status == "completed"
    assert steps.calls == ["a", "b", "b", "c"]
    assert trio.current_time() < 1.2


async def test_another_node_takes_over_within_seconds(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    async def hang(_: StepContext) -> None:
        await trio.sleep(100)

    steps.does["b"] = hang
    first, second = an_engine(store, steps.type()), an_engine(store, steps.type())
    second._node = "two"
    async with running(second):
        async with running(first):
            await first.begin(steps.type(), Amount(), id_of(1))
            await trio.sleep(20)
            assert steps.calls == ["a", "b"]
        del steps.does["b"]
        began_s = trio.current_time()
        assert (await ended(store)).status == "completed"
    assert trio.current_time() - began_s < 2 * SETTINGS.lease_s
    assert len(await store.runners()) == 1


async def test_a_node_that_cannot_beat_stops_before_others_take_over(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    async def cut(name: str) -> None:
        if is_cut:
            raise Unavailable

    async def work(context: StepContext) -> None:
        active.add(context.attempt)
        assert len(active) == 1
        try:
            await trio.sleep(20)
        finally:
            active.clear()

    is_cut, active = False, set[int]()
    steps.does["b"] = work
    faulty = FaultyStore(store)
    faulty.before = cut
    first = an_engine(faulty, steps.type())
    second = an_engine(store, steps.type(), node="two")
    async with running(first, second):
        await first.begin(steps.type(), Amount(), id_of(1))
        await trio.sleep(1)
        is_cut = True
        assert (await ended(store)).status == "completed"
        assert steps.calls == ["a", "b", "b", "c"]
        is_cut = False
        await trio.sleep(5)
        assert len(await store.runners()) == 2
        assert await first.begin(steps.type(), Amount(), id_of(2))
        assert (await ended(store, 2)).status == "completed"


async def test_a_buried_node_gets_up_again(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    engine = an_engine(store, steps.type())
    async with running(engine):
        [runner] = await store.runners()
        await store.bury(runner.id, None)
        await trio.sleep(5)
        [again] = await store.runners()
        assert again.id != runner.id
        assert await engine.begin(steps.type(), Amount(), id_of(1))
        assert (await ended(store)).status == "completed"


async def test_the_runner_of_another_node_is_left_alone_while_it_beats(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    await store.register(Runner(OTHER, "two", 0))
    await put(store, begun(1, OTHER))
    async with running(an_engine(store, steps.type())):
        for _ in range(50):
            await store.beat(OTHER)
            await trio.sleep(0.5)
        row = await store.saga(id_of(1))
        assert row is not None
        assert row.runner == OTHER
        assert (await ended(store)).status == "completed"
