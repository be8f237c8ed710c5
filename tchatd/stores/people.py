"""Owns the loading of circles and last times: many who ask at once, one query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tchatd.domains.people.models import Circle
from tchatd.domains.people.store import PeopleStore
from tchatd.edge.ports import LastSeenStore
from tchatd.stores.coalescing import Coalescer


class CoalescedPeople:
    """A `CircleLoader` over any `PeopleStore`."""

    def __init__(
        self, store: PeopleStore, *, batch_max: int = 2_000, waiting_max: int = 100_000
    ) -> None:
        self._circles: Coalescer[int, Circle] = Coalescer(
            store.circles, batch_max=batch_max, waiting_max=waiting_max
        )

    async def circles(self, numbers: Sequence[int]) -> Mapping[int, Circle]:
        return await self._circles.get(numbers)


class CoalescedLastSeen:
    """A `LastSeenStore` over any other, whose reads share queries."""

    def __init__(
        self,
        store: LastSeenStore,
        *,
        batch_max: int = 5_000,
        waiting_max: int = 500_000,
    ) -> None:
        self._store = store
        self._seen: Coalescer[int, int] = Coalescer(
            store.last_seen, batch_max=batch_max, waiting_max=waiting_max
        )

    async def last_seen(self, numbers: Sequence[int]) -> Mapping[int, int]:
        return await self._seen.get(numbers)

    async def keep_last_seen(self, seen: Mapping[int, int]) -> None:
        await self._store.keep_last_seen(seen)
