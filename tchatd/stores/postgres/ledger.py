"""Owns the ledger's group commit: one batch in flight, the next gathers meanwhile.

There is no timer: a lone command waits for nobody, and while a batch is on its way all
that comes is the next one. Several processes may do this on one database at once: a
batch locks its accounts in the order of their numbers, and one that meets another
(a deadlock, a key that another node was first with) is rolled back and decided again.

What becomes of a batch:
    a command refuses           its answer; the others go on
    it meets another            again, `attempts_max` times; then in halves
    it breaks a rule of ours    in halves, until the one that does it is alone
    the connection is lost
      before the second trip    again, on a new one; for `retry_s`, then Unavailable
      in the second trip        found out (see `ledger_batch`): again, or done; after
                                `in_doubt_s` nobody knows, and InDoubt is the answer
So every command is answered within `retry_s` + `in_doubt_s` and the time of a trip, of
when its batch began. The next batch is safe in any case: if the lost transaction still
runs, it holds the locks on its accounts, and the next waits for them.

A cancelled caller leaves its command behind; a cancelled `run` is a crash: what was
sent may have happened (InDoubt), the rest has not (Unavailable).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final
from uuid import UUID

import msgspec
import trio

from tchatd.domains.payment.ledger.deciding import Command, Outcome, Replayed
from tchatd.domains.payment.ledger.errors import InDoubt
from tchatd.kernel.clock import Clock
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, Unavailable
from tchatd.kernel.ids import Ids
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import BATCH_BUCKETS, Metrics
from tchatd.stores.postgres import ledger_batch
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.errors import (
    CheckViolation,
    ConnectionLost,
    LockNotAvailable,
    SerializationFailure,
    StatementTimeout,
    UniqueViolation,
)
from tchatd.stores.postgres.ledger_batch import Decided, Tables, Waiting
from tchatd.stores.postgres.ledger_rows import key_months

_log = get_logger("ledger")

_MEETS: Final = (
    SerializationFailure,
    UniqueViolation,
    LockNotAvailable,
    StatementTimeout,
)
_ANSWERS: Final = (
    *("done", "replayed", "refused", "unavailable", "in-doubt", "failed"),
)
_PAUSE_S: Final = (0.002, 0.1)
"""Before the first attempt after a meeting; and the most, whatever attempt it is."""
_RECONNECT_S: Final = (0.02, 0.5)
_SESSION: Final = """SELECT
    set_config('plan_cache_mode', 'force_generic_plan', false),
    set_config('enable_seqscan', 'off', false),
    set_config('enable_hashjoin', 'off', false),
    set_config('enable_mergejoin', 'off', false)"""
"""A batch finds its rows by their keys; a plan for every size of array would cost as
much as the batch, and one made before there are statistics may read whole tables."""
_ENTER: Final = (
    "INSERT INTO ledger_batchers (id, batch, active_ms) VALUES (%s, 0, %s)"
    " ON CONFLICT (id) DO NOTHING"
)
_LEAVE: Final = "DELETE FROM ledger_batchers WHERE id = %s"
_ASK: Final = "SELECT batch FROM ledger_batchers WHERE id = %s FOR UPDATE"


class LedgerSettings(msgspec.Struct, frozen=True):
    """See [ledger] in tchatd.toml."""

    batch_max: int
    waiting_max: int
    attempts_max: int
    trip_s: float
    retry_s: float
    in_doubt_s: float

    @property
    def idle_in_transaction_s(self) -> float:
        """So that the server ends what was cut off before we stop asking."""
        return min(self.trip_s, self.in_doubt_s / 2)


class _Split(Exception):
    """The batch fails as a whole, for a reason that may be one command's."""


