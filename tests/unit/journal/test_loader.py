"""Many who wait cost one query, and none is told what has changed since."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchatd.domains.messaging.state import StateLimits
from tchatd.domains.messaging.store import Found, Wants
from tchatd.kernel.errors import Unavailable
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support.messaging import Core, group_of, loading, text, with_user


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
