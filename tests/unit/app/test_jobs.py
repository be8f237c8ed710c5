"""Background work: regular, bounded, and not stopped by a store that is away."""

from __future__ import annotations

import trio

from tchatd.app.jobs import HEALTH_INTERVAL_S, StoreHealth, every, prune_regularly
from tchatd.kernel.errors import Unavailable


async def test_a_tick_comes_at_each_interval(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ticks: list[float] = []
    with trio.move_on_after(3.5):
        await every(1.0, lambda: ticks.append(trio.current_time()))
    assert len(ticks) == 3


async def test_pruning_goes_on_until_nothing_is_left_and_survives_an_outage(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left = [3, 2, 0]
    calls: list[str] = []

    async def rows() -> int:
        calls.append("rows")
        return left.pop(0) if left else 0

    async def away() -> int:
        calls.append("away")
        raise Unavailable

    with trio.move_on_after(25):
        await prune_regularly({"away": away, "rows": rows}, interval_s=10)
    assert calls == ["away", "rows", "rows", "rows", "away", "rows"]


async def test_health_follows_the_store(autojump_clock: trio.testing.MockClock) -> None:
    answers: list[Exception | None] = [None, Unavailable(), None]
    seen: list[str | None] = []

    async def check() -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    health = StoreHealth("postgres", check)
    with trio.move_on_after(HEALTH_INTERVAL_S * 2.75):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(health.run)
            for _ in range(3):
                await trio.sleep(HEALTH_INTERVAL_S / 2)
                seen.append(health.problem())
                await trio.sleep(HEALTH_INTERVAL_S / 2)
    assert seen == [None, "unavailable", None]


async def test_a_store_that_does_not_answer_is_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    health = StoreHealth("postgres", trio.sleep_forever)
    await health.look()
    assert health.problem() == "does not answer"
