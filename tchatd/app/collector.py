"""Owns when Python looks for cycles of garbage: rarely, and not in what stays.

A full pass over the modules, routes and settings of a running daemon stopped every
client for 40 to 70 ms on the reference machine, several times a second's worth of
messages. Hardly anything here is cyclic (what is hot is a msgspec Struct with
`gc=False` or dies by its reference count), so what is there when the daemon is ready
is set aside for good, later passes are short and look at what is new, and the whole is
looked at when it is quiet.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

YOUNG_MAX: Final = 5_000
"""New containers before the young ones are looked at: less than a millisecond."""
YOUNG_PASSES: Final = 3
"""Before those that survived are: when thousands of tasks begin at once, all do."""
NEVER: Final = 1 << 30
TICK_S: Final = 10.0
"""Between two looks at how much there is to do."""
QUIET_RATE: Final = 20.0
"""Things taken from clients a second."""
QUIET_S: Final = 60.0
ALWAYS_S: Final = 900.0


def settle() -> None:
    """Collect once, then set aside everything that is alive now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, YOUNG_PASSES, NEVER)


class Collector:
    """Whole passes, when hardly anybody is there to notice; else every `ALWAYS_S`.

    taken: how much came from clients so far. `tick` is for a task to call now and then.
    """

    def __init__(self, taken: Callable[[], float], now: Callable[[], float]) -> None:
        self._taken, self._now = taken, now
        self._collected_s = self._looked_s = now()
        self._before = taken()

    def tick(self) -> bool:
        """Whether there was a pass."""
        now_s, taken = self._now(), self._taken()
        rate = (taken - self._before) / max(now_s - self._looked_s, 1e-3)
        self._looked_s, self._before = now_s, taken
        age_s = now_s - self._collected_s
        if age_s < (QUIET_S if rate <= QUIET_RATE else ALWAYS_S):
            return False
        gc.collect()
        self._collected_s = self._now()
        return True
