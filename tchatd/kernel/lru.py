"""Owns a bounded cache: what was not used for longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Lru(Generic[K, V]):
    """At most `size_max` entries; putting one more drops the least recently used."""

    __slots__ = ("_entries", "size_max")

    def __init__(self, size_max: int) -> None:
        assert size_max >= 1
        self.size_max = size_max
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, now the most recently used; None if it is not here."""
        entries = self._entries
        if key not in entries:
            return None
        entries.move_to_end(key)
        return entries[key]

    def peek(self, key: K) -> V | None:
        """The value, without counting as a use."""
        return self._entries.get(key)

    def put(self, key: K, value: V) -> V | None:
        """Remember it; returns the value that had to go for it, if one had."""
        entries = self._entries
        entries[key] = value
        entries.move_to_end(key)
        if len(entries) <= self.size_max:
            return None
        return entries.popitem(last=False)[1]

    def pop(self, key: K) -> V | None:
        return self._entries.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[K]:
        """From the least to the most recently used."""
        return iter(self._entries)
