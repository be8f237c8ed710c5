"""Owns one attempt of one step: calls it within its time, decides what follows from it.

A step is somebody's function: `except Exception` stands around it. What it raises that
nobody foresaw counts as a failed attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio
from msgspec import Struct

from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import DomainError, ErrorKind
from tchatd.kernel.sagas import (
    Abort,
    Recorded,
    RetryLater,
    SagaProgress,
    SagaRow,
    SagaType,
    Step,
    StepContext,
    Superseded,
    Wait,
    step_done,
)
from tchatd.sagas import transitions

_TRY_AGAIN: Final = frozenset({ErrorKind.UNAVAILABLE, ErrorKind.RATE_LIMITED})


class Outcome(Struct, frozen=True):
    """progress: to be written, or with its effect written already (`is_recorded`);
    None: the row has to be looked at again. name: for counting."""

    name: str
    progress: SagaProgress | None
    is_recorded: bool = False


class Attempts:
    """report: told of each failure that nobody foresaw; it keeps what a saga is about
    out of the log. chance: in [0, 1)."""

    def __init__(self, clock: Clock, chance: Callable[[], float]) -> None:
        self._clock = clock
        self._chance = chance
        self.report: Callable[[Exception], object] = lambda _: None

    async def attempt(self, row: SagaRow, saga_type: SagaType[Any]) -> Outcome:
        """Run the next step once, or its compensation, or begin to go back.

        A cancelled call leaves the row as it is, so the step is run again, with the
        same key; unless it was atomic and is done.
        """
        now_ms = self._clock.now_ms()
        why = transitions.reason_to_go_back(row, saga_type, now_ms)
        if why is not None:
            back = transitions.go_back(row, saga_type, why, now_ms, in_doubt=True)
            return Outcome("abort", back)
        step = transitions.step_of(row, saga_type)
        context = StepContext(row, saga_type, step, now_ms)
        try:
            limit_s = self._limit_s(row, saga_type, step, now_ms)
            with trio.CancelScope(deadline=trio.current_time() + limit_s):
                return await self._call(row, saga_type, step, context)
            return self._failed(row, saga_type, f"no answer in {step.timeout_s:g} s")
        except trio.TooSlowError:
            return self._failed(row, saga_type, "it was too slow")
        except RetryLater as later:
            return self._failed(row, saga_type, later.why, later.delay_s)
        except Abort as abort:
            return self._aborted(row, saga_type, abort.reason)
        except Superseded:
            return Outcome("superseded", None)
        except DomainError as error:
            if error.kind in _TRY_AGAIN:
                limited = error.kind is ErrorKind.RATE_LIMITED
                delay_s = error.retry_after_s if limited else None
                return self._failed(row, saga_type, error.code, delay_s)
            return self._aborted(row, saga_type, error.code)
        except Exception as error:  # noqa: BLE001  # around one attempt
            self.report(error)
            return self._failed(row, saga_type, type(error).__name__)

    async def _call(
        self,
        row: SagaRow,
        saga_type: SagaType[Any],
        step: Step[Any],
        context: StepContext,
    ) -> Outcome:
        """Raises: whatever the step does."""
        if row.status == "compensating":
            assert step.compensate is not None, f"{step.name} has nothing to undo"
            assert row.compensation_data is not None
            data = saga_type.decoded(row.compensation_data)
            result = await step.compensate(context, data)
        else:
            result = await step.run(context, saga_type.decoded(row.data))
        if isinstance(result, Recorded):
            assert context.recorded is not None, f"{step.name} recorded nothing"
            return Outcome("done", context.recorded, is_recorded=True)
        if isinstance(result, Wait):
            data = saga_type.encoded(result.data)
            wait = transitions.waits(row, data, result.until_ms, context.now_ms)
            return Outcome("wait", wait)
        now_ms, data = self._clock.now_ms(), saga_type.encoded(result)
        return Outcome("done", step_done(row, saga_type, data, now_ms))

    def _limit_s(
        self, row: SagaRow, saga_type: SagaType[Any], step: Step[Any], now_ms: int
    ) -> float:
        """A step that may go back ends at the deadline."""
        reason = transitions.reason_to_go_back(row, saga_type, row.deadline_ms)
        if reason is None:
            return step.timeout_s
        return min(step.timeout_s, (row.deadline_ms - now_ms) / 1_000)

    def _failed(
        self,
        row: SagaRow,
        saga_type: SagaType[Any],
        why: str,
        delay_s: float | None = None,
    ) -> Outcome:
        now_ms = self._clock.now_ms()
        back = transitions.reason_to_go_back(row, saga_type, now_ms)
        if back is not None:
            undo = transitions.go_back(row, saga_type, back, now_ms, in_doubt=True)
            return Outcome("abort", undo)
        later = transitions.put_off(
            row, saga_type, why, now_ms, delay_s=delay_s, chance=self._chance()
        )
        return Outcome("retry", later)

    def _aborted(self, row: SagaRow, saga_type: SagaType[Any], reason: str) -> Outcome:
        now_ms = self._clock.now_ms()
        return Outcome("abort", transitions.aborted(row, saga_type, reason, now_ms))
