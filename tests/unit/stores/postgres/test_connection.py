# ruff: noqa: PT012  # what a block leaves behind is the subject
from __future__ import annotations

import datetime
import uuid
from contextlib import closing

import pytest
import trio
from psycopg.types.json import Jsonb

from tchatd.kernel.errors import Unavailable
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.errors import (
    ConnectionLost,
    QueryRefused,
    StatementTimeout,
    UniqueViolation,
    ValueRefused,
)
from tests.support.postgres import until, until_not_running, until_running

pytestmark = pytest.mark.service


async def test_rows_come_back_typed(connection: Connection) -> None:
    id = uuid.uuid4()
    row = await connection.fetch_one(
        "SELECT %s::int, %s::text, %s::uuid, %s::jsonb, %s::numeric, %s::bytea",
        (41, "ü", id, Jsonb({"a": [1]}), 2, b"\0"),
    )
    assert row == (41, "ü", id, {"a": [1]}, 2, b"\0")
    assert await connection.fetch("SELECT 1 WHERE false") == []
    assert await connection.fetch_one("SELECT 1 WHERE false") is None
    assert await connection.fetch_value("SELECT 1 WHERE false") is None


async def test_times_are_in_utc(connection: Connection) -> None:
    time = await connection.fetch_value("SELECT '2026-01-01T07:00+07'::timestamptz")
    assert time == datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    assert time.utcoffset() == datetime.timedelta(0)


async def test_arrays_travel_in_binary(connection: Connection) -> None:
    await connection.execute("CREATE TABLE t (id uuid, body text, n bigint)")
    ids = [uuid.uuid4() for _ in range(500)]
    await connection.execute(
        "INSERT INTO t SELECT * FROM unnest(%b::uuid[], %b::text[], %b::bigint[])",
        (ids, ["b"] * 500, list(range(500))),
    )
    rows = await connection.fetch("SELECT id FROM t ORDER BY n")
    assert [row[0] for row in rows] == ids


async def test_what_the_dsn_says_goes_before_the_arguments(
    empty_database: str,
) -> None:
    dsn = f"{empty_database} application_name=mine options='-c work_mem=1234'"
    with closing(await Connection.connect(dsn, application_name="other")) as c:
        assert await c.fetch_value("SHOW application_name") == "mine"
        assert await c.fetch_value("SHOW work_mem") == "1234kB"
        assert await c.fetch_value("SHOW statement_timeout") == "30s"


async def test_a_refused_connection_is_unavailable() -> None:
    with pytest.raises(ConnectionLost):
        await Connection.connect("host=127.0.0.1 port=1 user=nobody")
    with pytest.raises(ConnectionLost):
        await Connection.connect("host=/nonexistent user=nobody")


async def test_a_malformed_dsn_is_the_programmers_error() -> None:
    with pytest.raises(QueryRefused):
        await Connection.connect("hots=127.0.0.1")


async def test_a_server_that_never_answers_is_given_up() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    begun_s = trio.current_time()
    with pytest.raises(ConnectionLost):
        await Connection.connect(
            f"host=127.0.0.1 port={port} user=nobody", connect_timeout_s=2
        )
    assert trio.current_time() - begun_s < 10
    await listeners[0].aclose()


async def test_a_cancelled_query_ends_on_the_server_too(
    connection: Connection, observer: Connection
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.execute, "SELECT pg_sleep(600)")
        await until_running(observer, "pg_sleep")
        nursery.cancel_scope.cancel()
    await until_not_running(observer, "pg_sleep")
    assert connection.idle
    assert await connection.fetch_value("SELECT 7") == 7


async def test_a_query_in_a_cancelled_scope_changes_nothing_later(
    connection: Connection,
) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.execute("SELECT pg_sleep(600)")
    assert scope.cancelled_caught
    assert connection.idle
    assert await connection.fetch_value("SELECT 7") == 7


async def test_a_slow_statement_is_stopped_by_the_server(empty_database: str) -> None:
    with closing(
        await Connection.connect(empty_database, statement_timeout_s=0.05)
    ) as connection:
        with pytest.raises(StatementTimeout):
            await connection.execute("SELECT pg_sleep(600)")
        assert connection.idle


