"""Owns the time of day; passed to whoever needs it, so that a test can set it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from tchatd_ext.text import rfc3339

__all__ = ["LAST_MS", "Clock", "ManualClock", "SystemClock", "moment_ms", "rfc3339"]

LAST_MS: Final = 253_402_300_799_999
"""The last time that can be shown: the end of the year 9999."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def moment_ms(moment: datetime) -> int:
    """Milliseconds since 1970 of a time with an offset, which may put it out of what
    can be shown: 0 of an earlier one, LAST_MS of a later."""
    return max(0, min((moment - _EPOCH) // _MILLISECOND, LAST_MS))


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
