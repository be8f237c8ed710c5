"""Owns what becomes of a saga that does not simply go on; pure, nothing is awaited.

    started ──▶ completed
       │ abort, deadline, attempts over
       ▼
    compensating ──▶ compensated
       │ attempts of a compensation over
       ▼
    failed: stands still; an operator resumes it where it was (`compensation_data`
    says in which direction), or aborts it

Undone are the steps that are done, the last one first. The step that was under way
when it went back is in doubt, unless it is atomic or said `Abort` itself; if it can be
undone, that comes first. Past a pivot nothing goes back, and from a pivot that is in
doubt neither: such a saga goes on, or stands still.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import structs

from tchatd.kernel.sagas import (
    REASON_CHARS_MAX,
    SagaProgress,
    SagaRow,
    SagaType,
    Step,
    progress_of,
)
from tchatd.sagas.store import Moved

DEADLINE: Final = "the deadline has passed"
WAIT_MS_MIN: Final = 10
"""A step that waits for nothing would be run again and again."""
_CHANGED: Final = tuple(
    name for name in SagaProgress.__struct_fields__ if name in SagaRow.__struct_fields__
)


def step_of(row: SagaRow, saga_type: SagaType[Any]) -> Step[Any]:
    """The one to be run, or undone, next."""
    index = row.current_step
    return saga_type.steps[index - 1 if row.status == "compensating" else index]


def reason_to_go_back(
    row: SagaRow, saga_type: SagaType[Any], now_ms: int
) -> str | None:
    """Why it does not run the step that is next; None: it does."""
    if row.status != "started" or not may_go_back(row, saga_type):
        return None
    if row.abort_reason is not None:
        return row.abort_reason
    return DEADLINE if now_ms >= row.deadline_ms else None


def go_back(
    row: SagaRow, saga_type: SagaType[Any], why: str, now_ms: int, *, in_doubt: bool
) -> SagaProgress:
    """Begin to undo. in_doubt: the current step may have had its effect."""
    assert row.status == "started"
    done = row.current_step
    step = saga_type.steps[done]
    in_doubt = in_doubt and not step.is_atomic and step.compensate is not None
    left = saga_type.to_undo(done + 1 if in_doubt else done)
    changes: dict[str, Any] = {"status": "compensating"}
    if not left:
        changes = {"status": "compensated", "is_released": True, "ended_ms": now_ms}
    return progress_of(
        row,
        current_step=left,
        in_doubt=in_doubt,
        compensation_data=row.data,
        attempts=0,
        error=_said(why),
        failed_ms=now_ms,
        **changes,
    )


def stand_still(row: SagaRow, why: str, now_ms: int) -> SagaProgress:
    """Until an operator looks at it."""
    return progress_of(
        row, status="failed", is_released=True, error=_said(why), failed_ms=now_ms
    )


def aborted(
    row: SagaRow, saga_type: SagaType[Any], reason: str, now_ms: int
) -> SagaProgress:
    """The step said so: it has had no effect, and never will."""
    if row.status == "started" and not saga_type.is_past_pivot(row.current_step):
        return go_back(row, saga_type, reason, now_ms, in_doubt=False)
    return stand_still(row, reason, now_ms)


def put_off(
    row: SagaRow,
    saga_type: SagaType[Any],
    why: str,
    now_ms: int,
    *,
    delay_s: float | None,
    chance: float,
) -> SagaProgress:
    """An attempt failed. delay_s: until the next; None: as the step's `Retry` says."""
    retry = step_of(row, saga_type).retry
    failures = row.attempts + 1
    if not retry.is_over(failures):
        if delay_s is None:
            delay_s = retry.delay_s(failures, chance)
        return progress_of(
            row,
            attempts=failures,
            run_ms=_until(row, now_ms + round(1_000 * delay_s), now_ms),
            is_released=True,
            is_waiting=True,
            error=_said(why),
        )
    if row.status == "started" and may_go_back(row, saga_type):
        return go_back(row, saga_type, why, now_ms, in_doubt=True)
    return stand_still(row, why, now_ms)


def waits(row: SagaRow, data: str, until_ms: int, now_ms: int) -> SagaProgress:
    """A step waits for the world, for a signal it has not seen or until then.

    now_ms: when the attempt began, so that a deadline that passed meanwhile is seen.
    """
    name = "compensation_data" if row.status == "compensating" else "data"
    return progress_of(
        row,
        attempts=0,
        run_ms=_until(row, until_ms, now_ms),
        is_released=True,
        is_waiting=True,
        error=row.error if row.status == "compensating" else None,
        **{name: data},
    )


def after(row: SagaRow, progress: SagaProgress, moved: Moved | None) -> SagaRow:
    """The row once the progress is written. moved: what the store said; None: it was
    written by another one, and signals since are seen later."""
    changes: dict[str, Any] = {name: getattr(progress, name) for name in _CHANGED}
    changes["revision"] = row.revision + 1
    if moved is not None:
        changes |= structs.asdict(moved)
    if progress.is_released:
        changes["runner"] = None
    return structs.replace(row, **changes)


def may_go_back(row: SagaRow, saga_type: SagaType[Any]) -> bool:
    """Also not from a pivot that may have happened."""
    step = saga_type.steps[row.current_step]
    is_undecided = step.is_pivot and not step.is_atomic
    return not (is_undecided or saga_type.is_past_pivot(row.current_step))


def _until(row: SagaRow, until_ms: int, now_ms: int) -> int:
    """It looks up at its deadline, if that is to come."""
    until_ms = max(until_ms, now_ms + WAIT_MS_MIN)
    if row.status == "started" and now_ms < row.deadline_ms:
        return min(until_ms, row.deadline_ms)
    return until_ms


def _said(why: str) -> str:
    """As PostgreSQL can keep it."""
    text = why.encode(errors="replace").decode().replace("\0", "")
    return text[:REASON_CHARS_MAX]
