"""Events have their effect once and in order, however often who handles them dies."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import trio

from tchatd.stores.postgres.event_log import append_statement
from tchatd.stores.postgres.event_relay import PostgresEventStore
from tchatd.stores.postgres.pool import Pool
from tests.support.daemon import Daemon
from tests.support.events import NOW, draft

pytestmark = pytest.mark.service
ROOT = Path(__file__).parents[2]
AGGREGATES = [UUID(int=1 + n) for n in range(8)]
EVENTS = 400
KILLS = 6
UNTIL_S = 120.0


async def write(pool: Pool, seed: int) -> None:
    """Some transactions are rolled back, and several end in another order."""
    chance = random.Random(seed)
    versions = {id: itertools.count(1) for id in AGGREGATES}
    locks = {id: trio.Lock() for id in AGGREGATES}
    left = itertools.count()

    async def writer() -> None:
        while next(left) < EVENTS:
            id = chance.choice(AGGREGATES)
            async with locks[id], pool.connection() as connection:
                if chance.random() < 0.2:
                    await connection.execute("BEGIN")
                    await connection.execute(*append_statement([draft(id, 1_000_000)]))
                    await connection.execute("ROLLBACK")
                async with connection.transaction():
                    event = draft(id, next(versions[id]))
                    await connection.execute(*append_statement([event]))
                    await trio.sleep(chance.random() / 50)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(writer)


async def test_each_effect_is_had_once_and_in_order_through_kills(
    database: str, pool: Pool
) -> None:
    await PostgresEventStore(pool).ensure_partitions(NOW)
    await pool.execute(
        "CREATE TABLE effects (n bigint GENERATED ALWAYS AS IDENTITY,"
        " event_id uuid, aggregate_id uuid, version bigint)"
    )
    command = [sys.executable, "-m", "tests.support.event_worker", database]

    def start(node: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, node], cwd=ROOT)

    async def effects() -> int:
        count: int = await pool.fetch_value("SELECT count(*) FROM effects")
        return count

    async def until(is_so: Callable[[int], bool]) -> None:
        while not is_so(await effects()):
            await trio.sleep(0.01)

    workers = [start("n1"), start("n2")]
    try:
        with trio.fail_after(UNTIL_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write, pool, 1)
                for kill in range(1, KILLS + 1):
                    seen = await effects() + EVENTS // (2 * KILLS)
                    await until(lambda count, seen=seen: count >= seen)  # type: ignore[misc]
                    for index, worker in enumerate(workers):
                        worker.send_signal(signal.SIGKILL)
                        worker.wait()
                        workers[index] = start(f"n{1 + (kill + index) % 3}")
            await until(lambda count: count >= EVENTS)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    rows = await pool.fetch("SELECT aggregate_id, version FROM effects ORDER BY n")
    assert len(rows) == EVENTS
    for id in AGGREGATES:
        versions = [version for of, version in rows if of == id]
        assert versions == list(range(1, len(versions) + 1))


def test_a_daemon_has_the_log_and_tells_of_it(daemon: Daemon) -> None:
    assert daemon.console("dlq", "list") == {"rows": [], "total": 0}
    assert daemon.console("events")["total"] == 0
    assert "--reason" in daemon.console("help", "dlq")["usage"]
    assert b"tchatd_events_unsettled 0.0" in httpx.get(f"{daemon.url}/metrics").content
