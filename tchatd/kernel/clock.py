"""Owns the time of day; passed to whoever needs it, so that a test can set it."""

from __future__ import annotations

import time
from typing import Protocol

from tchatd_ext.text import rfc3339

__all__ = ["Clock", "ManualClock", "SystemClock", "rfc3339"]


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