async def test_tasks_on_one_connection_wait_for_each_other(
    connection: Connection,
) -> None:
    seen: list[int] = []

    async def ask(number: int) -> None:
        seen.append(await connection.fetch_value("SELECT %s::int", (number,)))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, number)
    assert sorted(seen) == list(range(20))


async def test_a_terminated_backend_is_a_lost_connection(
    connection: Connection, observer: Connection
) -> None:
    with pytest.raises(ConnectionLost):
        async with connection.transaction():
            await observer.fetch(
                "SELECT pg_terminate_backend(%s)", (connection.backend_pid,)
            )
            await connection.execute("SELECT 1")
    assert connection.closed
    with pytest.raises(ConnectionLost):
        await connection.execute("SELECT 1")


async def test_closing_wakes_who_waits_for_an_answer(
    connection: Connection, observer: Connection
) -> None:
    async def close() -> None:
        await until_running(observer, "pg_sleep")
        connection.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        with pytest.raises(ConnectionLost):
            await connection.execute("SELECT pg_sleep(600)")


async def test_a_value_that_cannot_be_stored_is_invalid(connection: Connection) -> None:
    with pytest.raises(ValueRefused):
        await connection.execute("SELECT %s::text", ("a\0b",))
    with pytest.raises(ValueRefused):
        await connection.execute("SELECT %s::bigint::int", (1 << 40,))
    assert connection.idle


class TestTransaction:
    @pytest.fixture
    async def connection(self, connection: Connection) -> Connection:
        await connection.execute("CREATE TABLE t (a int PRIMARY KEY)")
        return connection

    @staticmethod
    async def rows(connection: Connection) -> list[int]:
        return [row[0] for row in await connection.fetch("SELECT a FROM t ORDER BY a")]

    async def test_it_commits_at_its_end(
        self, connection: Connection, observer: Connection
    ) -> None:
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (1)")
            assert await self.rows(observer) == []
        assert await self.rows(observer) == [1]

    async def test_it_rolls_back_on_an_exception(self, connection: Connection) -> None:
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                raise ZeroDivisionError
        assert connection.idle
        assert await self.rows(connection) == []

    async def test_a_nested_one_rolls_back_alone(self, connection: Connection) -> None:
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (1)")
            for _ in range(3):
                with pytest.raises(UniqueViolation) as raised:
                    async with connection.transaction():
                        await connection.execute("INSERT INTO t VALUES (2)")
                        await connection.execute("INSERT INTO t VALUES (1)")
                assert raised.value.constraint == "t_pkey"
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (3)")
        assert await self.rows(connection) == [1, 3]

    async def test_a_swallowed_error_is_not_taken_for_a_commit(
        self, connection: Connection
    ) -> None:
        with pytest.raises(QueryRefused, match="had failed"):
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                with pytest.raises(UniqueViolation):
                    await connection.execute("INSERT INTO t VALUES (1)")
        assert connection.idle
        assert await self.rows(connection) == []

    @pytest.mark.parametrize("statement", ["SELECT pg_sleep(600)", ""])
    async def test_a_cancelled_one_rolls_back(
        self, connection: Connection, observer: Connection, statement: str
    ) -> None:
        inserted = trio.Event()

        async def write() -> None:
            async with connection.transaction(), connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                inserted.set()
                if statement:
                    await connection.execute(statement)
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await inserted.wait()
            if statement:
                await until_running(observer, "pg_sleep")
            nursery.cancel_scope.cancel()
        assert connection.idle
        assert await self.rows(connection) == []

    async def test_a_cancellation_before_begin_leaves_it_idle(
        self, connection: Connection
    ) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with connection.transaction():
                raise AssertionError("not reached")
        assert connection.idle
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (1)")
        assert await self.rows(connection) == [1]

    async def test_a_commit_that_was_sent_is_waited_for(
        self, connection: Connection, observer: Connection
    ) -> None:
        await connection.execute(
            """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$""",
        )
        await connection.execute(
            """CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON t DEFERRABLE
            INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()"""
        )

        async def write() -> None:
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await until_running(observer, "COMMIT")
            nursery.cancel_scope.cancel()
        assert await self.rows(observer) == [1]

    async def test_serializable_is_what_it_says(self, connection: Connection) -> None:
        async with connection.transaction(isolation="SERIALIZABLE"):
            level = await connection.fetch_value("SHOW transaction_isolation")
        assert level == "serializable"

    async def test_a_lost_connection_inside_leaves_nothing(
        self, connection: Connection, observer: Connection
    ) -> None:
        with pytest.raises(Unavailable):
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                pid = connection.backend_pid
                await observer.fetch("SELECT pg_terminate_backend(%s)", (pid,))
                gone = "NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)"
                await until(observer, gone, pid)
        assert connection.closed
        assert await self.rows(observer) == []


