"""Owns rows that could not be worked on for a reason that nobody foresaw.

Such a row is a mistake of ours, and no reason to stop: it rests, twice as long each
time, while the rows behind it go on. `except Exception` stands here, around one row.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import DomainError
from tchatd.kernel.lru import Lru

REST_MS_MIN: Final = 60_000
REST_MS_MAX: Final = 3_600_000
ROWS_MAX: Final = 1_000
"""Of more, those that failed longest ago are tried at once."""


class _Resting(Struct, frozen=True, gc=False):
    rest_ms: int
    until_ms: int


class Quarantine:
    """report: told of each failure; it keeps what is in the row out of the log.

    It is empty after a start, so whoever runs into the same row again does so once.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: Lru[Hashable, _Resting] = Lru(ROWS_MAX)
        self.report: Callable[[Exception], object] = lambda _: None

    def __len__(self) -> int:
        """How many rows more have to be asked for to see others, too."""
        return len(self._rows)

    def rests(self, row: Hashable) -> bool:
        resting = self._rows.peek(row)
        return resting is not None and self._clock.now_ms() < resting.until_ms

    @contextmanager
    def around(self, row: Hashable) -> Iterator[None]:
        """What is done about one row. Raises DomainError: what may be expected."""
        try:
            yield
        except DomainError:
            raise
        except Exception as error:  # noqa: BLE001  # around one row
            before = self._rows.peek(row)
            rest_ms = REST_MS_MIN if before is None else 2 * before.rest_ms
            rest_ms = min(rest_ms, REST_MS_MAX)
            self._rows.put(row, _Resting(rest_ms, self._clock.now_ms() + rest_ms))
            self.report(error)
        else:
            self._rows.pop(row)
