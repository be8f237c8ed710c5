"""Owns identifiers: random (v4) where order must not show, time-ordered (v7) else.

Source: RFC 9562, sections 5.4 and 5.7. Randomness comes in by the constructor, so
that a seed replays a run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from uuid import UUID

from tchatd.kernel.clock import Clock
from tchatd_ext.text import packed_v7_text, uuid_text

__all__ = ["Ids", "packed_v7_text", "time_ms_of_v7", "uuid_text"]

_VARIANT = 0b10 << 62
_RAND_B_MASK = (1 << 62) - 1


class Ids:
    """Makes UUIDs. The v7 ones of one instance never decrease within one process."""

    def __init__(
        self, clock: Clock, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._clock = clock
        self._random = random
        self._last = 0

    def v4(self) -> UUID:
        return UUID(bytes=self._random(16), version=4)

    def v7(self) -> UUID:
        """48 bits of milliseconds, then 74 random bits; strictly increasing."""
        random = int.from_bytes(self._random(10), "big")
        rand_a = (random >> 62) & 0xFFF
        value = (
            (self._clock.now_ms() << 80)
            | (0x7 << 76)
            | (rand_a << 64)
            | _VARIANT
            | (random & _RAND_B_MASK)
        )
        if value <= self._last:
            value = _next_v7(self._last)
        self._last = value
        return UUID(int=value)


def _next_v7(last: int) -> int:
    """The smallest v7 above `last`: one more in rand_b, carried into rand_a, time."""
    rand_b = (last & _RAND_B_MASK) + 1
    head = last >> 64
    if rand_b > _RAND_B_MASK:
        rand_b = 0
        rand_a = (head & 0xFFF) + 1
        time_ms = head >> 16
        if rand_a > 0xFFF:
            rand_a, time_ms = 0, time_ms + 1
        head = (time_ms << 16) | (0x7 << 12) | rand_a
    return (head << 64) | _VARIANT | rand_b


def time_ms_of_v7(id: UUID) -> int | None:
    """Milliseconds since 1970 in a version 7 UUID; None for any other version."""
    return id.int >> 80 if id.version == 7 else None
