"""Owns what every `IdempotencyStore` has to do; run over memory and over PostgreSQL."""

from __future__ import annotations

from uuid import UUID

import trio

from tchatd.edge.idempotency import IdempotencyStore, Reservation

NOW = 1_800_000_000_000
DAY = 86_400_000
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
CONTENT, OTHER_CONTENT = b"c" * 32, b"d" * 32


def id_of(number: int) -> UUID:
    return UUID(int=(0x7000_8000 << 64) + number)


async def reserve(
    store: IdempotencyStore,
    number: int,
    *,
    key: bytes = KEY,
    content: bytes = CONTENT,
    node: str = "a",
    now_ms: int = NOW,
) -> Reservation:
    return await store.reserve(
        key,
        content,
        id_of(number),
        node=node,
        now_ms=now_ms,
        lease_until_ms=now_ms + 60_000,
        expires_at_ms=now_ms + DAY,
    )


class IdempotencyStoreContract:
    """Subclasses give a `store` fixture."""

    async def test_a_fresh_key_is_ours(self, store: IdempotencyStore) -> None:
        taken = await reserve(store, 1)

        assert taken == Reservation(id_of(1), CONTENT, None, ours=True)

    async def test_an_answer_is_given_to_whoever_comes_later(
        self, store: IdempotencyStore
    ) -> None:
        await reserve(store, 1)
        await store.complete(KEY, id_of(1), b"answer")

        for node in ("a", "b"):
            seen = await reserve(store, 2, node=node)
            assert seen == Reservation(id_of(1), CONTENT, b"answer", ours=False)

    async def test_other_content_sees_what_the_key_belongs_to(
        self, store: IdempotencyStore
    ) -> None:
        await reserve(store, 1)

        seen = await reserve(store, 2, content=OTHER_CONTENT)

        assert seen == Reservation(id_of(1), CONTENT, None, ours=False)

    async def test_after_a_crash_the_same_node_takes_over_with_the_same_id(
        self, store: IdempotencyStore
    ) -> None:
        await reserve(store, 1)

        again = await reserve(store, 2)

        assert again == Reservation(id_of(1), CONTENT, None, ours=True)

    async def test_another_node_waits_for_the_lease(
        self, store: IdempotencyStore
    ) -> None:
        await reserve(store, 1)

        early = await reserve(store, 2, node="b", now_ms=NOW + 59_000)
        late = await reserve(store, 3, node="b", now_ms=NOW + 60_000)

        assert (early.ours, late.ours) == (False, True)
        assert late.idempotency_id == id_of(1)

    async def test_a_released_key_is_free_for_any_node_with_its_id(
        self, store: IdempotencyStore
    ) -> None:
        await reserve(store, 1)
        await store.release(KEY, id_of(1))

        taken = await reserve(store, 2, node="b")

        assert taken == Reservation(id_of(1), CONTENT, None, ours=True)

    async def test_an_expired_key_begins_anew(self, store: IdempotencyStore) -> None:
        await reserve(store, 1)
        await store.complete(KEY, id_of(1), b"answer")

        taken = await reserve(store, 2, content=OTHER_CONTENT, now_ms=NOW + DAY)

        assert taken == Reservation(id_of(2), OTHER_CONTENT, None, ours=True)
        await store.complete(KEY, id_of(1), b"too late")
        assert (await reserve(store, 3, now_ms=NOW + DAY + 1)).answer is None

    async def test_the_first_answer_stays(self, store: IdempotencyStore) -> None:
        await reserve(store, 1)
        await store.complete(KEY, id_of(1), b"first")
        await store.complete(KEY, id_of(1), b"second")
        await store.release(KEY, id_of(1))

        assert (await reserve(store, 2)).answer == b"first"

    async def test_keys_are_apart(self, store: IdempotencyStore) -> None:
        await reserve(store, 1)
        await store.complete(KEY, id_of(1), b"answer")

        assert (await reserve(store, 2, key=OTHER_KEY)).ours

    async def test_only_one_of_many_at_once_gets_a_key(
        self, store: IdempotencyStore
    ) -> None:
        taken: list[Reservation] = []

        async def take(number: int) -> None:
            taken.append(await reserve(store, number, node=f"n{number}"))

        async with trio.open_nursery() as nursery:
            for number in range(1, 9):
                nursery.start_soon(take, number)

        assert sum(one.ours for one in taken) == 1
        assert len({one.idempotency_id for one in taken}) == 1

    async def test_pruning_deletes_what_has_expired_in_batches(
        self, store: IdempotencyStore
    ) -> None:
        for number in range(5):
            await reserve(store, number, key=bytes([number]) * 32)
        await reserve(store, 9, key=OTHER_KEY, now_ms=NOW + DAY)

        assert await store.prune(NOW + DAY - 1, 3) == 0
        assert await store.prune(NOW + DAY, 3) == 3
        assert await store.prune(NOW + DAY, 3) == 2
        assert (await reserve(store, 10, key=OTHER_KEY)).idempotency_id == id_of(9)
