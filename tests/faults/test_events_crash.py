"""PostgreSQL killed under writers and a relay: fences, leases and positions hold."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest
import trio

from tchatd.events.relay import Relay
from tchatd.events.subscription import RelaySettings
from tchatd.kernel.clock import SystemClock
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.events import Event
from tchatd.observe.metrics import Metrics
from tchatd.stores.postgres import migrations
from tchatd.stores.postgres.event_log import append_statement
from tchatd.stores.postgres.event_relay import PostgresEventStore, first_time
from tchatd.stores.postgres.pool import Pool
from tests.support.events import NOW, Handler, draft
from tests.support.postgres import kill, open_folder, own_server

pytestmark = [pytest.mark.service, pytest.mark.slow]
AGGREGATES = [UUID(int=1 + n) for n in range(4)]
KILLS = 3
UNTIL_S = 120.0


class Effects(Handler):
    """Its effects are rows beside the notes that they were had."""

    def __init__(self, pool: Pool) -> None:
        super().__init__("effects")
        self._pool = pool

    async def handle(self, events: Sequence[Event]) -> None:
        async with self._pool.transaction() as connection:
            for event in await first_time(connection, self.name, events, 0):
                await connection.execute(
                    "INSERT INTO effects (aggregate_id, version) VALUES (%s, %s)",
                    (event.aggregate_id, event.version),
                )


async def write(pool: Pool, id: UUID, stop: trio.Event) -> None:
    """The version is taken from the log under a lock, for a commit may be in doubt."""
    chance = random.Random(id.int)
    while not stop.is_set():
        try:
            async with pool.transaction() as connection:
                await connection.execute("SELECT pg_advisory_xact_lock(%s)", (id.int,))
                last = await connection.fetch_value(
                    "SELECT coalesce(max(version), 0) FROM event_log"
                    " WHERE aggregate_id = %s",
                    (id,),
                )
                await connection.execute(*append_statement([draft(id, last + 1)]))
                await trio.sleep(chance.random() / 100)
                if chance.random() < 0.2:
                    await connection.execute("ROLLBACK")
                    await connection.execute("BEGIN")
        except Unavailable:
            await trio.sleep(0.02)


async def count(pool: Pool, table: str) -> int:
    while True:
        try:
            found: int = await pool.fetch_value(f"SELECT count(*) FROM {table}")
        except Unavailable:
            await trio.sleep(0.02)
        else:
            return found


async def test_nothing_is_lost_doubled_or_out_of_order_when_the_server_dies() -> None:
    with open_folder() as folder:
        async with own_server(Path(folder) / "postgres") as server:
            await migrations.apply(server.dsn)
            pool = Pool(server.dsn, size=8)
            store = PostgresEventStore(pool)
            await store.ensure_partitions(NOW)
            await pool.execute(
                "CREATE TABLE effects (n bigint GENERATED ALWAYS AS IDENTITY,"
                " aggregate_id uuid, version bigint)"
            )
            relay = Relay(
                store,
                "n1",
                SystemClock(),
                Metrics(process=False),
                RelaySettings(poll_s=0.02, batch_max=7, retry_s=0.05),
            )
            relay.subscribe(Effects(pool))
            stop = trio.Event()
            with trio.fail_after(UNTIL_S):
                async with trio.open_nursery() as nursery:
                    await nursery.start(relay.run)
                    for id in AGGREGATES:
                        nursery.start_soon(write, pool, id, stop)
                    for n in range(1, KILLS + 1):
                        while await count(pool, "effects") < 60 * n:
                            await trio.sleep(0.01)
                        kill(server.statistics().pid)
                        while server.statistics().restarts < n:
                            await trio.sleep(0.01)
                    stop.set()
                    while await count(pool, "effects") < await count(pool, "event_log"):
                        await trio.sleep(0.02)
                    relay.close()
            events = await pool.fetch(
                "SELECT aggregate_id, version FROM event_log ORDER BY position"
            )
            effects = await pool.fetch(
                "SELECT aggregate_id, version FROM effects ORDER BY n"
            )
            for id in AGGREGATES:
                versions = [version for of, version in effects if of == id]
                assert versions == [version for of, version in events if of == id]
                assert versions == list(range(1, len(versions) + 1))
            assert await pool.fetch_value("SELECT count(*) FROM dead_letters") == 0
            await pool.aclose()
