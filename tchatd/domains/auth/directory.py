"""Owns who has which number: user id <-> dense number, from memory where it can.

A user's number never changes and is never given to another, so that nothing here
grows stale; an erased user's sessions are ended, not looked for here.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from tchatd.domains.auth.models import UserRecord
from tchatd.domains.auth.store import UserLoader
from tchatd.kernel.lru import Lru


class Directory:
    """users_max: how many are remembered; each takes about 300 bytes."""

    def __init__(self, loader: UserLoader, users_max: int) -> None:
        self._loader = loader
        self._numbers: Lru[UUID, int] = Lru(users_max)
        self._ids: Lru[int, UUID] = Lru(users_max)

    def cached_id(self, number: int) -> UUID | None:
        return self._ids.get(number)

    def cached_number(self, user_id: UUID) -> int | None:
        return self._numbers.get(user_id)

    def remember(self, user_id: UUID, number: int) -> None:
        self._numbers.put(user_id, number)
        self._ids.put(number, user_id)

    def forget(self, number: int) -> None:
        """The user is no more; who asks for them is told so."""
        id = self._ids.pop(number)
        if id is not None:
            self._numbers.pop(id)

    async def numbers_of(self, ids: Sequence[UUID]) -> dict[UUID, int]:
        """By id; unknown ones are left out. One query at most, shared with others."""
        found: dict[UUID, int] = {}
        unknown: list[UUID] = []
        for user_id in dict.fromkeys(ids):
            number = self._numbers.get(user_id)
            if number is None:
                unknown.append(user_id)
            else:
                found[user_id] = number
        if unknown:
            for record in (await self._loader.by_id(unknown)).values():
                self._see(record)
                found[record.id] = record.number
        return found

    async def ids_of(self, numbers: Sequence[int]) -> dict[int, UUID]:
        """By number; unknown ones are left out. One query at most."""
        found: dict[int, UUID] = {}
        unknown: list[int] = []
        for number in dict.fromkeys(numbers):
            user_id = self._ids.get(number)
            if user_id is None:
                unknown.append(number)
            else:
                found[number] = user_id
        if unknown:
            for record in (await self._loader.by_number(unknown)).values():
                self._see(record)
                found[record.number] = record.id
        return found

    def _see(self, record: UserRecord) -> None:
        self.remember(record.id, record.number)
