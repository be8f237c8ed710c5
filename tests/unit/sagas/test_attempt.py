"""What becomes of one attempt of a step, whatever it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from msgspec import Struct, structs
from trio.testing import MockClock

from tchatd.kernel.errors import Conflict, RateLimited, Unavailable
from tchatd.kernel.sagas import (
    RECORDED,
    Abort,
    Retry,
    RetryLater,
    SagaRow,
    SagaType,
    Step,
    StepContext,
    Superseded,
    Wait,
)
from tchatd.sagas.attempt import Attempts, Outcome
from tests.support.saga_world import TrioClock
from tests.support.sagas import NOW, ONE, Amount, begun

Run = Callable[[StepContext, Amount], Awaitable[Any]]


def a_type(run: Run, undo: Run | None = None, **changes: Any) -> SagaType[Amount]:
    step = Step(
        "charge", run, undo, Retry(first_s=1, factor=2, attempts=3), timeout_s=5
    )
    fields: dict[str, Any] = {"deadline_s": 60.0} | changes
    return SagaType(
        name="topup", version=1, steps=(step, Step("b", run)), data=Amount, **fields
    )


def a_row(**changes: Any) -> SagaRow:
    return structs.replace(begun(1, ONE, total_steps=2).row(), **changes)


async def attempt(
    run: Run, row: SagaRow | None = None, undo: Run | None = None
) -> Outcome:
    attempts = Attempts(TrioClock(), lambda: 1.0)
    attempts.report = REPORTED.append
    REPORTED.clear()
    return await attempts.attempt(row or a_row(), a_type(run, undo))


REPORTED: list[Exception] = []


def raising(error: Exception) -> Run:
    async def run(context: StepContext, data: Amount) -> Amount:
        raise error

    return run


async def test_a_step_that_returns_data_is_done(autojump_clock: MockClock) -> None:
    async def run(context: StepContext, data: Amount) -> Amount:
        assert (context.saga_id, context.step) == (a_row().id, "charge")
        return Amount(data.amount_minor + 1)

    outcome = await attempt(run)
    assert outcome.name == "done"
    assert outcome.progress is not None
    assert outcome.progress.current_step == 1
    assert outcome.progress.data == '{"amount_minor":101,"done":[]}'


async def test_a_step_may_wait(autojump_clock: MockClock) -> None:
    async def run(context: StepContext, data: Amount) -> Wait[Amount]:
        return Wait(Amount(5), context.now_ms + 3_000)

    outcome = await attempt(run)
    assert outcome.name == "wait"
    assert outcome.progress is not None
    assert (outcome.progress.current_step, outcome.progress.run_ms) == (0, NOW + 3_000)
    assert outcome.progress.is_waiting


async def test_an_atomic_step_has_recorded_its_progress(
    autojump_clock: MockClock,
) -> None:
    async def run(context: StepContext, data: Amount) -> object:
        given.append(context.progress(Amount(7)))
        return RECORDED

    given: list[object] = []
    outcome = await attempt(run)
    assert outcome.is_recorded
    assert outcome.progress is given[0]


@pytest.mark.parametrize(
    ("error", "name", "delay_ms", "why", "reported"),
    [
        (RetryLater("busy"), "retry", 1_000, "busy", False),
        (RetryLater("busy", 9), "retry", 9_000, "busy", False),
        (Unavailable("down"), "retry", 1_000, "unavailable", False),
        (RateLimited(retry_after_s=7), "retry", 7_000, "rate-limited", False),
        (LookupError("secret"), "retry", 1_000, "LookupError", True),
        (ExceptionGroup("", [LookupError()]), "retry", 1_000, "ExceptionGroup", True),
    ],
)
async def test_a_step_that_fails_is_tried_again(
    error: Exception,
    name: str,
    delay_ms: int,
    why: str,
    reported: bool,
    autojump_clock: MockClock,
) -> None:
    outcome = await attempt(raising(error))
    assert outcome.name == name
    progress = outcome.progress
    assert progress is not None
    assert (progress.run_ms, progress.attempts) == (NOW + delay_ms, 1)
    assert progress.error == why
    assert bool(REPORTED) == reported


@pytest.mark.parametrize("error", [Abort("conflict"), Conflict()])
async def test_a_step_that_says_no_ends_it(
    error: Exception, autojump_clock: MockClock
) -> None:
    outcome = await attempt(raising(error), undo=raising(error))
    assert outcome.progress is not None
    assert (outcome.progress.status, outcome.progress.error) == (
        *("compensated",),
        "conflict",
    )


async def test_a_refused_progress_asks_for_the_row(autojump_clock: MockClock) -> None:
    assert await attempt(raising(Superseded())) == Outcome("superseded", None)


async def test_a_step_has_its_time(autojump_clock: MockClock) -> None:
    async def run(context: StepContext, data: Amount) -> Amount:
        await trio.sleep_forever()

    outcome = await attempt(run)
    assert outcome.name == "retry"
    assert outcome.progress is not None
    assert outcome.progress.run_ms == NOW + 5_000 + 1_000
    assert outcome.progress.error == "no answer in 5 s"


async def test_a_deadline_ends_the_step_that_is_under_way(
    autojump_clock: MockClock,
) -> None:
    async def run(context: StepContext, data: Amount) -> Amount:
        await trio.sleep_forever()

    row = a_row(deadline_ms=NOW + 2_000)
    outcome = await attempt(run, row, undo=run)
    assert trio.current_time() == pytest.approx(2.0)
    assert outcome.name == "abort"
    assert outcome.progress is not None
    assert outcome.progress.status == "compensating"
    assert (outcome.progress.current_step, outcome.progress.in_doubt) == (1, True)


async def test_a_late_saga_begins_no_step(autojump_clock: MockClock) -> None:
    outcome = await attempt(raising(LookupError()), a_row(deadline_ms=NOW))
    assert outcome.progress is not None
    assert (outcome.progress.status, REPORTED) == ("compensated", [])


async def test_a_compensation_gets_what_the_last_one_left(
    autojump_clock: MockClock,
) -> None:
    async def undo(context: StepContext, data: Amount) -> Amount:
        assert context.in_doubt
        return Amount(data.amount_minor - 1)

    row = a_row(
        status="compensating",
        current_step=1,
        in_doubt=True,
        compensation_data='{"amount_minor":50}',
    )
    outcome = await attempt(raising(LookupError()), row, undo)
    progress = outcome.progress
    assert progress is not None
    assert (progress.status, progress.compensation_data) == (
        "compensated",
        '{"amount_minor":49,"done":[]}',
    )
    assert progress.data == row.data


async def test_what_is_no_data_of_the_saga_is_a_mistake(
    autojump_clock: MockClock,
) -> None:
    class Other(Struct, frozen=True):
        pass

    async def run(context: StepContext, data: Amount) -> object:
        return Other()

    outcome = await attempt(run)
    assert outcome.name == "retry"
    assert [type(error) for error in REPORTED] == [ValueError]
    unreadable = await attempt(run, a_row(data="[1]"))
    assert unreadable.name == "retry"
