"""Owns what is done again and again in the background; decides nothing itself.

One job is no reason for all others to end: `except Exception` stands around one turn of
each. What went wrong is logged without any value, and the job has its next turn.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Mapping

import trio

from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import DomainError
from tchatd.observe.logging import get_logger

TICK_S = 1.0
PRUNE_INTERVAL_S = 600.0
PRUNE_ROUNDS_MAX = 1_000  # of one pass; what is left waits for the next one
HEALTH_INTERVAL_S = 2.0
HEALTH_TIMEOUT_S = 5.0
ALARM_IDLE_S = 60.0
RETRY_S = 2.0
MISTAKE_S_MAX = 300.0  # between two steps that failed for no foreseen reason
STEP_S_MIN = 0.01  # between two steps with much to do, so that others have their turn
_log = get_logger("jobs")


def report(name: str, error: Exception) -> None:
    """Log a mistake of ours: where it happened, and nothing of what it was about."""
    frames = traceback.extract_tb(error.__traceback__)
    _log.error(
        "job failed",
        what=name,
        error=type(error).__qualname__,
        at=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    )


async def every(interval_s: float, run: Callable[[], object]) -> None:
    """Call `run` at each interval until cancelled; a late call is not made up for."""
    while True:
        await trio.sleep(interval_s)
        try:
            run()
        except Exception as error:  # noqa: BLE001  # around one turn
            report(getattr(run, "__qualname__", "a tick"), error)


async def prune_regularly(
    prunes: Mapping[str, Callable[[], Awaitable[int]]], interval_s: float
) -> None:
    """Delete what is over, batch by batch, until cancelled.

    A store that is away is no reason to stop: the next pass finds the same rows.
    """
    while True:
        await trio.sleep(interval_s)
        for name, prune in prunes.items():
            total = 0
            try:
                for _ in range(PRUNE_ROUNDS_MAX):
                    count = await prune()
                    total += count
                    if not count:
                        break
            except DomainError as error:
                _log.warning("pruning put off", what=name, why=error.code)
            except Exception as error:  # noqa: BLE001  # around one turn
                report(name, error)
            if total:
                _log.info("pruned", what=name, rows=total)


class Alarm:
    """Runs a step when its next work is due, or when somebody wakes it.

    step: does some of what is due and answers when more will be, in milliseconds of
    the clock, or None if nothing is known of. It is asked again after `idle_s` at the
    latest: the clock may be set, and another node may have added something. A store
    that is away is tried again after `RETRY_S`; a step that fails for no foreseen
    reason ever later, whoever wakes it.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[int | None]],
        clock: Clock,
        idle_s: float = ALARM_IDLE_S,
    ) -> None:
        self._name = name
        self._step = step
        self._clock = clock
        self._idle_s = idle_s
        self._wake = trio.Event()
        self._is_away = False
        self._mistakes = 0

    def wake(self) -> None:
        """There may be something sooner than was known."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled; whatever a step does, a crash in it must be harmless."""
        while True:
            self._wake = trio.Event()
            wait_s = await self._once()
            with trio.move_on_after(wait_s):
                await self._wake.wait()

    async def _once(self) -> float:
        try:
            due_ms = await self._step()
        except DomainError as error:
            if not self._is_away:
                _log.warning("put off", what=self._name, why=error.code)
            self._is_away = True
            return RETRY_S
        except Exception as error:  # noqa: BLE001  # around one turn
            report(self._name, error)
            wait_s = min(RETRY_S * 2**self._mistakes, MISTAKE_S_MAX)
            self._mistakes = min(self._mistakes + 1, 16)
            await trio.sleep(wait_s)
            return 0
        self._is_away, self._mistakes = False, 0
        if due_ms is None:
            return self._idle_s
        wait_s = (due_ms - self._clock.now_ms()) / 1_000
        return min(max(wait_s, STEP_S_MIN), self._idle_s)


class StoreHealth:
    """Whether a store answers, asked every few seconds, for `/ready` to read."""

    def __init__(self, name: str, check: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._check = check
        self._problem: str | None = None

    def problem(self) -> str | None:
        return self._problem

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await trio.sleep(HEALTH_INTERVAL_S)

    async def look(self) -> None:
        before = self._problem
        try:
            with trio.fail_after(HEALTH_TIMEOUT_S):
                await self._check()
        except trio.TooSlowError:
            self._problem = "does not answer"
        except DomainError as error:
            self._problem = error.code
        except Exception as error:  # noqa: BLE001  # around one turn
            report(f"health of {self._name}", error)
            self._problem = "failed"
        else:
            self._problem = None
        if self._problem is None and before is not None:
            _log.info("store is back", store=self._name)
        elif self._problem is not None and before is None:
            _log.error("store is away", store=self._name, why=self._problem)
