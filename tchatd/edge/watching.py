"""Owns which connection watches which users, in little memory.

A user whom one connection watches costs an entry of a dict; the connections of several
are a tuple, of many a set. What a connection watches is kept by its reason (asked for
by name, or for a dialog that is open there) as an array, 4 bytes each.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Final

BY_NAME: Final = ""
"""The reason of who was asked for by id; every other is the id of a dialog."""
_TUPLE_MAX: Final = 8

_Connections = int | tuple[int, ...] | set[int]


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

    def __contains__(self, number: int) -> bool:
        return any(number in kept for kept in self._by_reason.values())

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
