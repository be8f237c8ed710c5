"""Owns what every `SagaStore` has to do, and sagas for tests."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import trio
from msgspec import Struct, structs

from tchatd.kernel.errors import DomainError
from tchatd.kernel.sagas import (
    SIGNALS_MAX,
    SagaBegun,
    SagaRow,
    progress_of,
)
from tchatd.sagas.store import Counts, Kind, Order, Runner, SagaStore, Written

NOW = 1_800_000_000_000
KINDS: list[Kind] = [("topup", 1), ("topup", 2)]


def id_of(number: int) -> UUID:
    return UUID(int=(0x7000_8000 << 64) + number)


ONE, OTHER = id_of(901), id_of(902)
"""Two runners."""


class Amount(Struct, frozen=True):
    amount_minor: int = 0
    done: tuple[str, ...] = ()


def begun(number: int, runner: UUID | None = None, **changes: Any) -> SagaBegun:
    fields: dict[str, Any] = {
        "saga_type": "topup",
        "version": 1,
        "total_steps": 3,
        "data": '{"amount_minor":100}',
        "run_ms": NOW,
        "deadline_ms": NOW + 60_000,
        "started_ms": NOW,
    }
    return SagaBegun(id=id_of(number), runner=runner, **fields | changes)


async def put(store: SagaStore, *rows: SagaBegun) -> None:
    written = await store.write(rows, [])
    assert written.begun == {row.id for row in rows}


async def row_of(store: SagaStore, number: int) -> SagaRow:
    row = await store.saga(id_of(number))
    assert row is not None
    return row


async def move(store: SagaStore, row: SagaRow, **changes: Any) -> Written:
    return await store.write([], [progress_of(row, **changes)])


async def register(store: SagaStore, *ids: UUID) -> None:
    for id in ids:
        await store.register(Runner(id, "node", 0))


def an_order(number: int, reason: str = "asked for") -> Order:
    return Order(id_of(number), NOW, "root (uid 0)", "abort", reason)


class SagaStoreContract:
    """Subclasses give a `store` fixture."""

    async def test_a_saga_comes_back_as_it_was_begun(self, store: SagaStore) -> None:
        first, second = begun(1, ONE, data='{"name":"สวัสดี"}'), begun(2)
        await put(store, first, second)
        assert await store.saga(id_of(1)) == first.row()
        assert await store.saga(id_of(2)) == second.row()
        assert await store.saga(id_of(3)) is None

    async def test_the_same_id_is_begun_once(self, store: SagaStore) -> None:
        await put(store, begun(1))
        again = await store.write([begun(1, data="{}"), begun(2)], [])
        assert again.begun == {id_of(2)}
        assert (await row_of(store, 1)).data == '{"amount_minor":100}'

    async def test_progress_moves_a_saga_once(self, store: SagaStore) -> None:
        await put(store, begun(1, ONE))
        before = await row_of(store, 1)
        changes = {"current_step": 1, "data": "{}", "attempts": 2, "error": "why"}
        written = await move(store, before, **changes)
        assert list(written.moved) == [id_of(1)]
        after = await row_of(store, 1)
        assert after == structs.replace(before, revision=1, **changes)
        assert (await move(store, before, **changes)).moved == {}
        assert await row_of(store, 1) == after

    async def test_begins_and_progress_go_together(self, store: SagaStore) -> None:
        await put(store, begun(1, ONE))
        step = progress_of(await row_of(store, 1), current_step=2)
        written = await store.write([begun(2, ONE)], [step])
        assert written.begun == {id_of(2)}
        assert set(written.moved) == {id_of(1)}
        assert (await row_of(store, 1)).current_step == 2

    async def test_what_is_refused_leaves_nothing(self, store: SagaStore) -> None:
        await put(store, begun(1, ONE))
        row = await row_of(store, 1)
        wrong = progress_of(row, current_step=row.total_steps + 1)
        if type(store).__name__.startswith("Memory"):
            return  # it knows no ranges
        with pytest.raises(DomainError):
            await store.write([begun(2)], [wrong])
        assert await store.saga(id_of(2)) is None
        assert await row_of(store, 1) == row

    async def test_progress_may_release_and_end(self, store: SagaStore) -> None:
        await put(store, begun(1, ONE), begun(2, ONE))
        await move(
            store, await row_of(store, 1), is_released=True, run_ms=NOW + 9, attempts=1
        )
        put_off = await row_of(store, 1)
        assert (put_off.runner, put_off.run_ms) == (None, NOW + 9)
        end = {"status": "completed", "ended_ms": NOW, "is_released": True}
        await move(store, await row_of(store, 2), **end)
        ended = await row_of(store, 2)
        assert (ended.status, ended.runner, ended.ended_ms) == ("completed", None, NOW)
        assert (await move(store, ended, current_step=1)).moved == {}

    async def test_what_is_due_is_claimed_once_the_longest_waiting_first(
        self, store: SagaStore
    ) -> None:
        await put(
            store,
            *(begun(1, run_ms=NOW - 1), begun(2, run_ms=NOW - 3)),
            *(begun(3, run_ms=NOW - 2), begun(4, run_ms=NOW + 1), begun(5, OTHER)),
            begun(6, saga_type="unknown", run_ms=0),
        )
        claimed = await store.claim(ONE, KINDS, NOW, 2)
        assert [row.id for row in claimed] == [id_of(2), id_of(3)]
        assert {(row.runner, row.revision) for row in claimed} == {(ONE, 1)}
        assert await row_of(store, 2) == claimed[0]
        assert [row.id for row in await store.claim(ONE, KINDS, NOW, 9)] == [id_of(1)]
        assert await store.claim(ONE, KINDS, NOW, 9) == []
        assert await store.next_due_ms(KINDS) == NOW + 1
        assert await store.next_due_ms([]) is None

    async def test_a_saga_is_claimed_by_one_of_many(self, store: SagaStore) -> None:
        await put(store, *(begun(number) for number in range(1, 41)))
        taken: list[UUID] = []

        async def claim(runner: UUID) -> None:
            for _ in range(5):
                rows = await store.claim(runner, KINDS, NOW, 3)
                taken.extend(row.id for row in rows)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(claim, id_of(900 + number))
        assert sorted(taken) == [id_of(number) for number in range(1, 41)]

    async def test_who_was_replaced_moves_nothing(self, store: SagaStore) -> None:
        await put(store, begun(1, ONE))
        before = await row_of(store, 1)
        await register(store, OTHER)
        assert await store.release_orphans(10) == 1
        await store.claim(OTHER, KINDS, NOW, 1)
        assert (await move(store, before, current_step=1)).moved == {}
        assert (await row_of(store, 1)).runner == OTHER

    async def test_a_signal_wakes_who_waits(self, store: SagaStore) -> None:
        await put(store, begun(1, run_ms=NOW + 50_000))
        assert await store.signal(id_of(1), "paid", '{"amount": 5}')
        [row] = await store.claim(ONE, KINDS, NOW, 9)
        assert (row.id, row.signal_count) == (id_of(1), 1)
        assert row.signals.replace(" ", "") == '{"paid":{"amount":5}}'

    async def test_a_signal_before_the_wait_is_not_lost(self, store: SagaStore) -> None:
        await put(store, begun(1, ONE))
        row = await row_of(store, 1)
        assert await store.signal(id_of(1), "paid", "null")
        waits = {"run_ms": NOW + 9_000, "is_waiting": True, "is_released": True}
        written = await move(store, row, signals_seen=0, **waits)
        moved = written.moved[id_of(1)]
        assert (moved.run_ms, moved.signal_count) == (0, 1)
        [row] = await store.claim(ONE, KINDS, NOW, 9)
        await move(store, row, signals_seen=1, **waits)
        assert (await row_of(store, 1)).run_ms == NOW + 9_000

    async def test_the_later_of_a_signal_is_kept_and_not_too_many(
        self, store: SagaStore
    ) -> None:
        await put(store, begun(1))
        for number in range(SIGNALS_MAX):
            assert await store.signal(id_of(1), f"s{number}", "1")
        assert await store.signal(id_of(1), "s0", '"later"')
        assert not await store.signal(id_of(1), "more", "1")
        assert '"later"' in (await row_of(store, 1)).signals

    async def test_nobody_hears_what_is_told_to_an_ended_saga(
        self, store: SagaStore
    ) -> None:
        await put(store, begun(1, ONE))
        end = {"status": "completed", "ended_ms": NOW, "is_released": True}
        await move(store, await row_of(store, 1), **end)
        assert not await store.signal(id_of(1), "paid", "1")
        assert not await store.signal(id_of(2), "paid", "1")

    async def test_a_runner_beats_until_it_is_buried(self, store: SagaStore) -> None:
        await register(store, ONE, OTHER)
        assert await store.beat(ONE)
        beats = {runner.id: runner.beats for runner in await store.runners()}
        assert beats == {ONE: 1, OTHER: 0}
        assert not await store.bury(ONE, 0)
        assert await store.bury(ONE, 1)
        assert await store.bury(OTHER, None)
        assert not await store.beat(ONE)
        assert await store.runners() == []

    async def test_what_the_dead_ran_is_for_others(self, store: SagaStore) -> None:
        await register(store, ONE)
        await put(store, begun(1, ONE), begun(2, OTHER), begun(3, OTHER), begun(4))
        assert await store.release_orphans(1) == 1
        assert await store.release_orphans(9) == 1
        assert await store.release_orphans(9) == 0
        assert await store.held(ONE) == [id_of(1)]
        assert await store.held(OTHER) == []
        assert (await row_of(store, 2)).revision == 1

    async def test_a_runner_lets_others_have_some(self, store: SagaStore) -> None:
        await put(store, begun(1, ONE), begun(2, ONE), begun(3, OTHER))
        assert await store.release(ONE, [id_of(1), id_of(3), id_of(9)]) == 1
        assert await store.held(ONE) == [id_of(2)]
        assert await store.held(OTHER) == [id_of(3)]

    async def test_an_operator_resumes_what_stands_still(
        self, store: SagaStore
    ) -> None:
        await put(store, begun(1, ONE), begun(2, ONE), begun(3, ONE), begun(4))
        fails = {"status": "failed", "failed_ms": NOW, "is_released": True}
        await move(store, await row_of(store, 1), **fails, attempts=9)
        await move(store, await row_of(store, 2), **fails, compensation_data="{}")
        for number in (1, 2, 4):
            assert await store.resume(an_order(number))
        assert not await store.resume(an_order(3))
        assert not await store.resume(an_order(5))
        rows = [await row_of(store, number) for number in (1, 2)]
        assert [row.status for row in rows] == ["started", "compensating"]
        assert {(row.attempts, row.run_ms) for row in rows} == {(0, 0)}
        assert await store.orders(id_of(1)) == [an_order(1)]
        assert await store.orders(id_of(3)) == []

    async def test_an_operator_aborts_what_goes_forward(self, store: SagaStore) -> None:
        await put(store, begun(1, ONE), begun(2), begun(3, ONE), begun(4, ONE))
        fails = {"status": "failed", "failed_ms": NOW, "is_released": True}
        await move(store, await row_of(store, 3), **fails)
        back = {"status": "compensating", "compensation_data": "{}"}
        await move(store, await row_of(store, 4), **back)
        for number in (1, 2, 3):
            assert await store.abort(an_order(number))
        assert not await store.abort(an_order(4))
        assert not await store.abort(an_order(5))
        running, waiting, failed = [await row_of(store, n) for n in (1, 2, 3)]
        assert {r.abort_reason for r in (running, waiting, failed)} == {"asked for"}
        assert (running.runner, running.revision) == (ONE, 0)
        assert waiting.run_ms == failed.run_ms == 0
        assert failed.status == "started"
        written = await move(store, running, current_step=1)
        assert written.moved[id_of(1)].abort_reason == "asked for"

    async def test_operators_see_what_there_is(self, store: SagaStore) -> None:
        await put(
            store,
            *(begun(1, ONE), begun(2, ONE), begun(3, ONE), begun(4, run_ms=NOW - 5)),
            *(begun(5, version=9), begun(6, ONE)),
        )
        fails = {"status": "failed", "failed_ms": NOW, "is_released": True}
        await move(store, await row_of(store, 1), **fails)
        end = {"status": "completed", "is_released": True}
        await move(store, await row_of(store, 2), **end, ended_ms=NOW)
        end["status"] = "compensated"
        await move(store, await row_of(store, 3), **end, ended_ms=NOW + 1)
        back = {"status": "compensating", "compensation_data": "{}"}
        await move(store, await row_of(store, 6), **back)
        counts = await store.counts(KINDS)
        assert counts == Counts(started=1, compensating=1, failed=1, stranded=1)

        async def numbers(shown: Any, limit: int = 9) -> tuple[list[int], int]:
            rows, total = await store.sagas(shown, KINDS, limit)
            return [row.id.int & 0xFFFF for row in rows], total

        assert await numbers("unfinished", 1) == ([4], 3)
        assert await numbers("failed") == ([1], 1)
        assert await numbers("stranded") == ([5], 1)
        assert await numbers("ended") == ([3, 2], 2)

    async def test_what_ended_long_ago_is_forgotten(self, store: SagaStore) -> None:
        await put(store, *(begun(number, ONE) for number in range(1, 5)))
        for number in (1, 2, 3):
            end = {"status": "completed", "is_released": True, "ended_ms": NOW + number}
            await move(store, await row_of(store, number), **end)
        assert await store.prune(NOW + 3, 1) == 1
        assert await store.saga(id_of(1)) is None
        assert await store.prune(NOW + 3, 9) == 1
        assert await store.prune(NOW + 3, 9) == 0
        assert await store.saga(id_of(4)) is not None
