"""Many who wait cost one query, and none is told what has changed since."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchatd.domains.messaging.state import StateLimits
from tchatd.domains.messaging.store import Found, Wants
from tchatd.kernel.errors import Unavailable
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support.messaging import (
    Core,
    client_id,
    group_of,
    loading,
    text,
    with_user,
)


class CountingStore(MemoryDialogStore):
    """Counts what it is asked; `gate` holds the answers, `away` refuses them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Wants] = []
        self.gate = trio.Event()
        self.gate.set()
        self.away = False

    async def load(self, wants: Wants) -> Found:
        self.asked.append(wants)
        found = await super().load(wants)
        await self.gate.wait()
        if self.away:
            raise Unavailable("away", retry_after_s=7)
        return found


async def stored(store: CountingStore, dialogs: int) -> tuple[Core, list[str]]:
    """A fresh process over a store with dialogs of 1 with 2, 3, …"""
    core = Core(store)
    async with loading(core):
        ids = [(await core.do(1, with_user(n + 2))).id for n in range(dialogs)]
    await core.flusher.flush()
    store.asked.clear()
    return await core.restart(limits=StateLimits(dialogs_max=2)), ids


async def test_whoever_waits_while_a_query_runs_shares_the_next() -> None:
    store = CountingStore()
    core, ids = await stored(store, 20)
    async with loading(core), trio.open_nursery() as nursery:
        store.gate = trio.Event()
        for id in ids * 3:
            nursery.start_soon(core.do, 1, text(id))
        await wait_all_tasks_blocked()
        assert len(store.asked) == 1
        store.gate.set()
    assert core.applier.loader.batches <= 5
    assert core.journal.next_position == 20 + 60 + 1
    assert core.applier.loader.waiting == 0


async def test_more_dialogs_than_memory_keeps_are_used_all_the_same() -> None:
    core, ids = await stored(CountingStore(), 40)
    async with loading(core):
        async with trio.open_nursery() as nursery:
            for id in ids:
                nursery.start_soon(core.do, 1, text(id))
        await core.flusher.flush()
        await wait_all_tasks_blocked()
        assert len(core.state) == 2


async def test_too_many_who_wait_are_refused() -> None:
    store = CountingStore()
    core, ids = await stored(store, 5)
    core.applier.loader._wants_max = 3
    refused = []

    async def ask(id: str) -> None:
        try:
            await core.do(1, text(id))
        except Unavailable:
            refused.append(id)

    async with loading(core), trio.open_nursery() as nursery:
        store.gate = trio.Event()
        nursery.start_soon(ask, ids[0])
        await wait_all_tasks_blocked()
        for id in ids[1:]:
            nursery.start_soon(ask, id)
        await wait_all_tasks_blocked()
        store.gate.set()
    assert len(refused) == 1


async def test_a_store_that_is_away_refuses_who_waits_and_is_asked_again() -> None:
    store = CountingStore()
    core, [id] = await stored(store, 1)
    async with loading(core):
        store.away = True
        with pytest.raises(Unavailable) as refused:
            await core.do(1, text(id))
        assert refused.value.retry_after_s == 7
        store.away = False
        assert (await core.do(1, text(id))).seq == 2


async def test_who_is_cancelled_leaves_nothing_behind() -> None:
    store = CountingStore()
    core, [id] = await stored(store, 1)
    async with loading(core):
        store.gate = trio.Event()
        with trio.move_on_after(0):
            await core.do(1, text(id))
        store.gate.set()
        await wait_all_tasks_blocked()
        assert core.applier.loader.waiting == 0
        assert (await core.do(1, text(id))).seq == 2


async def test_members_of_large_dialogs_are_loaded_when_they_act() -> None:
    core = Core()
    async with loading(core):
        dialog = await core.do(1, group_of(range(2, 190)))
    await core.flusher.flush()
    core = await core.restart()
    async with loading(core):
        for user in (5, 6, 5):
            await core.do(user, text(dialog.id))
        state = core.state.find(dialog.id)
        assert state is not None
        assert sorted(state.by_number) == [5, 6]


async def test_a_refusal_reaches_everybody_who_waits() -> None:
    store = CountingStore()
    core, ids = await stored(store, 6)
    refused: list[str] = []

    async def ask(id: str) -> None:
        try:
            await core.do(1, text(id))
        except Unavailable:
            refused.append(id)

    async with loading(core):
        async with trio.open_nursery() as nursery:
            store.gate, store.away = trio.Event(), True
            for id in ids:
                nursery.start_soon(ask, id)
            await wait_all_tasks_blocked()
            assert refused == []
            store.gate.set()
        assert sorted(refused) == sorted(ids)
        assert core.applier.loader.waiting == 0
        store.away = False
        assert [(await core.do(1, text(id))).seq for id in ids] == [2] * 6


async def test_a_stop_refuses_who_waits_for_the_query_under_way() -> None:
    store = CountingStore()
    core, [id] = await stored(store, 1)
    async with trio.open_nursery() as waiters, loading(core):
        store.gate = trio.Event()
        refused: list[str] = []

        async def ask() -> None:
            try:
                await core.do(1, text(id))
            except Unavailable as error:
                refused.append(str(error.detail))

        waiters.start_soon(ask)
        await wait_all_tasks_blocked()
    assert refused == ["The server is stopping."]


async def test_nothing_is_forgotten_while_an_older_query_runs() -> None:
    # Given a dialog in memory, and a query for another one that has begun,
    store = CountingStore()
    core, [known, other] = await stored(store, 2)
    core = await core.restart(
        limits=StateLimits(dialogs_max=1, client_ids_max=1, tail_max=1)
    )
    async with loading(core), trio.open_nursery() as nursery:
        await core.do(1, text(known, client_id=client_id(1)))
        await core.flusher.flush()
        store.gate = trio.Event()
        nursery.start_soon(core.do, 1, text(other))
        await wait_all_tasks_blocked()
        assert core.applier.loader.oldest_pin == core.applier.flushed_position
        # when more is sent there and reaches the store meanwhile,
        for time_ms in range(2, 12):
            await core.do(1, text(known, client_id=client_id(time_ms)))
        await core.flusher.flush()
        state = core.state.find(known)
        assert state is not None
        member = state.by_number[1]
        # then all of it stays in memory until whoever waits has looked.
        assert (state.unflushed, len(member.recent), member.floor_ms) == (10, 11, -1)
        store.gate.set()
        await wait_all_tasks_blocked()
        assert core.applier.loader.oldest_pin is None
        assert (state.unflushed, len(member.recent), member.floor_ms) == (0, 1, 10)
        await core.flusher.flush()
        assert len(core.state) == 1


async def test_a_pinned_dialog_stays_with_all_that_happens_to_it() -> None:
    core = Core(limits=StateLimits(dialogs_max=1, client_ids_max=1, tail_max=1))
    async with loading(core):
        known = (await core.do(1, with_user(2))).id
        other = (await core.do(1, with_user(3))).id
        await core.do(1, text(known))
        state = core.state.find(known)
        assert state is not None
        with core.applier.pinned(state.number):
            for _ in range(10):
                await core.do(1, text(known))
            await core.do(1, text(other))
            await core.flusher.flush()
            assert core.state.find(known) is state
            assert (state.unflushed, len(state.tail)) == (12, 12)
        await wait_all_tasks_blocked()
        assert core.applier.loader.oldest_pin is None
        assert (state.unflushed, len(state.tail)) == (0, 1)
