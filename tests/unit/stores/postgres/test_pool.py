# ruff: noqa: PT012  # what a block leaves behind is the subject
from __future__ import annotations

import pytest
import trio

from tchatd.kernel.errors import Unavailable
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.errors import ConnectionLost, PoolFull, UniqueViolation
from tchatd.stores.postgres.pool import Pool
from tests.support.postgres import (
    kill,
    open_folder,
    own_server,
    until,
    until_not_running,
    until_running,
)

pytestmark = pytest.mark.service


async def terminate(observer: Connection, pids: list[int]) -> None:
    await observer.fetch("SELECT pg_terminate_backend(unnest(%b::int[]))", (pids,))
    gone = "NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ANY(%b))"
    await until(observer, gone, pids)


async def test_a_query_without_a_connection_in_hand(pool: Pool) -> None:
    assert await pool.fetch("SELECT %s::int, %s::text", (41, "ü")) == [(41, "ü")]
    assert await pool.fetch_one("SELECT 1 WHERE false") is None
    assert await pool.fetch_value("SELECT 7") == 7
    assert await pool.execute("CREATE TABLE t AS SELECT generate_series(1, 5)") == 5


async def test_a_transaction_without_a_connection_in_hand(pool: Pool) -> None:
    await pool.execute("CREATE TABLE t (a int PRIMARY KEY)")
    async with pool.transaction() as connection:
        await connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(UniqueViolation):
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES (2)")
            await connection.execute("INSERT INTO t VALUES (1)")
    assert await pool.fetch("SELECT a FROM t") == [(1,)]


async def test_it_never_has_more_connections_than_its_size(pool: Pool) -> None:
    seen: set[int] = set()

    async def work() -> None:
        async with pool.connection() as connection:
            seen.add(connection.backend_pid)
            await connection.execute("SELECT 1")

    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(work)
    statistics = pool.statistics()
    assert len(seen) == 4
    assert (statistics.idle, statistics.in_use, statistics.opened) == (4, 0, 4)
    assert statistics.waits == 36
    assert statistics.broken == statistics.refused == 0


async def test_the_most_recently_used_comes_first(pool: Pool) -> None:
    async with pool.connection() as first, pool.connection() as second:
        pids = [first.backend_pid, second.backend_pid]
    async with pool.connection() as again:
        assert again.backend_pid == pids[0]  # given back last


async def test_who_waits_too_long_is_refused(database: str) -> None:
    pool = Pool(database, size=1, wait_s=0.05)
    async with pool.connection():
        with pytest.raises(PoolFull) as raised:
            await pool.fetch("SELECT 1")
    assert isinstance(raised.value, Unavailable)
    assert raised.value.retry_after_s == 1
    assert await pool.fetch_value("SELECT 1") == 1
    assert pool.statistics().refused == 1
    assert pool.statistics().wait_s_total >= 0.05
    await pool.aclose()


async def test_who_finds_too_many_waiting_is_refused_at_once(database: str) -> None:
    pool = Pool(database, size=1, waiting_max=2)
    async with trio.open_nursery() as nursery, pool.connection():
        for _ in range(2):
            nursery.start_soon(pool.check)
        await trio.testing.wait_all_tasks_blocked()
        assert pool.statistics().waiting == 2
        with pytest.raises(PoolFull):
            await pool.check()
    assert pool.statistics().waiting == 0
    await pool.aclose()


async def test_who_waits_is_served_in_order_and_may_give_up(database: str) -> None:
    pool = Pool(database, size=1)
    served: list[int] = []

    async def wait(number: int, scope: trio.CancelScope) -> None:
        with scope:
            async with pool.connection():
                served.append(number)

    scopes = [trio.CancelScope() for _ in range(5)]
    async with trio.open_nursery() as nursery, pool.connection():
        for number, scope in enumerate(scopes):
            nursery.start_soon(wait, number, scope)
            await trio.testing.wait_all_tasks_blocked()
        scopes[2].cancel()
    assert served == [0, 1, 3, 4]
    assert pool.statistics().opened == 1
    await pool.aclose()


