"""Steps of many sagas go into one commit, and nobody fails for another one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchatd.kernel.errors import Invalid, Unavailable
from tchatd.kernel.sagas import SagaBegun, SagaProgress, progress_of
from tchatd.sagas.commit import SagaCommit
from tchatd.sagas.store import Moved, Written
from tchatd.stores.memory.sagas import MemorySagaStore
from tests.support.sagas import ONE, begun, id_of, row_of


class SlowStore(MemorySagaStore):
    """Writes when it is let; refuses rows of data `poison`."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.go = trio.Event()
        self.error: Exception | None = None

    async def write(
        self, begun: Sequence[SagaBegun], progress: Sequence[SagaProgress]
    ) -> Written:
        await self.go.wait()
        self.batches.append(len(begun) + len(progress))
        if self.error is not None:
            raise self.error
        if "poison" in [one.data for one in begun] + [one.data for one in progress]:
            raise Invalid
        return await super().write(begun, progress)


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
async def commit(store: SlowStore, nursery: trio.Nursery) -> AsyncIterator[SagaCommit]:
    commit = SagaCommit(store, batch_max=4)
    await nursery.start(commit.run)
    yield commit
    nursery.cancel_scope.cancel()


async def test_one_batch_is_in_flight_and_the_next_gathers(
    store: SlowStore, commit: SagaCommit
) -> None:
    begins: list[bool] = []

    async def begin(number: int) -> None:
        begins.append(await commit.begin(begun(number)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(begin, 1)
        await wait_all_tasks_blocked()
        for number in range(2, 8):
            nursery.start_soon(begin, number)
        await wait_all_tasks_blocked()
        assert begins == []
        store.go.set()
    assert begins == [True] * 7
    assert store.batches == [1, 4, 2]


async def test_who_begins_the_same_saga_twice_is_told(
    store: SlowStore, commit: SagaCommit
) -> None:
    begins: list[bool] = []

    async def begin(data: str) -> None:
        begins.append(await commit.begin(begun(1, data=data)))

    async with trio.open_nursery() as nursery:
        for data in ("{}", "[]"):
            nursery.start_soon(begin, data)
        store.go.set()
    assert sorted(begins) == [False, True]
    assert not await commit.begin(begun(1))


async def test_progress_tells_what_the_row_has_beside(
    store: SlowStore, commit: SagaCommit
) -> None:
    store.go.set()
    await commit.begin(begun(1, ONE))
    await store.signal(id_of(1), "go", "1")
    step = progress_of(await row_of(store, 1), current_step=1)
    moved = await commit.progress(step)
    assert moved == Moved(begun(1).run_ms, 1, '{"go":1}', None)
    assert await commit.progress(step) is None


async def test_one_bad_row_fails_alone(store: SlowStore, commit: SagaCommit) -> None:
    outcomes: dict[int, object] = {}

    async def begin(number: int, data: str) -> None:
        try:
            outcomes[number] = await commit.begin(begun(number, data=data))
        except Invalid:
            outcomes[number] = "refused"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(begin, 9, "{}")
        await wait_all_tasks_blocked()
        for number in range(1, 4):
            nursery.start_soon(begin, number, "poison" if number == 2 else "{}")
        await wait_all_tasks_blocked()
        store.go.set()
    assert outcomes == {9: True, 1: True, 2: "refused", 3: True}


async def test_a_store_that_is_away_is_said_to_all(
    store: SlowStore, commit: SagaCommit
) -> None:
    store.error = Unavailable("away")
    store.go.set()
    for _ in range(2):
        with pytest.raises(Unavailable, match="away"):
            await commit.begin(begun(1))
    store.error = None
    assert await commit.begin(begun(1))


async def test_who_waits_when_it_ends_is_told_that_it_is_not_known(
    store: SlowStore,
) -> None:
    commit, told = SagaCommit(store, batch_max=1), list[int]()

    async def begin(number: int) -> None:
        with pytest.raises(Unavailable):
            await commit.begin(begun(number))
        told.append(number)

    async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
        await nursery.start(commit.run)
        for number in (1, 2):
            outer.start_soon(begin, number)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sorted(told) == [1, 2]
    with pytest.raises(Unavailable):
        await commit.begin(begun(3))
