"""Who has which number, from memory where it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID, uuid4

from tchatd.domains.auth.directory import Directory
from tchatd.domains.auth.models import UserRecord
from tchatd.stores.memory.auth import MemoryAuthStore
from tests.support.auth_store import new_user


class Loader:
    """A `UserLoader` that remembers what it was asked."""

    def __init__(self, store: MemoryAuthStore) -> None:
        self._store = store
        self.asked: list[list[UUID] | list[int]] = []

    async def by_id(self, ids: Sequence[UUID]) -> Mapping[UUID, UserRecord]:
        self.asked.append(list(ids))
        return {user.id: user for user in await self._store.users_by_id(ids)}

    async def by_number(self, numbers: Sequence[int]) -> Mapping[int, UserRecord]:
        self.asked.append(list(numbers))
        return {
            user.number: user for user in await self._store.users_by_number(numbers)
        }


async def people(store: MemoryAuthStore, count: int) -> list[UserRecord]:
    return [await store.create_user(new_user(str(i))) for i in range(count)]


async def test_only_the_unknown_are_asked_for_and_each_once() -> None:
    store = MemoryAuthStore()
    a, b, c = await people(store, 3)
    loader = Loader(store)
    directory = Directory(loader, 10)
    directory.remember(a.id, a.number)
    nobody = uuid4()
    numbers = await directory.numbers_of([a.id, b.id, b.id, nobody])
    assert numbers == {a.id: a.number, b.id: b.number}
    ids = await directory.ids_of([a.number, b.number, c.number, c.number, 99])
    assert ids == {user.number: user.id for user in (a, b, c)}
    assert loader.asked == [[b.id, nobody], [c.number, 99]]
    assert await directory.numbers_of([c.id]) == {c.id: c.number}
    assert len(loader.asked) == 2
    assert await directory.numbers_of([]) == {}


async def test_what_is_cached_is_told_without_waiting() -> None:
    store = MemoryAuthStore()
    [a] = await people(store, 1)
    directory = Directory(Loader(store), 10)
    assert directory.cached_id(a.number) is None
    assert directory.cached_number(a.id) is None
    await directory.ids_of([a.number])
    assert directory.cached_id(a.number) == a.id
    assert directory.cached_number(a.id) == a.number


async def test_the_directory_is_bounded_and_still_answers_beyond() -> None:
    store = MemoryAuthStore()
    users = await people(store, 20)
    directory = Directory(Loader(store), 5)
    for _ in range(2):
        numbers = await directory.numbers_of([user.id for user in users])
        assert numbers == {user.id: user.number for user in users}
    known = [u for u in users if directory.cached_number(u.id) is not None]
    assert len(known) == 5


async def test_who_is_no_more_is_looked_for_again() -> None:
    store = MemoryAuthStore()
    [a] = await people(store, 1)
    loader = Loader(store)
    directory = Directory(loader, 10)
    directory.remember(a.id, a.number)
    directory.forget(a.number)
    directory.forget(a.number)
    assert directory.cached_number(a.id) is None
    await directory.ids_of([a.number])
    assert loader.asked == [[a.number]]