class PostgresLedger:
    """A `Ledger`; `run` is the one task that it has, on a connection of its own.

    connect: opens a connection. ensure: makes the partitions of a time in milliseconds
    since 1970, if they are not there. on_committed: each is called with the records of
    a batch after its commit, before its answers are told.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        ensure: Callable[[int], Awaitable[object]],
        clock: Clock,
        ids: Ids,
        settings: LedgerSettings,
        metrics: Metrics,
        rng: random.Random | None = None,
    ) -> None:
        self.tables = Tables()
        self.on_committed: list[Callable[[Sequence[Any]], None]] = []
        self._open = connect
        self._ensure = ensure
        self._clock = clock
        self._settings = settings
        self._random = rng or random.Random()  # noqa: S311  # only for how long to wait
        self._id: UUID = ids.v4()
        self._number = 0
        self._months: set[int] = set()
        self._connection: Connection | None = None
        self._gathered: deque[Waiting] = deque()
        self._work = trio.Event()
        self._closing = False
        self._declare(metrics)

    def _declare(self, metrics: Metrics) -> None:
        self._sizes = metrics.histogram(
            "ledger_batch_commands", "Commands decided together", BATCH_BUCKETS
        )
        self._seconds = metrics.histogram(
            "ledger_batch_seconds", "From taking a batch to its answers"
        )
        answered = metrics.counter(
            "ledger_commands", "Commands answered, by what", ("answer",)
        )
        self._answered = {name: answered.labels(name) for name in _ANSWERS}
        self._again = metrics.counter(
            "ledger_batches_again", "Batches decided again, by why", ("why",)
        )
        metrics.gauge(
            "ledger_waiting_commands",
            "Commands that wait for the next batch",
            lambda: float(len(self._gathered)),
        )

    # Callers.

    def submit(self, command: Command) -> Deferred[Any]:
        """See the port. Sheds (Unavailable) beyond `waiting_max`."""
        waiting = Waiting(command)
        if self._closing or len(self._gathered) >= self._settings.waiting_max:
            self._answered["unavailable"].add()
            waiting.deferred.fail(Unavailable())
            return waiting.deferred
        self._gathered.append(waiting)
        self._work.set()
        return waiting.deferred

    def close(self) -> None:
        """Take no more; `run` returns when all that was taken is answered."""
        self._closing = True
        self._work.set()

    # The batcher.

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Commit batch after batch until `close`. A store that is away ends nothing."""
        task_status.started()
        try:
            while True:
                if self._gathered:
                    await self._settle(self._take())
                elif self._closing:
                    await self._leave()
                    return
                else:
                    self._work = trio.Event()
                    await self._work.wait()
        finally:
            self._closing = True
            self._fail(list(self._gathered), Unavailable())
            self._gathered.clear()
            if self._connection is not None:
                self._connection.close()

    def _take(self) -> list[Waiting]:
        gathered = self._gathered
        if len(gathered) <= self._settings.batch_max:
            batch = list(gathered)
            gathered.clear()
            return batch
        return [gathered.popleft() for _ in range(self._settings.batch_max)]

    async def _settle(self, batch: list[Waiting]) -> None:
        """Answer every command of a batch, in one piece or in several."""
        began_s = perf_counter()
        self._sizes.observe(len(batch))
        until_s = trio.current_time() + self._settings.retry_s
        todo = deque([batch])
        try:
            while todo:
                part = todo.popleft()
                try:
                    await self._settle_part(part, until_s)
                except _Split as split:
                    if len(part) == 1:
                        self._fail(part, _cause(split))
                    else:
                        half = len(part) // 2
                        todo.extendleft((part[half:], part[:half]))
        finally:
            for part in todo:  # Cancelled.
                self._fail(part, Unavailable())
        self._seconds.observe(perf_counter() - began_s)

    async def _settle_part(self, part: list[Waiting], until_s: float) -> None:
        """Raises _Split with the reason as its cause."""
        meetings = losses = 0
        while True:
            try:
                await self._attempt(part)
            except _MEETS as error:
                meetings += 1
                self._again.labels(error.code).add()
                if meetings >= self._settings.attempts_max:
                    raise _Split from error
                await self._pause(meetings, _PAUSE_S)
            except Unavailable as error:
                losses += 1
                self._again.labels(error.code).add()
                if trio.current_time() >= until_s:
                    self._fail(part, Unavailable())
                    return
                await self._pause(losses, _RECONNECT_S)
            except CheckViolation as error:
                self._months.clear()  # Or there is no partition: somebody dropped it.
                raise _Split from error
            except Exception as error:  # around one batch
                raise _Split from error
            except BaseException:  # Cancelled, before anything could happen.
                self._fail(part, Unavailable())
                raise
            else:
                return

    async def _pause(self, attempt: int, bounds_s: tuple[float, float]) -> None:
        first_s, most_s = bounds_s
        longest_s = min(most_s, first_s * 2 ** min(attempt, 16))
        await trio.sleep(longest_s * (0.5 + self._random.random() / 2))

    async def _attempt(self, part: list[Waiting]) -> None:
        """Decide and store once, and answer; or raise, and nothing has happened."""
        now_ms = self._clock.now_ms()
        try:
            with trio.fail_after(self._settings.trip_s):
                connection = await self._connected(now_ms)
                self._number += 1
                decided = await ledger_batch.load_and_decide(
                    connection, self.tables, part, now_ms, self._id, self._number
                )
                if not decided.statements:
                    await ledger_batch.end(connection)
        except trio.TooSlowError:
            self._drop()
            raise ConnectionLost("The store did not answer in time") from None
        except BaseException:
            await self._clean()
            raise
        if decided.statements and not await self._stored(connection, part, decided):
            return
        self._tell(part, decided)

    async def _stored(
        self, connection: Connection, part: list[Waiting], decided: Decided
    ) -> bool:
        """Whether it is; False: nobody knows, and the commands were told so.

        Raises: as `ledger_batch.store`, and ConnectionLost: it is not.
        """
        lost: Exception
        try:
            with trio.fail_after(self._settings.trip_s):
                await ledger_batch.store(connection, decided)
        except trio.TooSlowError as error:
            self._drop()
            lost = error
        except Exception as error:
            if connection.in_transaction:
                await self._clean()
                raise
            self._drop()
            lost = error
        except BaseException:
            self._fail(part, InDoubt())
            raise
        else:
            return True
        self._again.labels("commit-lost").add()
        try:
            found = await self._find_out(self._number)
        except BaseException:
            self._fail(part, InDoubt())
            raise
        if found is None:
            _log.error("in doubt", commands=len(part), batch=self._number)
            self._fail(part, InDoubt())
            return False
        if not found and isinstance(lost, trio.TooSlowError):
            raise ConnectionLost("The batch was not committed") from lost
        if not found:
            raise lost
        return True

    async def _find_out(self, number: int) -> bool | None:
        """Whether a batch was committed; None: it could not be asked in time."""
        losses = 0
        with trio.move_on_after(self._settings.in_doubt_s):
            while True:
                try:
                    connection = await self._connected(None)
                    last = await connection.fetch_value(_ASK, (self._id,))
                except Unavailable:
                    self._drop()
                    losses += 1
                    await self._pause(losses, _RECONNECT_S)
                else:
                    return None if last is None else last == number
        self._drop()
        return None

    # The connection.

    async def _connected(self, now_ms: int | None) -> Connection:
        """Open, in no transaction, and with the partitions of a time there."""
        connection = self._connection
        if connection is None or not connection.idle:
            self._drop()
            connection = await self._open()
            self._connection = connection
            await connection.execute(_SESSION)
            await connection.execute(_ENTER, (self._id, self._clock.now_ms()))
        if now_ms is not None:
            months = key_months(now_ms)
            if not self._months.issuperset(months):
                for month_ms in months:
                    await self._ensure(month_ms)
                self._months.update(months)
        return connection

    async def _clean(self) -> None:
        """Roll back, or drop the connection."""
        connection = self._connection
        if connection is None:
            return
        try:
            with trio.move_on_after(self._settings.trip_s, shield=True):
                await ledger_batch.roll_back(connection)
        except Exception:  # noqa: BLE001  # the first error says more
            connection.close()
        if not connection.idle:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _leave(self) -> None:
        """Delete the batcher's row; one that stays is pruned some day."""
        if self._connection is None:
            return
        try:
            with trio.move_on_after(self._settings.trip_s):
                await self._connection.execute(_LEAVE, (self._id,))
        except DomainError as error:
            _log.warning("the batcher's row stays", why=error.code)

    # Answers.

    def _tell(self, part: list[Waiting], decided: Decided) -> None:
        if decided.statements:
            records = decided.books.records
            for tell in self.on_committed:
                _guarded(partial(tell, records))
        for waiting, outcome in zip(part, decided.outcomes, strict=True):
            self._answer(waiting, outcome)

    def _answer(self, waiting: Waiting, outcome: Outcome) -> None:
        self._answered[_name_of(outcome)].add()
        deferred, error = waiting.deferred, outcome.error
        if error is not None:
            _guarded(lambda: deferred.fail(error))
        else:
            _guarded(lambda: deferred.resolve(outcome.value))

    def _fail(self, part: Sequence[Waiting], error: Exception) -> None:
        for waiting in part:
            if not waiting.deferred.done:
                self._answer(waiting, Outcome(error=error))


def _cause(split: _Split) -> Exception:
    cause = split.__cause__
    assert isinstance(cause, Exception)
    return cause


def _name_of(outcome: Outcome) -> str:
    error = outcome.error
    if error is None:
        return "replayed" if type(outcome.value) is Replayed else "done"
    if isinstance(error, InDoubt):
        return "in-doubt"
    if isinstance(error, Unavailable):
        return "unavailable"
    return "refused" if isinstance(error, DomainError) else "failed"


def _guarded(call: Callable[[], object]) -> None:
    """Whoever is told of a batch can't stop the next one."""
    try:
        call()
    except Exception as error:  # noqa: BLE001  # around one listener
        _log.error("a listener failed", error=type(error).__qualname__)