class TestPipeline:
    @pytest.fixture
    async def connection(self, connection: Connection) -> Connection:
        await connection.execute("CREATE TABLE t (a int PRIMARY KEY)")
        return connection

    async def test_answers_are_those_of_their_queries(
        self, connection: Connection
    ) -> None:
        insert = "INSERT INTO t VALUES (%s) RETURNING a"
        async with connection.pipeline() as pipeline:
            cursors = [await connection.execute(insert, (n,)) for n in range(500)]
            await pipeline.sync()
            answers = [await cursor.fetchone() for cursor in cursors]
        assert answers == [(number,) for number in range(500)]

    async def test_more_than_the_sockets_hold_does_not_deadlock(
        self, connection: Connection
    ) -> None:
        big = "x" * 200_000
        async with connection.pipeline():
            cursors = [
                await connection.execute("SELECT %s::text", (big,)) for _ in range(100)
            ]
            for cursor in cursors:
                assert await cursor.fetchone() == (big,)
        assert connection.idle

    async def test_a_failed_one_undoes_what_was_not_synced(
        self, connection: Connection
    ) -> None:
        with pytest.raises(UniqueViolation):
            async with connection.pipeline() as pipeline:
                await connection.execute("INSERT INTO t VALUES (1)")
                await pipeline.sync()
                await connection.execute("INSERT INTO t VALUES (2)")
                await connection.execute("INSERT INTO t VALUES (1)")
                await connection.execute("INSERT INTO t VALUES (3)")
        assert connection.idle
        assert await connection.fetch("SELECT a FROM t") == [(1,)]

    async def test_a_transaction_in_it_commits(self, connection: Connection) -> None:
        async with connection.pipeline():
            await connection.execute("INSERT INTO t VALUES (1)")
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (2)")
                async with connection.transaction():
                    await connection.execute("INSERT INTO t VALUES (3)")
        assert await connection.fetch_value("SELECT count(*) FROM t") == 3

    async def test_a_transaction_in_it_rolls_back(self, connection: Connection) -> None:
        with pytest.raises(UniqueViolation):
            async with connection.pipeline(), connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                await connection.execute("INSERT INTO t VALUES (1)")
        assert connection.idle
        with pytest.raises(ZeroDivisionError):
            async with connection.pipeline(), connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                raise ZeroDivisionError
        assert connection.idle
        assert await connection.fetch("SELECT a FROM t") == []

    async def test_a_savepoint_in_it_rolls_back_alone(
        self, connection: Connection
    ) -> None:
        async with connection.pipeline(), connection.transaction():
            await connection.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(UniqueViolation):
                async with connection.transaction():
                    await connection.execute("INSERT INTO t VALUES (1)")
                    await connection.fetch("SELECT 1")
            await connection.execute("INSERT INTO t VALUES (2)")
        assert await connection.fetch("SELECT a FROM t ORDER BY a") == [(1,), (2,)]

    async def test_a_cancellation_closes_the_connection(
        self, connection: Connection, observer: Connection
    ) -> None:
        async def work() -> None:
            async with connection.pipeline() as pipeline:
                await connection.execute("INSERT INTO t VALUES (1)")
                await connection.execute("SELECT pg_sleep(600)")
                await pipeline.sync()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await until_running(observer, "pg_sleep")
            nursery.cancel_scope.cancel()
        assert connection.closed
        assert await observer.fetch("SELECT a FROM t") == []

    async def test_many_rows_are_all_or_none(self, connection: Connection) -> None:
        insert = "INSERT INTO t VALUES (%s)"
        await connection.execute_many(insert, [(n,) for n in range(1000)])
        with pytest.raises(UniqueViolation):
            await connection.execute_many(insert, [(1000,), (1001,), (5,)])
        assert await connection.fetch_value("SELECT count(*) FROM t") == 1000
