"""Owns the time of day; passed to whoever needs it, so that a test can set it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """now_ms: milliseconds since 1970-01-01 UTC; may step backwards."""

    def now_ms(self) -> int: ...


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that stands still until it is moved; for tests and simulations."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, milliseconds: int) -> None:
        self._now_ms += milliseconds


_prefix_second = -1
_prefix = ""


def rfc3339(at_ms: int) -> str:
    """`2026-01-31T08:00:00.123Z` of milliseconds since 1970, before the year 10000.

    The prefix of the last second is kept: times of one batch share it.
    """
    global _prefix_second, _prefix
    second, millisecond = divmod(at_ms, 1000)
    if second != _prefix_second:
        _prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        _prefix_second = second
    return f"{_prefix}.{millisecond:03d}Z"
