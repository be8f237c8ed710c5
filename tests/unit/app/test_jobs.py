"""Background work: regular, bounded, and not stopped by a store that is away."""

from __future__ import annotations

import pytest
import trio

from tchatd.app.jobs import (
    ALARM_IDLE_S,
    HEALTH_INTERVAL_S,
    MISTAKE_S_MAX,
    Alarm,
    StoreHealth,
    every,
    prune_regularly,
)
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


class Steps:
    """A clock that goes with Trio's, and a step that notes when it was asked."""

    def __init__(self, *answers: int | Exception | None) -> None:
        self.answers = list(answers)
        self.asked_s: list[float] = []

    def now_ms(self) -> int:
        return round(1_000 * trio.current_time())

    async def step(self) -> int | None:
        self.asked_s.append(round(trio.current_time(), 3))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


async def run(steps: Steps, seconds: float, wake_s: float | None = None) -> list[float]:
    alarm = Alarm("x", steps.step, steps)
    begun_s = trio.current_time()
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alarm.run)
            if wake_s is not None:
                await trio.sleep(wake_s)
                alarm.wake()
    return [round(at_s - begun_s, 3) for at_s in steps.asked_s]


async def test_an_alarm_sleeps_until_the_next_is_due(
    autojump_clock: trio.testing.MockClock,
) -> None:
    due_ms = round(1_000 * trio.current_time()) + 5_000
    assert await run(Steps(due_ms), 60) == [0, 5]


async def test_an_alarm_is_woken_and_looks_now_and_then_anyway(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert await run(Steps(), 100, wake_s=3) == [0, 3, 3 + ALARM_IDLE_S]
    assert await run(Steps(1 << 60), 100) == [0, ALARM_IDLE_S]


async def test_an_alarm_with_much_to_do_lets_others_have_their_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert await run(Steps(0, 0, 0), 1) == [0, 0.01, 0.02, 0.03]


async def test_an_alarm_survives_a_store_that_is_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert await run(Steps(Unavailable(), Unavailable(), None), 5) == [0, 2, 4]


# Mistakes of ours


async def test_an_alarm_survives_a_mistake_and_backs_off(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = Steps(*(AssertionError("to anna@example.com") for _ in range(3)), None)
    assert await run(steps, 40, wake_s=1) == [0, 2, 6, 14]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "AssertionError" in lines[0]
    assert "test_jobs.py" in lines[0]
    assert "anna" not in lines[0]


async def test_an_alarm_that_goes_on_failing_is_asked_now_and_then(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked = await run(Steps(*(KeyError() for _ in range(99))), 10_000)
    assert asked[-1] - asked[-2] == MISTAKE_S_MAX


async def test_other_jobs_survive_a_mistake(
    autojump_clock: trio.testing.MockClock,
) -> None:
    calls: list[str] = []

    def tick() -> None:
        calls.append("tick")
        raise KeyError

    async def broken() -> int:
        calls.append("broken")
        raise KeyError

    async def rows() -> int:
        calls.append("rows")
        return 0

    with trio.move_on_after(2.5):
        await every(1.0, tick)
    with trio.move_on_after(25):
        await prune_regularly({"broken": broken, "rows": rows}, interval_s=10)
    assert calls == ["tick", "tick", *2 * ["broken", "rows"]]


async def test_a_store_whose_check_fails_is_away() -> None:
    async def check() -> None:
        raise KeyError

    health = StoreHealth("postgres", check)
    await health.look()
    assert health.problem() == "failed"
