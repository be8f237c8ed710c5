"""Owns running one command, whichever transport carried it; knows no transport.

    transport -> limits -> handler -> result | Deferred | Awaited

A handler answers inline (the result), by a `Deferred` (the journal completes it), or
by an awaitable. Only the last costs a task: it runs in this object's nursery, of
which there are at most `tasks_max`, each with a deadline. `except Exception` stands
here and turns our own mistakes into `Internal`, logged under the request's id without
a value in it.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import count
from typing import Any

import msgspec
import trio

from tchatd.edge.limits import address_key
from tchatd.edge.problems import Internal, short_code_of
from tchatd.kernel.buckets import Buckets
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, RateLimited, Unavailable
from tchatd.kernel.routing import Context, Limit, Operation
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import Counter, Histogram, Metrics

_log = get_logger("dispatcher")


class DispatcherSettings(msgspec.Struct, frozen=True, kw_only=True):
    """tasks_max: commands that wait at once; beyond it they are answered 503.

    request_s: how long one may wait; then it is cancelled and answered 503.
    limit_keys_max: addresses or users that each limit remembers.
    """

    tasks_max: int = 4_096
    request_s: float = 30.0
    limit_keys_max: int = 100_000


class Overtime(Unavailable):
    code, title = "overtime", "It took too long; it may have happened"


class Awaited(Deferred[Any]):
    """The answer of a handler that had to wait. Its value may be a `Deferred`."""

    __slots__ = ()


class RequestIds:
    """Makes ids that are short, unique and cheap: random per start, then counted."""

    __slots__ = ("_numbers", "_prefix")

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._prefix = random(6).hex() + "-"
        self._numbers = count(1)

    def next(self) -> str:
        return f"{self._prefix}{next(self._numbers):x}"


class Entry:
    """One operation as it is served: its limits and its numbers."""

    __slots__ = (
        "_of_address",
        "_of_user",
        "_outcomes",
        "_seconds",
        "_totals",
        "operation",
    )

    def __init__(
        self,
        operation: Operation,
        buckets: Callable[[Limit], Buckets],
        totals: Counter,
        seconds: Histogram,
    ) -> None:
        self.operation = operation
        self._of_address = tuple(
            buckets(limit) for limit in operation.limits if limit.by == "address"
        )
        self._of_user = tuple(
            buckets(limit) for limit in operation.limits if limit.by == "user"
        )
        assert len(self._of_address) + len(self._of_user) == len(operation.limits)
        self._totals = totals
        self._outcomes: dict[str, Counter] = {}
        self._seconds = seconds

    def count(self, outcome: str, started_s: float) -> None:
        """outcome: `ok`, or the short code of the problem."""
        counter = self._outcomes.get(outcome)
        if counter is None:
            counter = self._totals.labels(self.operation.name, outcome)
            self._outcomes[outcome] = counter
        counter.value += 1
        self._seconds.observe(time.perf_counter() - started_s)

    def check_limits(self, context: Context) -> None:
        """Raises RateLimited."""
        wait_s = 0
        for buckets in self._of_address:
            wait_s = wait_s or buckets.take(address_key(context.address))
        if self._of_user and context.caller is not None:
            for buckets in self._of_user:
                wait_s = wait_s or buckets.take(context.caller.user_number)
        if wait_s:
            raise RateLimited(retry_after_s=wait_s)


class Dispatcher:
    """Runs the commands of the declared operations.

    run: owns the tasks of commands that wait. Until it runs, and after `close`, such
    commands are answered `Unavailable`; inline ones work.
    """

    def __init__(
        self,
        operations: Iterable[Operation],
        metrics: Metrics,
        settings: DispatcherSettings = DispatcherSettings(),  # noqa: B008  # frozen
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._now = now
        self._nursery: trio.Nursery | None = None
        self._closing = trio.Event()
        self._tasks = 0
        totals = metrics.counter(
            "commands", "Commands by name and outcome", ("command", "outcome")
        )
        seconds = metrics.histogram(
            "command_seconds",
            "From taking a command to its answer",
            labels=("command",),
        )
        metrics.gauge(
            "commands_waiting", "Commands that wait in a task", lambda: self._tasks
        )
        self.request_ids = RequestIds()
        self.entries: dict[str, Entry] = {}
        for operation in operations:
            assert operation.name not in self.entries, f"{operation.name} twice"
            self.entries[operation.name] = Entry(
                operation, self._buckets, totals, seconds.labels(operation.name)
            )

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Own waiting commands until `close`, then let those that began finish."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await self._closing.wait()
            finally:
                self._nursery = None

    def close(self) -> None:
        self._closing.set()

    def invoke(self, entry: Entry, context: Context, command: Any) -> Any:
        """The result, a `Deferred` of it, or an `Awaited`.

        Raises:
            DomainError: refused. Nothing else is raised.
        """
        entry.check_limits(context)
        return self.run_handler(entry, context, command)

    def run_handler(self, entry: Entry, context: Context, command: Any) -> Any:
        """As `invoke`, for a command whose limits were checked."""
        try:
            result: Any = entry.operation.handler(context, command)
        except DomainError:
            raise
        except Exception as error:
            raise self.unexpected(error, entry.operation.name, context) from error
        if hasattr(type(result), "__await__"):
            return self.wait(result, entry.operation.name, context)
        return result

    def wait(self, awaitable: Awaitable[Any], name: str, context: Context) -> Awaited:
        """Run it in a task; the answer comes by the `Awaited`, always a DomainError
        if it fails.

        Raises:
            Unavailable: too many wait already, or the server stops.
        """
        if self._nursery is None or self._tasks >= self._settings.tasks_max:
            close = getattr(awaitable, "close", None)
            if close is not None:
                close()
            raise Unavailable("Too many requests wait already.")
        awaited = Awaited()
        self._tasks += 1
        self._nursery.start_soon(self._run, awaitable, awaited, name, context)
        return awaited

    def as_refusal(self, error: Exception, name: str, context: Context) -> DomainError:
        """The error itself if a caller may see it, else `Internal`, logged."""
        if isinstance(error, DomainError):
            return error
        return self.unexpected(error, name, context)

    def unexpected(self, error: Exception, name: str, context: Context) -> Internal:
        """Log our own mistake: where it happened, without any value."""
        frames = traceback.extract_tb(error.__traceback__)
        _log.error(
            "command failed",
            command=name,
            request_id=context.request_id,
            error=type(error).__qualname__,
            at=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        )
        return Internal()

    async def _run(
        self, awaitable: Awaitable[Any], awaited: Awaited, name: str, context: Context
    ) -> None:
        try:
            with trio.fail_after(self._settings.request_s):
                result = await awaitable
            tell = partial(awaited.resolve, result)
        except trio.TooSlowError:
            tell = partial(awaited.fail, Overtime())
        except Exception as error:  # noqa: BLE001  # one of the two places (STYLE 5)
            tell = partial(awaited.fail, self.as_refusal(error, name, context))
        finally:
            self._tasks -= 1
        try:
            tell()
        except Exception as error:  # noqa: BLE001  # of whoever waited for it
            self.unexpected(error, name, context)

    def _buckets(self, limit: Limit) -> Buckets:
        return Buckets(
            per_minute=limit.per_minute,
            burst=limit.burst,
            keys_max=self._settings.limit_keys_max,
            now=self._now,
        )


def outcome_of(error: DomainError | None) -> str:
    return "ok" if error is None else short_code_of(error)
