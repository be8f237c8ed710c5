"""Owns what every `NameStore` has to do; run over memory and over PostgreSQL."""

from __future__ import annotations

import trio

from tchatd.domains.messaging.beside import NameRow, NameStore

NOW, DAY = 1_800_000_000_000, 86_400_000
ONE, OTHER = 7, (1 << 42) + 7


class NameStoreContract:
    """Subclasses give a `store` fixture."""

    async def test_a_free_name_is_whose_who_claims_it(self, store: NameStore) -> None:
        assert await store.name("thai_news") is None
        row = await store.claim_name("thai_news", ONE, NOW)
        assert row == await store.name("thai_news") == NameRow("thai_news", ONE, NOW)
        assert await store.claim_name("thai_news", OTHER, NOW + DAY) is None

    async def test_one_of_many_at_once_gets_it(self, store: NameStore) -> None:
        got: list[NameRow] = []

        async def claim(number: int) -> None:
            row = await store.claim_name("thai_news", number, NOW)
            if row is not None:
                got.append(row)

        async with trio.open_nursery() as nursery:
            for number in range(1, 9):
                nursery.start_soon(claim, number)
        assert got == [await store.name("thai_news")]

    async def test_claiming_ones_own_again_changes_nothing(
        self, store: NameStore
    ) -> None:
        await store.claim_name("thai_news", ONE, NOW)
        await store.settle_name("thai_news", ONE, NOW + DAY)
        again = await store.claim_name("thai_news", ONE, NOW + 5)
        assert again == NameRow("thai_news", ONE, NOW, 0, True)

    async def test_a_new_name_gives_up_the_old_ones(self, store: NameStore) -> None:
        for name in ("first", "second"):
            await store.claim_name(name, ONE, NOW)
        await store.claim_name("third", OTHER, NOW)
        for _ in range(2):
            await store.settle_name("second", ONE, NOW + DAY)
        assert await store.name("first") == NameRow("first", ONE, NOW, NOW + DAY)
        assert await store.name("second") == NameRow("second", ONE, NOW, 0, True)
        assert await store.name("third") == NameRow("third", OTHER, NOW)
        await store.settle_name("first", ONE, NOW + 2 * DAY)
        assert await store.name("first") == NameRow("first", ONE, NOW, 0, True)
        second = NameRow("second", ONE, NOW, NOW + 2 * DAY, True)
        assert await store.name("second") == second

    async def test_a_name_given_up_is_held_back_for_others(
        self, store: NameStore
    ) -> None:
        for name in ("first", "second"):
            await store.claim_name(name, ONE, NOW)
            await store.settle_name(name, ONE, NOW + DAY)
        await store.give_up_names(ONE, NOW + DAY, "second")
        await store.give_up_names(ONE, NOW + 9 * DAY)
        assert await store.claim_name("second", OTHER, NOW + DAY - 1) is None
        mine = await store.claim_name("second", ONE, NOW + 5)
        assert mine == NameRow("second", ONE, NOW + 5)
        theirs = await store.claim_name("first", OTHER, NOW + DAY)
        assert theirs == NameRow("first", OTHER, NOW + DAY)

    async def test_names_that_a_dialog_holds_are_counted(
        self, store: NameStore
    ) -> None:
        for name in ("first", "second", "third"):
            await store.claim_name(name, ONE, NOW)
        await store.claim_name("fourth", OTHER, NOW)
        await store.settle_name("third", ONE, NOW + DAY)
        assert await store.names_held(ONE, "new", NOW) == 3
        assert await store.names_held(ONE, "second", NOW) == 2
        assert await store.names_held(ONE, "new", NOW + DAY) == 1

    async def test_names_that_were_not_settled_are_found(
        self, store: NameStore
    ) -> None:
        for name, at_ms in (("b", 1), ("a", 2), ("c", 3), ("d", 0), ("e", 0)):
            await store.claim_name(name, ord(name), NOW + at_ms)
        await store.settle_name("d", ord("d"), NOW)
        await store.give_up_names(ord("e"), NOW)
        found = await store.unsettled_names(NOW + 3, 9)
        assert [row.name for row in found] == ["b", "a"]
        assert [row.name for row in await store.unsettled_names(NOW + 9, 1)] == ["b"]

    async def test_what_is_free_is_forgotten_in_batches(self, store: NameStore) -> None:
        for number in range(5):
            await store.claim_name(f"name{number}", number + 1, NOW)
            await store.give_up_names(number + 1, NOW + number + 1)
        await store.claim_name("kept", 99, NOW)
        assert await store.prune_names(NOW + 5, 3) == 3
        assert await store.prune_names(NOW + 5, 3) == 1
        assert await store.name("name4") is not None
        assert await store.name("kept") is not None
