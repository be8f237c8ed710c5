"""Owns one connection to PostgreSQL: queries, pipelines, transactions that end.

Refuses to be shared: one task uses it at a time (calls of several are serialised, but
their transactions would mix). Results are binary and times are in UTC. For arrays say
`%b` instead of `%s`: it sends them in binary, three to four times as fast for 500 rows.

Cancellation: a cancelled query is cancelled on the server too, and the connection stays
usable, or is closed (see `driver`). A transaction is committed or rolled back whatever
happens to the task; only when the server does not answer within `CLEANUP_S` is the
connection closed instead, which rolls back as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import trio
from psycopg import pq, sql

from tchatd.stores.postgres.driver import CLEANUP_S, Driver, Row, ready_now, shielded
from tchatd.stores.postgres.errors import ConnectionLost, QueryRefused, translated
from tchatd.stores.postgres.statements import Numbered

Query = str | sql.SQL | sql.Composed
Params = Sequence[Any] | Mapping[str, Any]
Cursor = psycopg.AsyncCursor[Row]

_KEEPALIVE = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A server that vanished without a word is noticed within 60 s, also while reading."""

_UNENDED = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)


class Connection:
    """Made by `connect`. Every method raises the store's errors (see `errors`)."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._depth = 0

    @classmethod
    async def connect(
        cls,
        dsn: str,
        *,
        application_name: str = "tchatd",
        connect_timeout_s: int = 5,
        statement_timeout_s: float = 30.0,
        idle_in_transaction_s: float = 60.0,
        prepare_threshold: int | None = 5,
    ) -> Connection:
        """Open a connection; what the DSN itself says goes before these arguments.

        statement_timeout_s, idle_in_transaction_s: kept by the server; 0 for none.
        prepare_threshold: a statement is prepared when it is run this often.

        Raises:
            ConnectionLost: no address of the DSN took the connection in time.
            QueryRefused: the DSN is malformed, or the server refuses who asks.
        """
        with translated:
            given = psycopg.conninfo.conninfo_to_dict(dsn)
            parameters: dict[str, str | int | None] = {
                "application_name": application_name,
                "connect_timeout": connect_timeout_s,
                "client_encoding": "UTF8",
                **_KEEPALIVE,
            }
            parameters = {k: v for k, v in parameters.items() if k not in given}
            server = {
                "timezone": "UTC",
                "statement_timeout": round(statement_timeout_s * 1000),
                "idle_in_transaction_session_timeout": round(
                    idle_in_transaction_s * 1000
                ),
            }
            options = [f"-c {name}={value}" for name, value in server.items()]
            parameters["options"] = " ".join([*options, str(given.get("options", ""))])
            driver = await Driver.open(dsn, **parameters)
            driver.prepare_threshold = prepare_threshold
            return cls(driver)

    @property
    def closed(self) -> bool:
        return self._driver.closed

    @property
    def idle(self) -> bool:
        """Open, and in no transaction: it may go back to a pool."""
        status = self._driver.pgconn.transaction_status
        return not self.closed and status == pq.TransactionStatus.IDLE

    @property
    def in_transaction(self) -> bool:
        """Open, and in a transaction that has not ended, as the server said last."""
        status = self._driver.pgconn.transaction_status
        return not self.closed and status in _UNENDED

    @property
    def stale(self) -> bool:
        """Asked while idle: the server closed it, or is about to. No round trip.

        A connection of which nobody awaits anything has nothing to say but that.
        """
        return self.closed or bool(
            ready_now(self._driver.pgconn.socket, psycopg.waiting.Wait.R)
        )

    @property
    def backend_pid(self) -> int:
        return self._driver.info.backend_pid

    @property
    def server_version(self) -> int:
        """As PostgreSQL numbers it: 180006 is 18.6."""
        return self._driver.info.server_version

    async def execute(
        self, query: Query, params: Params | None = None, *, binary: bool = True
    ) -> Cursor:
        """Run one statement.

        In a pipeline it is queued: its error, and the errors of earlier statements,
        come from a later call or from leaving the pipeline.
        binary: False lets a text without parameters hold several statements.
        """
        with translated:
            return await self._driver.execute(query, params, binary=binary)

    async def execute_numbered(
        self, statement: Numbered, parameters: Mapping[str, Any]
    ) -> psycopg.AsyncRawCursor[Row]:
        """As `execute`, of a statement that was taken apart before."""
        with translated:
            cursor = psycopg.AsyncRawCursor(self._driver)
            values = statement.values(parameters)
            return await cursor.execute(statement.text, values, binary=True)

    async def execute_many(self, query: Query, rows: Iterable[Params]) -> None:
        """Run one statement for each of `rows`, in a pipeline: all or none of them."""
        with translated:
            cursor = self._driver.cursor()
            await cursor.executemany(query, rows)

    async def fetch(self, query: Query, params: Params | None = None) -> list[Row]:
        with translated:
            cursor = await self._driver.execute(query, params, binary=True)
            return await cursor.fetchall()

    async def fetch_one(self, query: Query, params: Params | None = None) -> Row | None:
        """The first row, or None when there is none."""
        with translated:
            cursor = await self._driver.execute(query, params, binary=True)
            return await cursor.fetchone()

    async def fetch_value(self, query: Query, params: Params | None = None) -> Any:
        """The first column of the first row, or None when there is no row."""
        row = await self.fetch_one(query, params)
        return None if row is None else row[0]

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Pipeline]:
        """Send what is executed inside without waiting for each answer.

        Outside a transaction, what stands between two `sync()` is one: all of it
        happens, or none. A cancellation inside closes the connection.
        """
        with translated:
            async with self._driver.pipeline() as pipeline:
                yield Pipeline(pipeline)

    @asynccontextmanager
    async def transaction(self, *, isolation: str | None = None) -> AsyncIterator[None]:
        """Commit at the end of the block, roll back on an exception; may be nested.

        A nested one is a savepoint. The block's COMMIT, once sent, is waited for even
        if the task is cancelled meanwhile, for at most `CLEANUP_S`.
        isolation: "REPEATABLE READ" or "SERIALIZABLE", of the outermost only.

        Raises:
            ConnectionLost: also when the answer to COMMIT was lost: the caller does
                not know whether the transaction happened.
            QueryRefused: an error inside was swallowed, so there is nothing to commit.
        """
        assert isolation in (None, "REPEATABLE READ", "SERIALIZABLE")
        assert isolation is None or self._depth == 0
        with translated:
            point = f"tchatd_{self._depth}"
            self._depth += 1
            try:
                await self._settle_pipeline()
                if point == "tchatd_0":
                    level = f" ISOLATION LEVEL {isolation}" if isolation else ""
                    await self._command(f"BEGIN{level}")
                else:
                    await self._command(f"SAVEPOINT {point}")
                yield
                await trio.lowlevel.checkpoint_if_cancelled()
                if point == "tchatd_0":
                    await self._commit()
                else:
                    await self._command(f"RELEASE {point}")
            except BaseException:
                await self._roll_back(None if point == "tchatd_0" else point)
                raise
            finally:
                self._depth -= 1

    async def check(self) -> None:
        """Ask the server for a sign of life."""
        await self.fetch_one("SELECT 1")

    def close(self) -> None:
        """Close at once; what runs on it fails with ConnectionLost."""
        self._driver.abort()

    async def _command(self, command: str) -> Cursor:
        return await self._driver.execute(command, prepare=False)

    async def _settle_pipeline(self) -> None:
        """End the implicit transaction of what was queued before."""
        pipeline = self._driver._pipeline
        if pipeline is not None and (pipeline.command_queue or pipeline.result_queue):
            await pipeline.sync()

    async def _commit(self) -> None:
        with shielded() as scope:
            cursor = await self._command("COMMIT")
            if self._driver._pipeline is not None:
                await self._driver._pipeline.sync()
        if scope.cancelled_caught:
            self._driver.abort()
            raise ConnectionLost(f"The store did not answer COMMIT in {CLEANUP_S:g} s")
        if cursor.statusmessage != "COMMIT":
            raise QueryRefused("a statement of the transaction had failed", "25P02")

    async def _roll_back(self, point: str | None) -> None:
        """Undo to the savepoint, or all. Leaves the connection right, or closed."""
        driver = self._driver
        status, intended = pq.TransactionStatus, pq.TransactionStatus.IDLE
        if point is not None:
            intended = status.INTRANS
        try:
            with shielded():
                await self._drain_pipeline()
                now = driver.pgconn.transaction_status
                if driver.closed or now == status.IDLE:
                    pass
                elif point is None:
                    await self._command("ROLLBACK")
                else:
                    await self._command(f"ROLLBACK TO {point}")
                    await self._command(f"RELEASE {point}")
                await self._drain_pipeline()
        except psycopg.Error:
            pass  # The block's own error says more; what is left is closed below.
        if not driver.closed and driver.pgconn.transaction_status != intended:
            driver.abort()

    async def _drain_pipeline(self) -> None:
        pipeline = self._driver._pipeline
        if pipeline is not None and not self._driver.closed:
            with suppress(psycopg.Error):  # Of statements that are rolled back.
                await pipeline.sync()


class Pipeline:
    """What `Connection.pipeline` yields."""

    __slots__ = ("_pipeline",)

    def __init__(self, pipeline: psycopg.AsyncPipeline) -> None:
        self._pipeline = pipeline

    async def sync(self) -> None:
        """Send all that is queued, and wait until the server has done it.

        Raises the first error among what was queued.
        """
        with translated:
            await self._pipeline.sync()
