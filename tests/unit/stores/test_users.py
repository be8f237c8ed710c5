"""Users come many by one query, by id and by number."""

from __future__ import annotations

from uuid import uuid4

import trio

from tchatd.domains.auth.models import UserRecord
from tchatd.stores.memory.auth import MemoryAuthStore
from tchatd.stores.users import CoalescedUsers
from tests.support.auth_store import new_user


async def test_users_are_loaded_together() -> None:
    store = MemoryAuthStore()
    users = [await store.create_user(new_user(str(i))) for i in range(30)]
    loader = CoalescedUsers(store)
    before = store.queries
    found: list[UserRecord] = []

    async def load(user: UserRecord) -> None:
        found.extend((await loader.by_id([user.id, uuid4()])).values())
        found.extend((await loader.by_number([user.number, 99])).values())

    async with trio.open_nursery() as nursery:
        for user in users:
            nursery.start_soon(load, user)
    assert sorted(user.number for user in found) == sorted(list(range(1, 31)) * 2)
    assert store.queries - before <= 6
