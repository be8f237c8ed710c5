"""Both stores are the ports: mypy sees it here; the contract is tests/support."""

from __future__ import annotations

from tchatd.events.store import EventStore, LetterStore
from tchatd.kernel.clock import ManualClock
from tchatd.stores.memory.event_log import MemoryEventStore
from tchatd.stores.postgres.dead_letters import PostgresLetterStore
from tchatd.stores.postgres.event_relay import PostgresEventStore
from tchatd.stores.postgres.pool import Pool


def test_memory_and_postgres_are_the_ports() -> None:
    memory = MemoryEventStore(ManualClock())
    pool = Pool("")
    stores: list[EventStore] = [memory, PostgresEventStore(pool)]
    letters: list[LetterStore] = [memory, PostgresLetterStore(pool)]
    assert len(stores) == len(letters)
