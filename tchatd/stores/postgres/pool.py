"""Owns a bounded set of connections and who waits for one; refuses to grow or retry.

At most `size` connections, opened when needed, the most recently used first. A task
that finds all of them in use waits in line, at most `waiting_max` tasks and each at
most `wait_s`; past either limit it gets `PoolFull` (Unavailable) and has done nothing.

What a caller sees when the server restarts: whoever has a query under way, or sends one
over a connection that dies at that moment, gets `ConnectionLost` (Unavailable), once.
Connections that died while idle are seen when taken and replaced without a word. While
the server is away every call fails at once with `ConnectionLost`; the first call after
it is back opens a new connection. The pool never repeats a query by itself: only the
caller knows whether it may be repeated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from tchatd.kernel.errors import DomainError
from tchatd.stores.postgres.connection import Connection, Params, Query
from tchatd.stores.postgres.driver import Row
from tchatd.stores.postgres.errors import ConnectionLost, PoolFull, QueryRefused


class PoolStatistics(msgspec.Struct, frozen=True):
    """The first four are now, the others count since start.

    waits: how often a task had to wait; wait_s_total: how long, together.
    refused: PoolFull raised. opened, open_errors: connections made, or not.
    broken: connections closed because the server did, or a caller left them unusable.
    aged: connections closed because of `age_s_max` or `idle_s_max`.
    """

    size: int
    in_use: int
    idle: int
    waiting: int
    waits: int
    wait_s_total: float
    refused: int
    opened: int
    open_errors: int
    broken: int
    aged: int


class _Member:
    """A connection of the pool, and when it was opened and last used (Trio's clock)."""

    __slots__ = ("connection", "opened_s", "used_s")

    def __init__(self, connection: Connection, now_s: float) -> None:
        self.connection = connection
        self.opened_s = now_s
        self.used_s = now_s


class Pool:
    """Usable as soon as it is made; `run` adds the health check and closes it.

    options: passed on to `Connection.connect`.
    """

    def __init__(
        self,
        dsn: str,
        *,
        size: int = 8,
        waiting_max: int = 1024,
        wait_s: float = 5.0,
        age_s_max: float = 3600.0,
        idle_s_max: float = 600.0,
        health_interval_s: float = 15.0,
        **options: Any,
    ) -> None:
        assert size >= 1
        assert waiting_max >= 0
        self._dsn = dsn
        self._options = options
        self._size = size
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self._age_s_max = age_s_max
        self._idle_s_max = idle_s_max
        self._health_interval_s = health_interval_s
        self._places = trio.Semaphore(size, max_value=size)
        self._idle: deque[_Member] = deque()
        self._in_use: set[_Member] = set()
        self._closed = False
        self._waits = 0
        self._wait_s_total = 0.0
        self._refused = 0
        self._opened = 0
        self._open_errors = 0
        self._broken = 0
        self._aged = 0

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep the idle connections fresh until cancelled; then close them all.

        Raises:
            Unavailable: no connection could be opened at the start.
        """
        try:
            await self.check()
            task_status.started()
            while True:
                await trio.sleep(self._health_interval_s)
                self._discard_unfit()
        finally:
            await self.aclose()

    async def dedicated(self, **options: Any) -> Connection:
        """A connection beside the pool's, with other options; the caller closes it.

        Raises: ConnectionLost, QueryRefused.
        """
        return await Connection.connect(self._dsn, **{**self._options, **options})

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Borrow a connection. It has to be left in no transaction.

        Raises:
            PoolFull: nobody gave one back in time, or too many wait already.
            ConnectionLost: a new one was needed and the server did not take it.
        """
        await self._acquire_place()
        try:
            member = await self._take()
            self._in_use.add(member)
            try:
                yield member.connection
            finally:
                self._in_use.discard(member)
                self._give_back(member)
        finally:
            self._places.release()

    @asynccontextmanager
    async def transaction(
        self, *, isolation: str | None = None
    ) -> AsyncIterator[Connection]:
        """Borrow a connection for one transaction."""
        async with (
            self.connection() as connection,
            connection.transaction(isolation=isolation),
        ):
            yield connection

    async def fetch(self, query: Query, params: Params | None = None) -> list[Row]:
        async with self.connection() as connection:
            return await connection.fetch(query, params)

    async def fetch_one(self, query: Query, params: Params | None = None) -> Row | None:
        async with self.connection() as connection:
            return await connection.fetch_one(query, params)

    async def fetch_value(self, query: Query, params: Params | None = None) -> Any:
        async with self.connection() as connection:
            return await connection.fetch_value(query, params)

    async def execute(self, query: Query, params: Params | None = None) -> int:
        """Run one statement, which is its own transaction; returns its row count."""
        async with self.connection() as connection:
            return (await connection.execute(query, params)).rowcount

    async def check(self) -> None:
        """Ask the server for a sign of life, over a connection of the pool.

        Raises:
            Unavailable: none came.
        """
        async with self.connection() as connection:
            await connection.check()

    def statistics(self) -> PoolStatistics:
        return PoolStatistics(
            size=self._size,
            in_use=len(self._in_use),
            idle=len(self._idle),
            waiting=self._places.statistics().tasks_waiting,
            waits=self._waits,
            wait_s_total=self._wait_s_total,
            refused=self._refused,
            opened=self._opened,
            open_errors=self._open_errors,
            broken=self._broken,
            aged=self._aged,
        )

    async def aclose(self) -> None:
        """Close the idle connections now, those in use when they are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().connection.close()

    async def _acquire_place(self) -> None:
        if self._closed:
            raise ConnectionLost("The pool is closed")
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            await self._wait_for_place()

    async def _wait_for_place(self) -> None:
        if self._places.statistics().tasks_waiting >= self._waiting_max:
            self._refused += 1
            raise PoolFull("Too many wait for the store")
        self._waits += 1
        since_s = trio.current_time()
        try:
            with trio.fail_after(self._wait_s):
                await self._places.acquire()
        except trio.TooSlowError:
            self._refused += 1
            raise PoolFull("The store is busy") from None
        finally:
            self._wait_s_total += trio.current_time() - since_s
        if self._closed:
            self._places.release()
            raise ConnectionLost("The pool is closed")

    async def _take(self) -> _Member:
        while self._idle:
            member = self._idle.pop()
            if not self._fit(member):
                member.connection.close()
                continue
            return member
        try:
            connection = await Connection.connect(self._dsn, **self._options)
        except (DomainError, QueryRefused):
            self._open_errors += 1
            raise
        self._opened += 1
        return _Member(connection, trio.current_time())

    def _fit(self, member: _Member) -> bool:
        now_s = trio.current_time()
        if member.connection.stale:
            self._broken += 1
            return False
        if (
            now_s - member.opened_s > self._age_s_max
            or now_s - member.used_s > self._idle_s_max
        ):
            self._aged += 1
            return False
        return True

    def _give_back(self, member: _Member) -> None:
        connection = member.connection
        if connection.idle and not self._closed:
            member.used_s = trio.current_time()
            self._idle.append(member)
            return
        if not self._closed:
            self._broken += 1
        connection.close()

    def _discard_unfit(self) -> None:
        """Look at every idle connection once; no round trips, no waiting."""
        for _ in range(len(self._idle)):
            member = self._idle.popleft()
            if self._fit(member):
                self._idle.append(member)
            else:
                member.connection.close()
