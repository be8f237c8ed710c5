"""Owns the loading of users: many who ask at once, one query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from tchatd.domains.auth.models import UserRecord
from tchatd.domains.auth.store import UserStore
from tchatd.stores.coalescing import Coalescer


class CoalescedUsers:
    """A `UserLoader` over any `UserStore`."""

    def __init__(
        self, store: UserStore, *, batch_max: int = 2_000, waiting_max: int = 100_000
    ) -> None:
        self._store = store
        self._by_id: Coalescer[UUID, UserRecord] = Coalescer(
            self._fetch_by_id, batch_max=batch_max, waiting_max=waiting_max
        )
        self._by_number: Coalescer[int, UserRecord] = Coalescer(
            self._fetch_by_number, batch_max=batch_max, waiting_max=waiting_max
        )

    async def by_id(self, ids: Sequence[UUID]) -> Mapping[UUID, UserRecord]:
        return await self._by_id.get(ids)

    async def by_number(self, numbers: Sequence[int]) -> Mapping[int, UserRecord]:
        return await self._by_number.get(numbers)

    async def _fetch_by_id(self, ids: Sequence[UUID]) -> Mapping[UUID, UserRecord]:
        return {user.id: user for user in await self._store.users_by_id(ids)}

    async def _fetch_by_number(
        self, numbers: Sequence[int]
    ) -> Mapping[int, UserRecord]:
        return {
            user.number: user for user in await self._store.users_by_number(numbers)
        }
