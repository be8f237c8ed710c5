"""Owns when connections run out: one wheel of seconds for all of them, no timers."""

from __future__ import annotations

from collections.abc import Iterator


class Expiry:
    """Connections by the second in which they are due.

    Adding, discarding and taking what is due cost O(1) for each connection. The time
    of day may jump: what is overdue is found whenever it is looked for.
    """

    __slots__ = ("_by_second", "_second")

    def __init__(self, now_ms: int) -> None:
        self._by_second: dict[int, set[int]] = {}
        self._second = now_ms // 1000

    def add(self, at_ms: int, connection: int) -> None:
        """Due at the first whole second after `at_ms`."""
        second = max(at_ms // 1000 + 1, self._second)
        self._by_second.setdefault(second, set()).add(connection)

    def discard(self, at_ms: int, connection: int) -> None:
        """`at_ms` as it was added; does nothing if it is not there."""
        second = at_ms // 1000 + 1
        group = self._by_second.get(second)
        if group is not None:
            group.discard(connection)
            if not group:
                del self._by_second[second]

    def due(self, now_ms: int) -> Iterator[int]:
        """Take out, one by one, what is due."""
        now = now_ms // 1000
        span = range(self._second, now + 1)
        seconds = span if len(span) <= len(self._by_second) else sorted(self._by_second)
        self._second = now
        for second in seconds:
            if second <= now:
                yield from self._by_second.pop(second, ())

    def __len__(self) -> int:
        return sum(len(group) for group in self._by_second.values())
