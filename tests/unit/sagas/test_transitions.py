"""When a saga waits, goes back, and stands still."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from tchatd.kernel.sagas import (
    REASON_CHARS_MAX,
    Retry,
    SagaProgress,
    SagaRow,
    SagaType,
    Step,
    StepContext,
)
from tchatd.sagas import transitions
from tchatd.sagas.store import Moved
from tests.support.sagas import NOW, ONE, Amount, begun

LATER = NOW + 100_000  # than the deadline


async def run(context: StepContext, data: Amount) -> Amount:
    return data


def a_type(
    undo: str = "abc", pivot: str = "", atomic: str = "", attempts: int = 3
) -> SagaType[Amount]:
    steps = tuple(
        Step(
            name,
            run,
            run if name in undo else None,
            Retry(first_s=1, factor=2, max_s=60, attempts=attempts),
            is_atomic=name in atomic,
            is_pivot=name in pivot,
        )
        for name in "abc"
    )
    return SagaType(name="topup", version=1, steps=steps, data=Amount, deadline_s=60)


def a_row(done: int = 1, **changes: Any) -> SagaRow:
    return structs.replace(begun(1, ONE).row(), current_step=done, **changes)


def undoing(left: int = 2, **changes: Any) -> SagaRow:
    return a_row(left, status="compensating", compensation_data="{}", **changes)


def put_off(
    row: SagaRow, saga_type: SagaType[Amount], delay_s: float | None = None
) -> SagaProgress:
    return transitions.put_off(row, saga_type, "why", NOW, delay_s=delay_s, chance=1.0)


def test_the_next_step_depends_on_the_direction() -> None:
    assert transitions.step_of(a_row(1), a_type()).name == "b"
    assert transitions.step_of(undoing(1), a_type()).name == "a"


def test_a_deadline_and_an_operator_make_it_go_back() -> None:
    reason = transitions.reason_to_go_back
    assert reason(a_row(), a_type(), NOW) is None
    assert reason(a_row(), a_type(), LATER) == transitions.DEADLINE
    assert reason(a_row(abort_reason="asked"), a_type(), NOW) == "asked"
    assert reason(undoing(abort_reason="asked"), a_type(), LATER) is None


@pytest.mark.parametrize(
    ("pivot", "atomic", "goes_back"),
    [("a", "", False), ("b", "", False), ("b", "b", True), ("c", "", True)],
)
def test_past_a_pivot_or_from_one_in_doubt_nothing_goes_back(
    pivot: str, atomic: str, goes_back: bool
) -> None:
    saga_type = a_type(pivot=pivot, atomic=atomic)
    reason = transitions.reason_to_go_back(a_row(1), saga_type, LATER)
    assert (reason is not None) == goes_back
    last = put_off(a_row(1, attempts=2), saga_type)
    assert last.status == ("compensating" if goes_back else "failed")


def test_what_was_under_way_is_undone_first_if_it_may_have_happened() -> None:
    def back(in_doubt: bool, **of: Any) -> tuple[str, int, bool]:
        progress = transitions.go_back(
            a_row(1), a_type(**of), "why", NOW, in_doubt=in_doubt
        )
        assert progress.compensation_data == progress.data
        assert (progress.error, progress.failed_ms) == ("why", NOW)
        return progress.status, progress.current_step, progress.in_doubt

    assert back(True) == ("compensating", 2, True)
    assert back(False) == ("compensating", 1, False)
    assert back(True, atomic="b") == ("compensating", 1, False)
    assert back(True, undo="ac") == ("compensating", 1, False)
    assert back(True, undo="b") == ("compensating", 2, True)
    assert back(False, undo="bc") == ("compensated", 0, False)


def test_nothing_to_undo_is_the_end() -> None:
    progress = transitions.go_back(a_row(0), a_type(), "no", NOW, in_doubt=False)
    assert (progress.status, progress.ended_ms) == ("compensated", NOW)
    assert progress.is_released


def test_a_failed_attempt_is_tried_again_ever_later() -> None:
    first = put_off(a_row(), a_type())
    assert (first.attempts, first.run_ms, first.is_released) == (1, NOW + 1_000, True)
    assert (first.status, first.error) == ("started", "why")
    assert put_off(a_row(attempts=1), a_type()).run_ms == NOW + 2_000
    assert put_off(a_row(), a_type(), 5.5).run_ms == NOW + 5_500
    assert put_off(a_row(), a_type(), 0).run_ms == NOW + transitions.WAIT_MS_MIN


def test_attempts_end_and_it_goes_back_or_stands_still() -> None:
    back = put_off(a_row(attempts=2), a_type())
    assert (back.status, back.current_step, back.in_doubt) == ("compensating", 2, True)
    still = put_off(undoing(attempts=2), a_type())
    assert (still.status, still.is_released) == ("failed", True)
    assert put_off(a_row(attempts=10**6), a_type(attempts=0)).status == "started"


def test_a_step_that_says_no_is_not_undone() -> None:
    no = transitions.aborted(a_row(1), a_type(), "no", NOW)
    assert (no.status, no.current_step, no.in_doubt) == ("compensating", 1, False)
    past = transitions.aborted(a_row(1), a_type(pivot="a"), "no", NOW)
    assert past.status == "failed"
    pivot = transitions.aborted(a_row(1), a_type(pivot="b"), "no", NOW)
    assert pivot.status == "compensating"
    assert transitions.aborted(undoing(), a_type(), "no", NOW).status == "failed"


def test_a_wait_ends_at_the_deadline() -> None:
    row = a_row(attempts=2, signal_count=3)
    wait = transitions.waits(row, '{"amount_minor":1}', NOW + 9_000, NOW)
    assert (wait.run_ms, wait.attempts, wait.data) == (
        *(NOW + 9_000, 0),
        '{"amount_minor":1}',
    )
    assert wait.is_waiting
    assert wait.is_released
    assert wait.signals_seen == 3
    assert transitions.waits(row, "{}", LATER, NOW).run_ms == row.deadline_ms
    assert transitions.waits(row, "{}", 0, NOW).run_ms == NOW + transitions.WAIT_MS_MIN
    late = transitions.waits(row, "{}", LATER + 5, LATER)
    assert late.run_ms == LATER + transitions.WAIT_MS_MIN
    back = transitions.waits(undoing(error="why"), '{"amount_minor":2}', LATER, NOW)
    assert (back.compensation_data, back.data) == (
        *('{"amount_minor":2}',),
        '{"amount_minor":100}',
    )
    assert (back.run_ms, back.error) == (LATER, "why")


def test_what_is_said_is_bounded_and_can_be_stored() -> None:
    still = transitions.stand_still(a_row(), "a\0b" + "x" * 1_000, NOW)
    assert still.error is not None
    assert len(still.error) == REASON_CHARS_MAX
    assert still.error.startswith("abx")


def test_a_wait_that_was_asked_for_before_the_deadline_ends_with_it() -> None:
    row = a_row()
    began_ms = row.deadline_ms - 1  # it is later by now
    assert transitions.waits(row, "{}", LATER, began_ms).run_ms == row.deadline_ms


def test_the_row_after_its_progress_has_what_the_store_said() -> None:
    row = a_row(revision=3)
    progress = transitions.waits(row, '{"amount_minor":1}', NOW + 5_000, NOW)
    moved = Moved(0, 2, '{"go":1}', "asked")
    after = transitions.after(row, progress, moved)
    assert (after.revision, after.runner, after.run_ms) == (4, None, 0)
    assert (after.signal_count, after.signals) == (2, '{"go":1}')
    assert (after.abort_reason, after.data) == ("asked", '{"amount_minor":1}')
    recorded = transitions.after(row, progress, None)
    assert (recorded.run_ms, recorded.signal_count) == (NOW + 5_000, 0)
