"""Owns whose privacy, contacts and blocks are in memory, and what they decide.

Whoever asks about two people loads both first, then asks without waiting; what was
forgotten in between is refused, never shown. Those who never decided anything, the
most, are one bit each.

A circle that was read before a change and arrives after it must not undo it: the
higher version stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from tchatd.domains.people import rules
from tchatd.domains.people.models import PLAIN, Circle, Sight
from tchatd.domains.people.store import CircleLoader
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.lru import Lru


class Circles:
    """circles_max, plain_max: users kept who decided something, and who did not."""

    def __init__(self, loader: CircleLoader, circles_max: int, plain_max: int) -> None:
        self._loader = loader
        self._known: Lru[int, Circle] = Lru(circles_max)
        self._plain = BitMap()
        self._plain_max = plain_max

    def peek(self, number: int) -> Circle | None:
        """None: it has to be loaded."""
        if number in self._plain:
            return PLAIN
        return self._known.get(number)

    async def get(self, number: int) -> Circle:
        circle = self.peek(number)
        if circle is not None:
            return circle
        return (await self._ask([number]))[number]

    async def load(self, numbers: Sequence[int]) -> None:
        """Have them in memory. Raises: Unavailable."""
        missing = [number for number in numbers if self.peek(number) is None]
        if missing:
            await self._ask(missing)

    async def _ask(self, numbers: Sequence[int]) -> dict[int, Circle]:
        found = await self._loader.circles(numbers)
        return {number: self.put(number, found.get(number)) for number in numbers}

    def put(self, number: int, circle: Circle | None) -> Circle:
        """What was read or changed; returns the newest that is known."""
        known = self._known.peek(number)
        if known is not None and (circle is None or known.version > circle.version):
            return known
        if circle is None:
            if len(self._plain) >= self._plain_max:
                self._plain.clear()
            self._plain.add(number)
            return PLAIN
        self._plain.discard(number)
        self._known.put(number, circle)
        return circle

    # What they decide, without waiting.

    def sight(self, viewer: int, target: int) -> Sight:
        """How well `viewer` sees when `target` is here; nothing, if it is not known."""
        if viewer == target:
            return "exact"
        theirs, own = self.peek(target), self.peek(viewer)
        if theirs is None or own is None:
            return "nothing"
        if theirs is PLAIN and own is PLAIN:
            return "exact"
        return rules.sight(viewer, own, target, theirs)

    def is_blocked(self, by: int, user: int) -> bool | None:
        """Whether `by` blocks `user`; None: `by` has to be loaded."""
        if by in self._plain:
            return False
        circle = self._known.get(by)
        return None if circle is None else user in circle.blocked

    async def not_addable(self, adder: int, numbers: Sequence[int]) -> list[int]:
        """Those of `numbers` who do not let `adder` put them into a group."""
        await self.load(numbers)
        refusing = []
        for number in numbers:
            circle = await self.get(number)
            if not rules.admits(circle.privacy.groups, circle, adder):
                refusing.append(number)
        return refusing
