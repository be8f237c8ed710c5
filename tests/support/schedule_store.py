"""Owns what every `ScheduleStore` has to do; run over memory and over PostgreSQL."""

from __future__ import annotations

from uuid import UUID

import trio
from msgspec import structs

from tchatd.domains.messaging.beside import ScheduledRow, ScheduleStore

NOW = 1_800_000_000_000


def id_of(number: int) -> UUID:
    return UUID(int=(0x7000_8000 << 64) + number)


DIALOG = id_of(99)


def row(number: int, author: int = 1, due_s: int = 0) -> ScheduledRow:
    return ScheduledRow(
        id_of(number),
        author,
        id_of(author),
        DIALOG,
        NOW + 1_000 * due_s,
        '{"type":"text","content":{"text":"สวัสดี"}}',
    )


async def put(store: ScheduleStore, *rows: ScheduledRow) -> None:
    for one in rows:
        assert await store.schedule(one, 100)


class ScheduleStoreContract:
    """Subclasses give a `store` fixture."""

    async def test_a_row_comes_back_as_it_was_put(self, store: ScheduleStore) -> None:
        await put(store, row(1))
        assert await store.scheduled(id_of(1)) == row(1)
        assert await store.scheduled(id_of(2)) is None

    async def test_the_same_id_is_put_once(self, store: ScheduleStore) -> None:
        await put(store, row(1), structs.replace(row(1), message="{}"))
        assert await store.scheduled(id_of(1)) == row(1)
        assert await store.schedule(row(1), 1)

    async def test_an_author_has_only_so_many_also_at_once(
        self, store: ScheduleStore
    ) -> None:
        taken: list[bool] = []

        async def put_one(number: int) -> None:
            taken.append(await store.schedule(row(number), 3))

        async with trio.open_nursery() as nursery:
            for number in range(1, 9):
                nursery.start_soon(put_one, number)
        assert sum(taken) == len(await store.scheduled_of(1, DIALOG, 100)) == 3
        assert await store.schedule(row(20, author=2), 3)

    async def test_an_author_sees_their_own_the_next_first(
        self, store: ScheduleStore
    ) -> None:
        await put(store, row(1, due_s=9), row(2, due_s=5), row(3, 2), row(4, due_s=7))
        await put(store, structs.replace(row(5, due_s=6), dialog_id=id_of(98)))
        listed = await store.scheduled_of(1, DIALOG, 2)
        assert [one.id for one in listed] == [id_of(2), id_of(4)]
        [elsewhere] = await store.scheduled_of(1, id_of(98), 2)
        assert elsewhere.id == id_of(5)

    async def test_what_is_due_is_claimed_once_the_oldest_first(
        self, store: ScheduleStore
    ) -> None:
        await put(
            store, row(1, due_s=3), row(2, due_s=1), row(3, due_s=2), row(4, 1, 9)
        )
        claimed = await store.claim_due(NOW + 3_000, NOW + 60_000, 2)
        assert [one.id for one in claimed] == [id_of(2), id_of(3)]
        assert all(one.is_claimed and one.tries == 1 for one in claimed)
        rest = await store.claim_due(NOW + 3_000, NOW + 60_000, 9)
        assert [one.id for one in rest] == [id_of(1)]
        assert await store.claim_due(NOW + 3_000, NOW + 60_000, 9) == []

    async def test_two_who_claim_at_once_share(self, store: ScheduleStore) -> None:
        await put(store, *(row(number) for number in range(1, 41)))
        got: list[UUID] = []

        async def claim() -> None:
            rows = await store.claim_due(NOW, NOW + 60_000, 15)
            got.extend(one.id for one in rows)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(claim)
        rest = await store.claim_due(NOW, NOW + 60_000, 99)
        got.extend(one.id for one in rest)
        assert sorted(got) == [id_of(number) for number in range(1, 41)]

    async def test_a_claim_that_was_left_is_due_again(
        self, store: ScheduleStore
    ) -> None:
        await put(store, row(1))
        await store.claim_due(NOW, NOW + 60_000, 9)
        assert await store.next_due_ms() == NOW + 60_000
        assert await store.claim_due(NOW + 59_999, NOW + 90_000, 9) == []
        [again] = await store.claim_due(NOW + 60_000, NOW + 90_000, 9)
        assert again.tries == 2
        await store.sent([again.id])
        assert await store.next_due_ms() is None
        assert await store.scheduled(id_of(1)) is None

    async def test_what_is_claimed_is_neither_changed_nor_taken_back(
        self, store: ScheduleStore
    ) -> None:
        await put(store, row(1), row(2))
        assert await store.reschedule(id_of(1), NOW + 5, "{}")
        assert await store.unschedule(id_of(2))
        assert not await store.unschedule(id_of(2))
        [claimed] = await store.claim_due(NOW + 5, NOW + 60_000, 9)
        assert (claimed.message, claimed.send_at_ms) == ("{}", NOW + 5)
        assert not await store.reschedule(id_of(1), NOW, "{}")
        assert not await store.unschedule(id_of(1))
        await store.postpone(id_of(1), NOW + 9, is_claimed=True)
        assert not await store.unschedule(id_of(1))
        await store.postpone(id_of(1), NOW + 9, is_claimed=False)
        assert await store.next_due_ms() == NOW + 9
        assert await store.unschedule(id_of(1))

    async def test_what_failed_is_not_due_until_it_is_changed(
        self, store: ScheduleStore
    ) -> None:
        await put(store, row(1))
        await store.claim_due(NOW, NOW + 60_000, 9)
        await store.fail(id_of(1), "not-allowed", NOW)
        assert await store.next_due_ms() is None
        assert await store.claim_due(NOW + 90_000, NOW + 99_000, 9) == []
        failed = await store.scheduled(id_of(1))
        assert failed is not None
        assert (failed.failed, failed.is_claimed) == ("not-allowed", False)
        assert await store.reschedule(id_of(1), NOW + 7, "{}")
        assert await store.next_due_ms() == NOW + 7
        again = await store.scheduled(id_of(1))
        assert again is not None
        assert (again.failed, again.tries) == (None, 0)

    async def test_what_failed_is_pruned_in_batches(self, store: ScheduleStore) -> None:
        await put(store, *(row(number) for number in range(1, 6)), row(9))
        for number in range(1, 6):
            await store.fail(id_of(number), "x", NOW + number)
        assert await store.prune_failed(NOW + 5, 3) == 3
        assert await store.prune_failed(NOW + 5, 3) == 1
        left = await store.scheduled_of(1, DIALOG, 9)
        assert {one.id for one in left} == {id_of(5), id_of(9)}
