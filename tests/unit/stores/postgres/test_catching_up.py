"""Catching up asks for all who wait at once, and for what they share once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import trio

from tchatd.stores.postgres.messaging import PostgresDialogStore
from tchatd.stores.postgres.pool import Pool
from tests.support.dialog_store import copied

pytestmark = pytest.mark.service


class CountingPool:
    """Passes on; remembers the statements."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    async def fetch(
        self, query: str, parameters: Mapping[str, Any] | Sequence[Any] = ()
    ) -> list[tuple[Any, ...]]:
        self.asked.append(query)
        return await self._pool.fetch(query, parameters)


async def changed(store: Any, user: int, after: int) -> Any:
    return await store.changed(
        user,
        after_position=after,
        until_position=1 << 40,
        from_number=0,
        also=(),
        limit=50,
        count_max=100,
    )


async def test_a_crowd_costs_as_many_queries_as_come_one_after_another(
    pool: Pool,
) -> None:
    source = await copied(PostgresDialogStore(pool))
    counting = CountingPool(pool)
    store = PostgresDialogStore(counting)  # type: ignore[arg-type]
    users = [n for n in range(1, 131) for _ in range(3)]
    answers: dict[tuple[int, int], Any] = {}

    async def ask(user: int, after: int) -> None:
        answers[user, after] = await changed(store, user, after)

    async with trio.open_nursery() as nursery:
        for index, user in enumerate(users):
            nursery.start_soon(ask, user, index % 3 * 100)
    assert len(counting.asked) <= 8  # 1, then 64 at a time
    for (user, after), answer in answers.items():
        assert answer == await changed(source, user, after)
    assert any(count for _, count in answers.values())


async def test_who_missed_the_same_shares_the_rows(pool: Pool) -> None:
    source = await copied(PostgresDialogStore(pool))
    counting = CountingPool(pool)
    store = PostgresDialogStore(counting)  # type: ignore[arg-type]
    numbers = sorted(source.dialogs)
    ranges = [(numbers[0], 1, 20), (numbers[-1], 0, 30)]
    answers: list[Any] = []

    async def ask(*ranges: tuple[int, int, int]) -> None:
        answers.append(await store.ranges(ranges, 1 << 40))

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(ask, ranges[0])
            nursery.start_soon(ask, *reversed(ranges))
    assert len(counting.asked) <= 2
    alone = await source.ranges(ranges[:1], 1 << 40)
    both = await source.ranges(ranges, 1 << 40)
    assert sorted(map(len, (a[0] for a in answers))) == sorted(
        [len(alone[0])] * 100 + [len(both[0])] * 100
    )
    assert all(answer in (alone, both) for answer in answers)
    shared = {id(answer[0][0]) for answer in answers}
    assert len(shared) <= len(counting.asked)
