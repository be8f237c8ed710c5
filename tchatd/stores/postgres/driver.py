"""Owns how psycopg's protocol is waited for under Trio; refuses to pool or translate.

psycopg 3 keeps its protocol in generators apart from the waiting: a generator yields
what it waits for (`Wait`) and is sent what is ready (`Ready`). Here Trio does that
waiting, and five things that belong to asyncio are replaced: `wait`, the waiting and
the name look-up of `connect`, `lock`, `cancel_safe` and what happens when a query is
interrupted. Cursors, adaptation, prepared statements and pipelines are psycopg's.

Cancellation. A cancelled query is cancelled on the server as well, and the connection
is used again. Where that is not possible (half a pipeline, a server that does not
react within `CLEANUP_S`) the connection is closed. A cancelled call so leaves either an
idle connection (or one in the transaction it was in), or a closed one.

Private names of psycopg 3.3 in use: `_connect_gen`, `_cancel_gen`, `_pipeline`,
`_get_connection_params`, `_should_cancel`, `_WaitTimeout`, `_autocommit`. Hence the pin
`psycopg>=3.3,<3.4`. Cancelling needs libpq 17 or later; `psycopg[binary]` brings 18.
"""

from __future__ import annotations

import logging
import select
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, TypeVar

import psycopg
import trio
from psycopg import errors as e
from psycopg import pq
from psycopg._pipeline_async import AsyncPipeline
from psycopg.abc import PQGen, PQGenConn
from psycopg.conninfo import conninfo_attempts, make_conninfo, timeout_from_conninfo
from psycopg.waiting import READY_NONE, READY_R, READY_W, WAIT_R, WAIT_W, Ready, Wait

# psycopg warns of every error that it ignores while it cleans up, which after a
# cancellation is what it should do; whoever called has the error or the Cancelled.
logging.getLogger("psycopg").setLevel(logging.ERROR)

T = TypeVar("T")
Row = tuple[Any, ...]

BUSY_S_MAX = 0.005
"""Longest run of queries that never blocked without giving Trio's scheduler a turn."""
CLEANUP_S = 5.0
"""Longest shielded rollback, or cancel on the server."""
CANCEL_AGAIN_S = 0.05
"""Before the server is asked once more to cancel; then twice as long, and so on."""

_EVENTS = {
    int(WAIT_R): select.POLLIN,
    int(WAIT_W): select.POLLOUT,
    int(WAIT_R | WAIT_W): select.POLLIN | select.POLLOUT,
}


def shielded() -> trio.CancelScope:
    """A scope in which what has begun is finished, for at most `CLEANUP_S`."""
    return trio.CancelScope(deadline=trio.current_time() + CLEANUP_S, shield=True)


def ready_now(fd: int, wait: Wait) -> int:
    """What of `wait` can be done on fd without waiting."""
    poll = select.poll()
    poll.register(fd, _EVENTS[int(wait)])
    ready = int(READY_NONE)
    for _, events in poll.poll(0):
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            ready |= READY_R & wait
        if events & (select.POLLOUT | select.POLLERR):
            ready |= READY_W & wait
    return ready


async def _block(fd: int, wait: Wait) -> Ready | int:
    """Wait until something of `wait` can be done on fd."""
    if wait == WAIT_R:
        await trio.lowlevel.wait_readable(fd)
        return READY_R
    # A socket is nearly always writable: asking first spares a trip through epoll.
    if ready := ready_now(fd, wait):
        return ready
    if wait == WAIT_W:
        await trio.lowlevel.wait_writable(fd)
        return READY_W
    async with trio.open_nursery() as nursery:

        async def one(wait_for: Callable[[int], Awaitable[None]]) -> None:
            await wait_for(fd)
            nursery.cancel_scope.cancel()

        nursery.start_soon(one, trio.lowlevel.wait_readable)
        nursery.start_soon(one, trio.lowlevel.wait_writable)
    return ready_now(fd, wait)


_last_turn_s = 0.0  # when Trio's scheduler last had a turn, for all connections


async def _drive(generator: PQGen[T], fd: int) -> T:
    """Run a protocol generator on fd to its end."""
    global _last_turn_s
    blocked = False
    try:
        wait = next(generator)
        while True:
            if wait == WAIT_R:
                await trio.lowlevel.wait_readable(fd)
                _last_turn_s, blocked = monotonic(), True
                wait = generator.send(READY_R)
                continue
            wait = generator.send(await _block(fd, wait))
            if monotonic() - _last_turn_s > BUSY_S_MAX:
                await trio.lowlevel.checkpoint()
                _last_turn_s = monotonic()
    except StopIteration as stop:
        if not blocked and monotonic() - _last_turn_s > BUSY_S_MAX:
            await trio.lowlevel.cancel_shielded_checkpoint()
            _last_turn_s = monotonic()
        result: T = stop.value
        return result
    except (OSError, trio.ClosedResourceError) as error:
        raise e.OperationalError("connection socket closed") from error


async def _drive_connecting(generator: PQGenConn[T]) -> T:
    """Run a generator of libpq's connecting or cancelling, which choose the fd."""
    try:
        fd, wait = next(generator)
        while True:
            if wait == WAIT_R:
                await trio.lowlevel.wait_readable(fd)
                ready = READY_R
            else:  # Writable means connected here, so it is really waited for.
                await trio.lowlevel.wait_writable(fd)
                ready = READY_W
            fd, wait = generator.send(ready)
    except StopIteration as stop:
        result: T = stop.value
        return result
    except OSError as error:
        raise e.OperationalError("connection socket closed") from error


