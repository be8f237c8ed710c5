"""Owns privacy, contacts, blocks and last times in memory: for tests, and as a model.

Every method has one checkpoint before it touches anything, as `MemoryAuthStore`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from tchatd.domains.people import rules
from tchatd.domains.people.models import (
    ChangePrivacy,
    Circle,
    Numbers,
    Privacy,
    Relation,
)


class MemoryPeopleStore:
    """A `PeopleStore` and a `LastSeenStore`. queries: how many there were."""

    def __init__(self) -> None:
        self.queries = 0
        self._privacy: dict[int, Privacy] = {}
        self._versions: dict[int, int] = {}
        self._contacts: dict[int, dict[int, int]] = {}
        self._blocks: dict[int, dict[int, int]] = {}
        self._preferences: dict[int, bytes] = {}
        self._last_seen: dict[int, int] = {}

    async def _query(self) -> None:
        await trio.lowlevel.checkpoint()
        self.queries += 1

    async def circles(self, numbers: Sequence[int]) -> Mapping[int, Circle]:
        await self._query()
        return {n: self._circle(n) for n in numbers if n in self._versions}

    async def change_privacy(self, number: int, change: ChangePrivacy) -> Circle:
        await self._query()
        privacy = self._privacy.get(number, Privacy())
        self._privacy[number] = rules.changed(privacy, change)
        return self._changed(number)

    async def add_contacts(
        self, number: int, contacts: Sequence[int], now_ms: int, contacts_max: int
    ) -> Circle | None:
        await self._query()
        return self._add(self._contacts, number, contacts, now_ms, contacts_max)

    async def remove_contacts(self, number: int, contacts: Sequence[int]) -> Circle:
        await self._query()
        return self._remove(self._contacts, number, contacts)

    async def contacts(self, number: int, after: int, limit: int) -> list[Relation]:
        await self._query()
        return _page(self._contacts.get(number, {}), after, limit)

    async def add_blocks(
        self, number: int, blocked: Sequence[int], now_ms: int, blocks_max: int
    ) -> Circle | None:
        await self._query()
        return self._add(self._blocks, number, blocked, now_ms, blocks_max)

    async def remove_blocks(self, number: int, blocked: Sequence[int]) -> Circle:
        await self._query()
        return self._remove(self._blocks, number, blocked)

    async def blocks(self, number: int, after: int, limit: int) -> list[Relation]:
        await self._query()
        return _page(self._blocks.get(number, {}), after, limit)

    async def preferences(self, number: int) -> bytes | None:
        await self._query()
        return self._preferences.get(number)

    async def set_preferences(self, number: int, preferences: bytes) -> None:
        await self._query()
        self._preferences[number] = preferences
        self._changed(number)

    async def last_seen(self, numbers: Sequence[int]) -> Mapping[int, int]:
        await self._query()
        return {n: self._last_seen[n] for n in numbers if n in self._last_seen}

    async def keep_last_seen(self, seen: Mapping[int, int]) -> None:
        await self._query()
        for number, at_ms in seen.items():
            self._last_seen[number] = max(at_ms, self._last_seen.get(number, 0))

    def _circle(self, number: int) -> Circle:
        return Circle(
            self._versions[number],
            self._privacy.get(number, Privacy()),
            Numbers(self._contacts.get(number, ())),
            Numbers(self._blocks.get(number, ())),
        )

    def _changed(self, number: int) -> Circle:
        self._versions[number] = self._versions.get(number, 0) + 1
        return self._circle(number)

    def _add(
        self,
        lists: dict[int, dict[int, int]],
        number: int,
        others: Sequence[int],
        now_ms: int,
        most: int,
    ) -> Circle | None:
        before = lists.get(number, {})
        after = dict.fromkeys(others, now_ms) | before
        if len(after) > max(most, len(before)):
            return None
        lists[number] = after
        return self._changed(number)

    def _remove(
        self, lists: dict[int, dict[int, int]], number: int, others: Sequence[int]
    ) -> Circle:
        listed = lists.setdefault(number, {})
        for other in others:
            listed.pop(other, None)
        return self._changed(number)


def _page(listed: Mapping[int, int], after: int, limit: int) -> list[Relation]:
    rows = [Relation(n, listed[n]) for n in sorted(listed) if n > after]
    return rows[:limit]
