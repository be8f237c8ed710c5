"""Owns token buckets; refuses to know what is limited.

A bucket is kept as one number: the time at which it will be full again (GCRA). A
bucket that is full is the same as one that was never seen, so that forgetting the
longest unused key costs little.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable


class Buckets:
    """One token bucket for each key: `burst` at once, refilled at `per_minute`.

    keys_max: beyond it the key that was unused for longest is forgotten.
    now: monotonic seconds.
    """

    __slots__ = ("_full_at", "_interval_s", "_keys_max", "_now", "_slack_s")

    def __init__(
        self,
        *,
        per_minute: float,
        burst: int,
        keys_max: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        assert per_minute > 0
        assert burst >= 1
        assert keys_max >= 1
        self._interval_s = 60.0 / per_minute
        self._slack_s = self._interval_s * burst
        self._keys_max = keys_max
        self._now = now
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def wait_s(self, key: Hashable) -> int:
        """As `take`, without taking one."""
        now = self._now()
        return self._wait_s(max(self._full_at.get(key, now), now), now)

    def take(self, key: Hashable) -> int:
        """0 when a token was taken; else whole seconds until there will be one."""
        now = self._now()
        full_at = self._full_at.get(key)
        if full_at is None:
            if len(self._full_at) >= self._keys_max:
                self._full_at.popitem(last=False)
            self._full_at[key] = now + self._interval_s
            return 0
        self._full_at.move_to_end(key)
        full_at = max(full_at, now)
        wait_s = self._wait_s(full_at, now)
        if not wait_s:
            self._full_at[key] = full_at + self._interval_s
        return wait_s

    def _wait_s(self, full_at: float, now: float) -> int:
        wait_s = full_at + self._interval_s - now - self._slack_s
        # A thousandth of a token is forgiven: sums of floats are not exact.
        return max(1, math.ceil(wait_s)) if wait_s > self._interval_s / 1000 else 0

    def __len__(self) -> int:
        return len(self._full_at)