class _Lock:
    """Keeps one query at a time on a connection.

    An uncontended acquire is no checkpoint: it is taken around every query, and has
    to be takable in a cancelled scope. It is no `trio.Lock`, because an abandoned
    `stream()` is finalised, and so released, by another task than took it.
    """

    __slots__ = ("_semaphore",)

    def __init__(self) -> None:
        self._semaphore = trio.Semaphore(1, max_value=1)

    async def __aenter__(self) -> None:
        try:
            self._semaphore.acquire_nowait()
        except trio.WouldBlock:
            await self._semaphore.acquire()

    async def __aexit__(self, *exc: object) -> None:
        self._semaphore.release()


class Driver(psycopg.AsyncConnection[Row]):
    """A psycopg connection that waits with Trio; always in autocommit.

    Its `transaction()` is not used: see `Connection.transaction`.
    """

    def __init__(self, pgconn: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(pgconn, *args, **kwargs)
        self.lock = _Lock()  # type: ignore[assignment]  # of the same shape

    @classmethod
    async def open(cls, dsn: str, **parameters: str | int | None) -> Driver:
        """Connect; tries every address of the DSN, each for `connect_timeout`.

        Raises:
            psycopg.Error: no address took the connection.
        """
        params = await cls._get_connection_params(dsn, **parameters)
        timeout_s = timeout_from_conninfo(params)
        host = str(params.get("host") or "")
        if not host or host.startswith("/") or params.get("hostaddr"):
            attempts = list(conninfo_attempts(params))
        else:  # A name look-up blocks, in a thread that may be left behind.
            attempts = await trio.to_thread.run_sync(
                lambda: list(conninfo_attempts(params)), abandon_on_cancel=True
            )
        last: e.Error = e.OperationalError("the DSN names no host")
        for attempt in attempts:
            try:
                with trio.fail_after(timeout_s):
                    driver = await _drive_connecting(
                        cls._connect_gen(make_conninfo("", **attempt))
                    )
            except trio.TooSlowError:
                last = e.ConnectionTimeout("connection timeout expired")
            except e.Error as error:
                last = error
            else:
                driver._autocommit = True
                return driver
        raise last

    async def wait(
        self,
        gen: PQGen[T],
        interval: float = 0.0,
        timeout: float | None = None,  # noqa: ASYNC109  # psycopg's
    ) -> T:
        """Run a protocol generator to its end; `interval` is psycopg's, and unused."""
        fd = self.pgconn.socket
        try:
            if timeout is None:
                return await _drive(gen, fd)
            with trio.move_on_after(timeout):
                return await _drive(gen, fd)
            raise e._WaitTimeout("wait timeout expired")
        except (trio.Cancelled, KeyboardInterrupt):
            await self._interrupted(gen, fd)
            if self.closed:  # What it still does on its way out fails, so now.
                with suppress(e.Error):
                    gen.close()
            raise

    async def _interrupted(self, gen: PQGen[T], fd: int) -> None:
        """Leave the connection usable after a cancelled query, or close it."""
        if self.pgconn.status != pq.ConnStatus.OK:
            return
        if self.pgconn.pipeline_status != pq.PipelineStatus.OFF:
            self.abort()
            return
        if self.pgconn.transaction_status != pq.TransactionStatus.ACTIVE:
            return
        answered = trio.Event()
        try:
            with shielded() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._ask_to_cancel, answered)
                    with suppress(e.Error):  # Cancelled, as asked, or failed by itself.
                        await _drive(gen, fd)
                    answered.set()
        except* e.Error:
            self.abort()  # The server did not take the request to cancel.
        finally:
            is_active = self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE
            if is_active or scope.cancelled_caught:
                self.abort()

    async def _ask_to_cancel(self, answered: trio.Event) -> None:
        """Ask until there is an answer: what overtakes its query finds nothing
        to cancel. None is left half-way, where it would meet the next query instead.
        """
        wait_s = CANCEL_AGAIN_S
        while not answered.is_set():
            await _drive_connecting(self._cancel_gen())
            with trio.move_on_after(wait_s):
                await answered.wait()
            wait_s *= 2

    def abort(self) -> None:
        """Close the socket at once; whoever waits on it gets an OperationalError."""
        self._closed = True
        if self.pgconn.status != pq.ConnStatus.BAD:
            trio.lowlevel.notify_closing(self.pgconn.socket)
        self.pgconn.finish()

    async def close(self) -> None:
        self.abort()

    async def cancel_safe(self, *, timeout: float = CLEANUP_S) -> None:  # noqa: ASYNC109
        if not self._should_cancel():
            return
        with trio.move_on_after(timeout) as scope:
            await _drive_connecting(self._cancel_gen())
        if scope.cancelled_caught:
            raise e.CancellationTimeout("cancellation timeout expired")

    async def _try_cancel(self, *, timeout: float = CLEANUP_S) -> None:  # noqa: ASYNC109
        with trio.CancelScope(shield=True):
            await super()._try_cancel(timeout=timeout)

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[AsyncPipeline]:
        async with self.lock:
            self._check_connection_ok()
            if (pipeline := self._pipeline) is None:
                pipeline = self._pipeline = AsyncPipeline(self)
        try:
            async with pipeline:
                yield pipeline
        finally:
            if pipeline.level == 0:
                self._pipeline = None
