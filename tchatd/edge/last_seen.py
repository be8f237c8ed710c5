"""Owns when users were last here: what is known in memory, and what is still to write.

Theory of operation
    Times are kept by the number's upper bits: for each 65,536 numbers that have any, a
    bitmap of whose time is known and an array with one time each, in the order of the
    numbers. A number's place in the array is its rank in the bitmap. So a time takes
    six bytes or less, and putting one in moves at most 256 KiB.

    PostgreSQL has the truth, up to `write_s` old; after a crash the times of the last
    interval are lost, and of who was here by then up to an hour, since each pass also
    writes a sixtieth of those who are online. Memory is full at `times_max`: another is
    then forgotten, the next of a hand that goes round, and read again when it is asked
    for. One that is not written yet is forgotten only if nothing else is left.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import Final

import trio

from tchatd.edge.ports import LastSeenStore
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import DomainError
from tchatd.observe.logging import get_logger

NEVER: Final = 0
"""Known not to be known: the store has no time of theirs."""
PASSES: Final = 60
"""In so many passes everybody who stays online is written once."""
WRITTEN_AT_ONCE: Final = 2_000
HAND_STEPS_MAX: Final = 64
_LOW: Final = 0xFFFF
_log = get_logger("presence")


class _Page:
    __slots__ = ("known", "seconds")

    def __init__(self) -> None:
        self.known = BitMap()
        self.seconds = array("I")


class LastTimes:
    """Seconds since 1970 by user number, up to `size_max` of them."""

    def __init__(self, size_max: int) -> None:
        assert size_max >= 1
        self._size_max = size_max
        self._pages: dict[int, _Page] = {}
        self._size = 0
        self._hand = 0
        self.unwritten = BitMap()

    def __len__(self) -> int:
        return self._size

    def get(self, number: int) -> int | None:
        page = self._pages.get(number >> 16)
        if page is None or number & _LOW not in page.known:
            return None
        return page.seconds[page.known.rank(number & _LOW) - 1]

    def put(self, number: int, seconds: int) -> None:
        page = self._pages.get(number >> 16)
        if page is None or number & _LOW not in page.known:
            if self._size >= self._size_max:
                self._forget_one()
            page = self._pages.setdefault(number >> 16, _Page())
            page.known.add(number & _LOW)
            page.seconds.insert(page.known.rank(number & _LOW) - 1, seconds)
            self._size += 1
        else:
            page.seconds[page.known.rank(number & _LOW) - 1] = seconds

    def _forget_one(self) -> None:
        number = self._hand
        for _ in range(HAND_STEPS_MAX):
            number = self._next(number)
            if number not in self.unwritten:
                break
        self._hand = number
        page = self._pages[number >> 16]
        page.seconds.pop(page.known.rank(number & _LOW) - 1)
        page.known.discard(number & _LOW)
        self.unwritten.discard(number)
        self._size -= 1
        if not page.known:
            del self._pages[number >> 16]

    def _next(self, number: int) -> int:
        """The first that is known from `number + 1` on, or else the very first."""
        high, low = number >> 16, number & _LOW
        page = self._pages.get(high)
        if page is not None:
            place = page.known.rank(low)
            if place < len(page.known):
                return high << 16 | page.known[place]
        later = [other for other in self._pages if other > high]
        high = min(later or self._pages)
        return high << 16 | self._pages[high].known[0]


class LastSeen:
    """Told by presence who left; `run` writes it. online: who is seen as here."""

    def __init__(
        self,
        store: LastSeenStore,
        clock: Clock,
        *,
        times_max: int,
        write_s: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._write_s = write_s
        self._times = LastTimes(times_max)
        self.online: Callable[[], BitMap] = BitMap
        self._pass = 0

    def __len__(self) -> int:
        return len(self._times)

    def left(self, number: int) -> None:
        """They were here until now."""
        self._times.put(number, self._clock.now_ms() // 1000)
        self._times.unwritten.add(number)

    def knows(self, number: int) -> bool:
        return self._times.get(number) is not None

    def peek_ms(self, number: int) -> int | None:
        """None: never, or it was not loaded."""
        seconds = self._times.get(number)
        return None if not seconds else seconds * 1000

    async def load(self, numbers: Iterable[int]) -> None:
        """Have their times in memory. Raises: Unavailable."""
        missing = [number for number in numbers if self._times.get(number) is None]
        if not missing:
            return
        found = await self._store.last_seen(missing)
        for number in missing:
            if self._times.get(number) is None:  # else they left meanwhile
                self._times.put(number, found.get(number, NEVER) // 1000)

    async def run(self) -> None:
        """Write every `write_s` until cancelled, also if the store was away."""
        while True:
            await trio.sleep(self._write_s)
            self._touch()
            try:
                await self.write()
            except DomainError as error:
                _log.warning("last times put off", why=error.code)

    async def write(self) -> int:
        """What is to be written; how many it were. Raises: Unavailable."""
        total = 0
        for _ in range(len(self._times.unwritten) // WRITTEN_AT_ONCE + 1):
            some = list(self._times.unwritten[:WRITTEN_AT_ONCE])
            if not some:
                break
            seen = {number: self._times.get(number) or NEVER for number in some}
            await self._store.keep_last_seen({n: s * 1000 for n, s in seen.items()})
            for number, seconds in seen.items():
                if self._times.get(number) == seconds:
                    self._times.unwritten.discard(number)
            total += len(some)
        return total

    def _touch(self) -> None:
        """A part of those who are online was here just now."""
        online = self.online()
        count = len(online)
        start, end = (count * i // PASSES for i in (self._pass, self._pass + 1))
        self._pass = (self._pass + 1) % PASSES
        for number in online[start:end]:
            self.left(number)