async def test_connections_that_died_idle_are_replaced_unseen(
    pool: Pool, observer: Connection, database: str
) -> None:
    async with pool.connection() as first, pool.connection() as second:
        pids = [first.backend_pid, second.backend_pid]
    await terminate(observer, pids)
    assert await pool.fetch_value("SELECT 7") == 7
    statistics = pool.statistics()
    assert (statistics.broken, statistics.opened, statistics.idle) == (2, 3, 1)


async def test_a_connection_that_dies_in_use_is_seen_once(
    pool: Pool, observer: Connection
) -> None:
    with pytest.raises(ConnectionLost):
        async with pool.connection() as connection:
            await terminate(observer, [connection.backend_pid])
            await connection.execute("SELECT 1")
    assert await pool.fetch_value("SELECT 7") == 7
    assert pool.statistics().broken == 1


async def test_a_cancelled_query_gives_a_usable_connection_back(
    pool: Pool, observer: Connection
) -> None:
    async with pool.connection() as observer, trio.open_nursery() as nursery:
        nursery.start_soon(pool.execute, "SELECT pg_sleep(600)")
        await until_running(observer, "pg_sleep")
        nursery.cancel_scope.cancel()
    async with pool.connection() as observer:
        await until_not_running(observer, "pg_sleep")
    statistics = pool.statistics()
    assert (statistics.opened, statistics.idle, statistics.broken) == (2, 2, 0)


async def test_a_connection_left_in_a_transaction_is_not_given_out_again(
    pool: Pool,
) -> None:
    async with pool.connection() as connection:
        await connection.execute("BEGIN")
    assert connection.closed
    assert pool.statistics().broken == 1


async def test_an_old_connection_is_replaced(database: str) -> None:
    pool = Pool(database, size=1, age_s_max=0)
    pids = {await pool.fetch_value("SELECT pg_backend_pid()") for _ in range(3)}
    assert len(pids) == 3
    assert pool.statistics().aged == 2
    await pool.aclose()


async def test_run_discards_what_died_and_closes_at_the_end(
    database: str, observer: Connection
) -> None:
    pool = Pool(database, size=2, health_interval_s=0.01)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        assert pool.statistics().idle == 1
        async with pool.connection() as connection:
            pid = connection.backend_pid
        await terminate(observer, [pid])
        with trio.fail_after(10):
            while pool.statistics().idle:
                await trio.sleep(0.01)
        async with pool.connection() as held:
            nursery.cancel_scope.cancel()
    assert held.closed
    with pytest.raises(ConnectionLost):
        await pool.check()


async def test_run_fails_when_there_is_no_server() -> None:
    pool = Pool("host=/nonexistent user=nobody")
    with pytest.raises(ConnectionLost):
        await pool.run()
    assert pool.statistics().open_errors == 1


async def test_closing_turns_those_who_wait_away(database: str) -> None:
    pool = Pool(database, size=1)

    async def wait() -> None:
        with pytest.raises(ConnectionLost):
            await pool.check()

    async with trio.open_nursery() as nursery:
        async with pool.connection() as held:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await pool.aclose()
        assert held.closed


async def test_when_the_server_restarts_callers_see_unavailable_for_a_while() -> None:
    with open_folder() as folder:
        async with own_server(folder / "postgres") as server:
            pool = Pool(server.dsn, size=4)
            outcomes: list[str] = []
            stop = trio.Event()

            async def ask() -> None:
                while not stop.is_set():
                    try:
                        await pool.fetch_value("SELECT 7, pg_sleep(0.001)")
                        outcomes.append("answered")
                    except Unavailable:
                        outcomes.append("unavailable")
                        await trio.sleep(0.01)

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(ask)
                with trio.fail_after(30):
                    while len(outcomes) < 100:
                        await trio.sleep(0.01)
                    assert "unavailable" not in outcomes
                    kill(server.statistics().pid)
                    while "unavailable" not in outcomes:
                        await trio.sleep(0.01)
                    outcomes.clear()
                    while outcomes[-100:].count("answered") < 100:
                        await trio.sleep(0.01)
                stop.set()
            assert server.statistics().restarts == 1
            statistics = pool.statistics()
            assert statistics.idle + statistics.in_use <= 4
            await pool.aclose()
