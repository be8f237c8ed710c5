from __future__ import annotations

import os
import random
import socket
from collections import Counter
from contextlib import suppress

import pytest
import trio
from psycopg import errors, pq
from psycopg.waiting import WAIT_R, WAIT_W, Wait

from tchatd.stores.postgres import driver
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.pool import Pool

CANCELS = int(os.environ.get("TCHATD_FUZZ_CANCELS", "2000"))
SEED = int(os.environ.get("TCHATD_FUZZ_SEED", "7"))
WORKERS = 8
DELAYS_S = (0.0, 0.0001, 0.0003, 0.0005, 0.001, 0.002, 0.003, 0.005, 10.0)
FUZZ_S_MAX = 60.0 + CANCELS / 20


def test_what_is_ready_is_told_without_waiting() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        both = Wait(WAIT_R | WAIT_W)
        assert driver.ready_now(ours.fileno(), WAIT_R) == 0
        assert driver.ready_now(ours.fileno(), both) == int(WAIT_W)
        theirs.send(b"x")
        assert driver.ready_now(ours.fileno(), both) == int(both)
        theirs.close()
        assert driver.ready_now(ours.fileno(), WAIT_R) == int(WAIT_R)


async def test_waiting_for_either_returns_when_one_is_ready() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                ours.send(b"x" * 65536)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver._block, ours.fileno(), Wait(WAIT_R | WAIT_W))
            await trio.testing.wait_all_tasks_blocked()
            theirs.send(b"x")


@pytest.mark.service
async def test_names_are_resolved_without_blocking(postgres_dsn: str) -> None:
    with pytest.raises(errors.OperationalError):
        await driver.Driver.open("host=localhost,127.0.0.1 port=1 user=nobody")


@pytest.mark.service
async def test_a_server_that_takes_no_cancel_costs_the_connection(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: driver.Driver) -> None:
        raise errors.OperationalError("no more connections")

    monkeypatch.setattr(driver.Driver, "_cancel_gen", refuse)
    with trio.move_on_after(0.05) as scope:
        await connection.execute("SELECT pg_sleep(600)")
    assert scope.cancelled_caught
    assert connection.closed


@pytest.mark.service
async def test_an_abandoned_stream_frees_the_connection(postgres_dsn: str) -> None:
    opened = await driver.Driver.open(postgres_dsn)
    async with opened:
        cursor = opened.cursor()
        stream = cursor.stream("SELECT generate_series(1, 100000)")
        assert await anext(stream) == (1,)
        await stream.aclose()  # type: ignore[attr-defined]  # a generator's
        assert opened.info.transaction_status == pq.TransactionStatus.IDLE
        row = await (await opened.execute("SELECT 5")).fetchone()
        assert row == (5,)


class Fuzz:
    """Work on six connections, cancelled at random moments.

    Every answer is checked against its question, so an answer that belongs to an
    earlier, cancelled query shows. Each transaction keeps the sum at zero.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.random = random.Random(SEED)
        self.outcomes: Counter[str] = Counter()

    async def worker(self) -> None:
        kinds = (self.ask, self.ask_slowly, self.transact, self.pipeline, self.many)
        while self.outcomes["cancelled"] < CANCELS:
            number = self.random.randrange(1 << 30)
            with trio.move_on_after(self.random.choice(DELAYS_S)) as scope:
                await self.random.choice(kinds)(number)
            self.outcomes["cancelled" if scope.cancelled_caught else "done"] += 1

    async def ask(self, number: int) -> None:
        assert await self.pool.fetch("SELECT %s::int", (number,)) == [(number,)]

    async def ask_slowly(self, number: int) -> None:
        query = "SELECT %s::int FROM pg_sleep(0.001)"
        assert await self.pool.fetch_value(query, (number,)) == number

    async def transact(self, number: int) -> None:
        update = "UPDATE fuzz SET v = v + %s WHERE k = %s"
        async with self.pool.transaction() as connection:
            await connection.execute(update, (1, number % 10))
            async with connection.transaction():
                await connection.execute(update, (-1, number % 10))

    async def pipeline(self, number: int) -> None:
        async with self.pool.connection() as connection, connection.pipeline():
            cursors = [
                await connection.execute("SELECT %s::int", (number + n,))
                for n in range(5)
            ]
            for n, cursor in enumerate(cursors):
                assert await cursor.fetchone() == (number + n,)

    async def many(self, number: int) -> None:
        async with self.pool.connection() as connection:
            update = "UPDATE fuzz SET v = v + %s WHERE k = %s"
            await connection.execute_many(
                update, [(1, number % 10), (2, number % 10), (-3, number % 10)]
            )


@pytest.mark.service
async def test_cancelled_at_any_moment_no_answer_goes_astray(
    database: str, observer: Connection
) -> None:
    pool = Pool(database, size=6)
    await pool.execute(
        "CREATE TABLE fuzz AS SELECT k, 0 AS v FROM generate_series(0, 9) k"
    )
    fuzz = Fuzz(pool)
    with trio.fail_after(FUZZ_S_MAX):
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(fuzz.worker)
    print("outcomes", dict(fuzz.outcomes), pool.statistics())
    statistics = pool.statistics()
    assert statistics.in_use == statistics.waiting == statistics.open_errors == 0
    assert statistics.idle <= 6
    assert statistics.opened == statistics.broken + statistics.idle
    assert await pool.fetch_one("SELECT sum(v)::int, count(*) FROM fuzz") == (0, 10)
    in_transaction = "SELECT count(*) FROM pg_stat_activity WHERE datname ="
    in_transaction += " current_database() AND state LIKE 'idle in transaction%'"
    assert await pool.fetch_value(in_transaction) == 0
    await pool.aclose()
