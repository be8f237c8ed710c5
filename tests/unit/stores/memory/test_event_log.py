"""The contract of the event log, in memory; and that it tells of transactions as
PostgreSQL does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tchatd.kernel.clock import ManualClock
from tchatd.kernel.events import Event, EventDraft
from tchatd.stores.memory.event_log import MemoryEventLog, MemoryEventStore
from tests.support.event_store import EventStoreContract, Stores
from tests.support.events import A, B, draft


class TestMemoryEvents(EventStoreContract):
    @pytest.fixture
    async def stores(self) -> Stores:
        store = MemoryEventStore(ManualClock())

        async def write(drafts: Sequence[EventDraft]) -> list[Event]:
            return store.log.write(*drafts)

        return Stores(store, store, write)


def test_what_is_not_committed_is_a_hole_and_xmax_says_nothing_of_it() -> None:
    log = MemoryEventLog()
    first, second = log.begin(), log.begin()
    second.append([draft(A)])
    first.append([draft(B)])
    second.rollback()
    late, early = log.begin(), log.begin()
    early.append([draft(A)])
    late.append([draft(B)])
    early.commit()
    assert sorted(log.events) == [3]
    assert late.xid == log.xmax
    assert log.xmin == first.xid
