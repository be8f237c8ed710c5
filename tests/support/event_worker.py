"""Owns a process that relays events to a subscriber in the same database, to be killed.

    python -m tests.support.event_worker DSN NODE

The subscriber adds each event to the table `effects` in the transaction that says it
was handled; and it sleeps at points where a kill does the most harm.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import Literal

import trio

from tchatd.events.relay import Relay
from tchatd.events.subscription import RelaySettings
from tchatd.kernel.clock import SystemClock
from tchatd.kernel.events import NO_TYPES, Event
from tchatd.observe.metrics import Metrics
from tchatd.stores.postgres.event_relay import PostgresEventStore, first_time
from tchatd.stores.postgres.pool import Pool


class Effects:
    name = "effects"
    domains = frozenset({"payment"})
    types = NO_TYPES
    begins: Literal["oldest", "latest"] = "oldest"

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def handle(self, events: Sequence[Event]) -> None:
        async with self._pool.transaction() as connection:
            for event in await first_time(connection, self.name, events, 0):
                await connection.execute(
                    "INSERT INTO effects (event_id, aggregate_id, version)"
                    " VALUES (%s, %s, %s)",
                    (event.id, event.aggregate_id, event.version),
                )
            await trio.sleep(random.random() / 100)
        await trio.sleep(random.random() / 50)


async def main(dsn: str, node: str) -> None:
    pool = Pool(dsn, size=3)
    settings = RelaySettings(batch_max=5, poll_s=0.05, lease_s=1.0)
    store = PostgresEventStore(pool)
    relay = Relay(store, node, SystemClock(), Metrics(process=False), settings)
    relay.subscribe(Effects(pool))
    await relay.run()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
