"""Owns when a provider that fails is left alone, and when it is tried again.

Theory of operation
    closed: every call goes out. Results are counted in a window that slides in
    BUCKETS steps; with a failure after which there are `calls_min` of them, of which
    `failure_percent` failed, it opens.
    open: every call is refused at once, for `open_s`.
    half-open: `trials_max` calls at once may try. One failure opens it again; as many
    successes as `trials_max` close it, with an empty window.

    A result counts only in the state in which its call went out: one that was slow
    enough to come after a change says nothing about now.

It owns no task and no lock: it is used on one thread, and time comes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal

from msgspec import Struct

BUCKETS: Final = 10
State = Literal["closed", "open", "half_open"]


class BreakerSettings(Struct, frozen=True, kw_only=True):
    window_s: float = 60.0
    calls_min: int = 10
    failure_percent: int = 50
    open_s: float = 30.0
    trials_max: int = 3


class BreakerOpen(Exception):
    """retry_after_s: whole seconds, at least 1."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"open for {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Permit:
    """Of one call. Exactly one of its methods counts; the later ones do nothing."""

    __slots__ = ("_breaker", "_era")

    def __init__(self, breaker: CircuitBreaker, era: int) -> None:
        self._breaker: CircuitBreaker | None = breaker
        self._era = era

    def succeeded(self) -> None:
        self._end(failed=False)

    def failed(self) -> None:
        self._end(failed=True)

    def abandoned(self) -> None:
        """The caller gave up, which says nothing of the provider."""
        self._end(failed=None)

    def _end(self, *, failed: bool | None) -> None:
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.ended(self._era, failed)


class CircuitBreaker:
    """now: seconds of a clock that does not step back. on_change: told the new state.

    Raises in `admit`: BreakerOpen.
    """

    def __init__(
        self,
        settings: BreakerSettings,
        now: Callable[[], float],
        on_change: Callable[[State], object] = lambda _: None,
    ) -> None:
        assert settings.calls_min >= 1
        assert settings.trials_max >= 1
        assert 1 <= settings.failure_percent <= 100
        self._settings = settings
        self._now = now
        self._on_change = on_change
        self._bucket_s = settings.window_s / BUCKETS
        self._is_open = False
        self._is_trying = False
        self._open_until_s = 0.0
        self._trying = 0
        self._trials_passed = 0
        self._era = 0
        self._clear()

    @property
    def state(self) -> State:
        if not self._is_open:
            return "half_open" if self._is_trying else "closed"
        return "half_open" if self._now() >= self._open_until_s else "open"

    @property
    def failure_percent(self) -> int:
        """Of the calls in the window, rounded down; 0 of none."""
        self._slide()
        calls = sum(self._calls)
        return sum(self._failures) * 100 // calls if calls else 0

    def admit(self) -> Permit:
        """Raises: BreakerOpen."""
        if self._is_open:
            wait_s = self._open_until_s - self._now()
            if wait_s > 0:
                raise BreakerOpen(max(1, math.ceil(wait_s)))
            self._is_open, self._is_trying = False, True
            self._trying = self._trials_passed = 0
            self._change()
        if self._is_trying:
            if self._trying >= self._settings.trials_max:
                raise BreakerOpen(1)
            self._trying += 1
        return Permit(self, self._era)

    def ended(self, era: int, failed: bool | None) -> None:
        """A call ended; `Permit` says it. failed: None if it does not count."""
        if era != self._era:
            return
        if self._is_trying:
            self._trial_ended(failed)
        elif failed is not None:
            self._count(failed=failed)

    def _trial_ended(self, failed: bool | None) -> None:
        self._trying -= 1
        if failed:
            self._open()
        elif failed is False:
            self._trials_passed += 1
            if self._trials_passed >= self._settings.trials_max:
                self._is_trying = False
                self._clear()
                self._change()

    def _count(self, *, failed: bool) -> None:
        self._slide()
        self._calls[-1] += 1
        self._failures[-1] += failed
        calls, failures = sum(self._calls), sum(self._failures)
        is_bad = failures * 100 >= self._settings.failure_percent * calls
        if failed and is_bad and calls >= self._settings.calls_min:
            self._open()

    def _open(self) -> None:
        self._is_open, self._is_trying = True, False
        self._open_until_s = self._now() + self._settings.open_s
        self._clear()
        self._change()

    def _change(self) -> None:
        """Calls under way belong to what was before."""
        self._era += 1
        self._on_change(self.state)

    def _clear(self) -> None:
        self._calls = [0] * BUCKETS
        self._failures = [0] * BUCKETS
        self._bucket = math.floor(self._now() / self._bucket_s)

    def _slide(self) -> None:
        bucket = math.floor(self._now() / self._bucket_s)
        steps = min(bucket - self._bucket, BUCKETS)
        if steps > 0:
            self._calls = self._calls[steps:] + [0] * steps
            self._failures = self._failures[steps:] + [0] * steps
            self._bucket = bucket
