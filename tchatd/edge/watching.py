"""Owns which connection watches which users, in little memory.

A user whom one connection watches costs an entry of a dict; the connections of several
are a tuple, of many a set. What a connection watches is kept by its reason (asked for
by name, or for a dialog that is open there) as an array, 4 bytes each. Those who may
not see whom they watch are kept apart, so that a change is told without a question.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from tchatd.kernel.errors import DomainError, ErrorKind, Unavailable

BY_NAME: Final = ""
"""The reason of who was asked for by id; every other is the id of a dialog."""
_TUPLE_MAX: Final = 8

_Connections = int | tuple[int, ...] | set[int]


class TooManyWatched(DomainError):
    code, kind = "too-many-watched", ErrorKind.UNPROCESSABLE
    title = "A connection watches only so many people"


class WatchLimits(Struct, frozen=True, kw_only=True):
    """watched_max: users of one connection; watches_max: of all together.

    dialogs_max: dialogs that are open on one connection.
    """

    watched_max: int
    watches_max: int
    dialogs_max: int


class Watchers:
    """Connections by the number of the user whom they watch."""

    __slots__ = ("_by_number",)

    def __init__(self) -> None:
        self._by_number: dict[int, _Connections] = {}

    def __len__(self) -> int:
        """Users who are watched."""
        return len(self._by_number)

    def of(self, number: int) -> Iterable[int]:
        """Not to be kept while it changes."""
        found = self._by_number.get(number)
        if found is None:
            return ()
        return (found,) if isinstance(found, int) else found

    def add(self, number: int, connection: int) -> None:
        found = self._by_number.get(number)
        if found is None:
            self._by_number[number] = connection
        elif isinstance(found, set):
            found.add(connection)
        else:
            few = (found,) if isinstance(found, int) else found
            if connection not in few:
                more = (*few, connection)
                self._by_number[number] = set(more) if len(more) > _TUPLE_MAX else more

    def discard(self, number: int, connection: int) -> bool:
        """Whether it was there."""
        found = self._by_number.get(number)
        if found is None:
            return False
        if isinstance(found, int):
            if found != connection:
                return False
            del self._by_number[number]
            return True
        if connection not in found:
            return False
        if isinstance(found, set):
            found.discard(connection)
            if len(found) <= _TUPLE_MAX // 2:
                self._by_number[number] = tuple(found)
            return True
        left = tuple(other for other in found if other != connection)
        self._by_number[number] = left[0] if len(left) == 1 else left
        return True


class Watched:
    """What one connection watches, and why."""

    __slots__ = ("_by_reason",)

    def __init__(self) -> None:
        self._by_reason: dict[str, array[int]] = {}

    def __len__(self) -> int:
        return len(self.numbers())

    def numbers(self) -> set[int]:
        return set().union(*self._by_reason.values())

    def has(self, reason: str) -> bool:
        return reason in self._by_reason

    @property
    def dialogs(self) -> int:
        return len(self._by_reason) - (BY_NAME in self._by_reason)

    def of(self, reason: str) -> set[int]:
        return set(self._by_reason.get(reason, ()))

    def set(self, reason: str, numbers: Iterable[int]) -> None:
        """Instead of what was watched for this reason; an open dialog may be empty."""
        kept = array("I", sorted(numbers))
        if kept or reason != BY_NAME:
            self._by_reason[reason] = kept
        else:
            self._by_reason.pop(reason, None)

    def drop(self, reason: str) -> None:
        self._by_reason.pop(reason, None)


class Watches:
    """Which connection watches whom; its length is how many watches there are."""

    def __init__(self, limits: WatchLimits) -> None:
        self._limits = limits
        self._seeing = Watchers()
        self._kept_apart = Watchers()
        self._watched: dict[int, Watched] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def seeing(self, number: int) -> Iterable[int]:
        """Connections to tell of a user. Not to be kept while it changes."""
        return self._seeing.of(number)

    def watching(self, number: int) -> list[int]:
        """Those, and who is kept apart."""
        return [*self._seeing.of(number), *self._kept_apart.of(number)]

    def watched(self, connection: int) -> set[int]:
        watched = self._watched.get(connection)
        return set() if watched is None else watched.numbers()

    def add(
        self,
        connection: int,
        reason: str,
        numbers: Iterable[int],
        sees: Callable[[int], bool],
    ) -> None:
        """By name beside those of before, of a dialog instead of them.

        sees: whether its user may see one of them.

        Raises: TooManyWatched, Unavailable; then nothing is watched anew.
        """
        watched = self._watched.get(connection) or Watched()
        limits, wanted = self._limits, set(numbers)
        if reason == BY_NAME:
            wanted |= watched.of(BY_NAME)
        elif not watched.has(reason) and watched.dialogs >= limits.dialogs_max:
            raise TooManyWatched(f"At most {limits.dialogs_max} dialogs.")
        before = watched.numbers()
        if len(before | wanted) > limits.watched_max:
            raise TooManyWatched(f"At most {limits.watched_max}.")
        if self._count + len(wanted - before) > limits.watches_max:
            raise Unavailable("Too much is watched.", retry_after_s=60)
        self._watched[connection] = watched
        self._change(connection, watched, reason, wanted)
        for number in wanted - before:
            right = self._seeing if sees(number) else self._kept_apart
            right.add(number, connection)

    def discard(self, connection: int, numbers: Iterable[int]) -> None:
        """Not by name any more."""
        watched = self._watched.get(connection)
        if watched is not None:
            left = watched.of(BY_NAME).difference(numbers)
            self._change(connection, watched, BY_NAME, left)

    def drop(self, connection: int, reason: str) -> None:
        """Not for this reason any more."""
        watched = self._watched.get(connection)
        if watched is not None:
            self._change(connection, watched, reason, None)

    def forget(self, connection: int) -> None:
        """It watches nobody."""
        watched = self._watched.pop(connection, None)
        if watched is not None:
            numbers = watched.numbers()
            self._count -= len(numbers)
            for number in numbers:
                self._unsubscribe(number, connection)

    def place(self, connection: int, number: int, *, sees: bool) -> bool:
        """Put a watch where it belongs; whether it was elsewhere."""
        right, wrong = self._seeing, self._kept_apart
        if not sees:
            right, wrong = wrong, right
        moved = wrong.discard(number, connection)
        if moved:
            right.add(number, connection)
        return moved

    def _change(
        self, connection: int, watched: Watched, reason: str, wanted: set[int] | None
    ) -> None:
        """None: not for this reason any more. Who is watched anew is the caller's."""
        before = watched.numbers()
        if wanted is None:
            watched.drop(reason)
        else:
            watched.set(reason, wanted)
        after = watched.numbers()
        self._count += len(after) - len(before)
        for number in before - after:
            self._unsubscribe(number, connection)
        if not after and not watched.dialogs:
            del self._watched[connection]

    def _unsubscribe(self, number: int, connection: int) -> None:
        if not self._seeing.discard(number, connection):
            self._kept_apart.discard(number, connection)
