"""Owns what every `PeopleStore` and `LastSeenStore` has to do; over memory and real."""

from __future__ import annotations

from typing import Protocol

import pytest
import trio

from tchatd.domains.people.models import ChangePrivacy, Circle, Numbers, Privacy
from tchatd.domains.people.store import PeopleStore
from tchatd.edge.ports import LastSeenStore

NOW = 1_800_000_000_000


class Store(PeopleStore, LastSeenStore, Protocol):
    """Both in one, as the two implementations are."""


class PeopleStoreContract:
    """Users 1 to 9 exist."""

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError

    async def test_who_never_decided_anything_is_in_no_answer(
        self, store: Store
    ) -> None:
        assert dict(await store.circles([1, 2])) == {}
        assert await store.preferences(1) is None
        assert await store.contacts(1, 0, 10) == []

    async def test_a_change_gives_the_whole_circle_after_it(self, store: Store) -> None:
        first = await store.change_privacy(1, ChangePrivacy(last_seen="nobody"))
        second = await store.add_contacts(1, [3, 2], NOW, 10)
        third = await store.add_blocks(1, [4], NOW, 10)
        assert second is not None
        assert third is not None
        assert first.version < second.version < third.version
        assert third == Circle(
            third.version, Privacy(last_seen="nobody"), Numbers([2, 3]), Numbers([4])
        )
        assert dict(await store.circles([1, 2])) == {1: third}

    async def test_what_is_absent_from_a_change_of_privacy_stays(
        self, store: Store
    ) -> None:
        await store.change_privacy(1, ChangePrivacy(phone="nobody", findable=False))
        circle = await store.change_privacy(1, ChangePrivacy(groups="contacts"))
        assert circle.privacy == Privacy(
            phone="nobody", findable=False, groups="contacts"
        )

    async def test_changes_of_two_devices_at_once_are_both_there(
        self, store: Store
    ) -> None:
        async with trio.open_nursery() as nursery:
            for change in (
                ChangePrivacy(phone="nobody"),
                ChangePrivacy(last_seen="contacts"),
                ChangePrivacy(groups="nobody"),
            ):
                nursery.start_soon(store.change_privacy, 1, change)
        [circle] = (await store.circles([1])).values()
        assert circle.privacy == Privacy(
            phone="nobody", last_seen="contacts", groups="nobody"
        )

    async def test_who_is_there_already_stays_as_they_are(self, store: Store) -> None:
        await store.add_contacts(1, [2], NOW, 10)
        await store.add_contacts(1, [2, 3], NOW + 5, 10)
        rows = [(row.number, row.added_ms) for row in await store.contacts(1, 0, 10)]
        assert rows == [(2, NOW), (3, NOW + 5)]

    async def test_a_full_list_takes_nobody_and_stays_as_it_is(
        self, store: Store
    ) -> None:
        await store.add_blocks(1, [2, 3], NOW, 3)
        before = await store.circles([1])
        assert await store.add_blocks(1, [4, 5], NOW, 3) is None
        assert await store.circles([1]) == before
        assert await store.add_blocks(1, [4, 3], NOW, 3) is not None
        # The limit was lowered: what is there stays, and may be named again.
        assert await store.add_blocks(1, [4], NOW, 1) is not None

    async def test_parallel_additions_never_exceed_the_limit(
        self, store: Store
    ) -> None:
        results: list[bool] = []

        async def add(number: int) -> None:
            results.append(await store.add_contacts(1, [number], NOW, 4) is not None)

        async with trio.open_nursery() as nursery:
            for number in range(2, 10):
                nursery.start_soon(add, number)
        assert sum(results) == 4
        assert len(await store.contacts(1, 0, 10)) == 4

    async def test_lists_come_in_pages_by_number(self, store: Store) -> None:
        await store.add_contacts(1, [9, 2, 5, 7], NOW, 10)
        first = await store.contacts(1, 0, 3)
        assert [row.number for row in first] == [2, 5, 7]
        assert [row.number for row in await store.contacts(1, 7, 3)] == [9]

    async def test_removing_who_is_not_there_changes_nobody(self, store: Store) -> None:
        await store.add_blocks(1, [2, 3], NOW, 10)
        circle = await store.remove_blocks(1, [3, 4])
        assert circle.blocked == Numbers([2])
        assert (await store.remove_contacts(2, [1])).contacts == Numbers()

    async def test_lists_of_two_people_are_two(self, store: Store) -> None:
        await store.add_contacts(1, [2], NOW, 10)
        await store.add_blocks(2, [1], NOW, 10)
        circles = await store.circles([1, 2])
        assert circles[1].contacts == Numbers([2])
        assert circles[2].contacts == Numbers()
        assert circles[1].blocked == Numbers()
        assert circles[2].blocked == Numbers([1])

    async def test_preferences_are_kept_as_they_are(self, store: Store) -> None:
        await store.set_preferences(1, b'{"a":1}')
        await store.set_preferences(1, b'{"b": "\xe0\xb8\x81"}')
        assert await store.preferences(1) == b'{"b": "\xe0\xb8\x81"}'
        assert (await store.circles([1]))[1].privacy == Privacy()

    async def test_a_later_time_stays(self, store: Store) -> None:
        await store.keep_last_seen({1: NOW, 2: NOW})
        await store.keep_last_seen({1: NOW - 1, 2: NOW + 1})
        assert dict(await store.last_seen([1, 2, 3])) == {1: NOW, 2: NOW + 1}

    async def test_many_times_are_kept_at_once(self, store: Store) -> None:
        seen = {number: NOW + number for number in range(1, 12_001)}
        await store.keep_last_seen(seen)
        assert dict(await store.last_seen(list(seen))) == seen
