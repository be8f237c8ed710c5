"""Owns when Python looks for cycles of garbage: rarely, and not in what stays.

A full pass over the modules, routes and settings of a running daemon stopped every
client for 40 to 70 ms on the reference machine, several times a second's worth of
messages. Hardly anything here is cyclic (what is hot is a msgspec Struct with
`gc=False` or dies by its reference count), so what is there when the daemon is ready
is set aside for good, and later passes are few and short.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG_MAX: Final = 20_000
"""New containers before the young ones are looked at: a pass of about a millisecond."""
YOUNG_PASSES: Final = 20
OLD_PASSES: Final = 50


def settle() -> None:
    """Collect once, then set aside everything that is alive now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, YOUNG_PASSES, OLD_PASSES)
