"""Owns handing events to one subscriber while this node holds the lease on it.

Theory of operation
    `position` is how far the subscriber is: each event up to it is handled, or among
    its dead letters. It is kept after the events are handled, so a crash in between
    hands them over again; never is an event passed over.

    Events go in batches. When a batch fails, its events are tried one by one, each a
    few times with ever longer waits, so that the one that fails is found; that one
    becomes a dead letter, in the transaction that moves the position past it. As long
    as an aggregate has a letter, its later events become letters behind it: their
    order is kept, and whoever waits for events of other aggregates does not wait.

    Letters that an operator released are tried once more, in order, before what is
    next in the log. Only who holds the lease does it, so nothing overtakes.

    `Unavailable` is no failure of an event: the same ones are tried until what they
    need is back. When there are as many letters as there may be, the subscriber stops
    where it is instead of making more.

    The lease ends by itself when it is not made longer, and with it, at the same
    moment, whatever is being handled. Every change is made only while nobody else has
    the lease.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import trio
from msgspec import Struct

from tchatd.events.store import BEHIND, EventStore, Held, Letter, NewLetter, Row, Wanted
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import DomainError, Unavailable
from tchatd.kernel.events import NAME_CHARS_MAX, Event, Subscriber
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import Metrics

SPAN: Final = 10_000
"""Most positions that are gone through for one batch of a subscriber that wants few."""
STORE_RETRY_S: Final = 1.0
MISTAKE_S: Final = 60.0
"""Before the next turn when one failed for no foreseen reason."""
TIMED_OUT: Final = "timed-out"
_log = get_logger("events")


class RelaySettings(Struct, frozen=True, kw_only=True):
    """What the operator sets; each key is explained in tchatd.toml."""

    poll_s: float = 1.0
    batch_max: int = 100
    attempts_max: int = 5
    retry_s: float = 0.5
    retry_s_max: float = 60.0
    handle_s: float = 30.0
    lease_s: float = 6.0
    dead_letters_max: int = 100_000


class RelayMetrics:
    """Declared once, labelled by subscriber."""

    def __init__(self, metrics: Metrics) -> None:
        label = ("subscriber",)
        self.lag = metrics.gauge(
            "events_lag",
            "Positions of the log that the subscriber has to go; 0 where another node"
            " has it",
            labels=label,
        )
        self.letters = metrics.gauge(
            "events_dead_letters",
            "Dead letters of the subscribers of this node",
            labels=label,
        )
        self.handled = metrics.counter("events_handled", "Events handled", label)
        self.failures = metrics.counter(
            "events_failures", "Attempts to handle events that failed", label
        )
        self.dead = metrics.counter("events_dead", "Events given up, or behind", label)
        self.delay_s = metrics.histogram(
            "events_delay_s", "From an event until it is handled", labels=label
        )


class _LeaseLost(Exception):
    """Another node has the subscription."""


class Subscription:
    """`run` until cancelled. settled: of the horizon. first: where one begins that was
    never there; None: it is not known yet.

    report: told of each failure that nobody foresaw; it keeps values out of the log.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        store: EventStore,
        holder: str,
        clock: Clock,
        settings: RelaySettings,
        metrics: RelayMetrics,
        *,
        settled: Callable[[], int],
        first: Callable[[], int | None],
    ) -> None:
        assert 0 < len(subscriber.name) <= NAME_CHARS_MAX
        assert subscriber.domains
        self.name = subscriber.name
        self.position = 0
        self.is_held = False
        self.report: Callable[[Exception], object] = lambda _: None
        self._subscriber = subscriber
        self._wanted = Wanted(subscriber.domains, subscriber.types)
        self._store = store
        self._holder = holder
        self._clock = clock
        self._settings = settings
        self._settled = settled
        self._first = first
        self._scope: trio.CancelScope | None = None
        self._wake = trio.Event()
        self._held = Held()
        self._is_away = False
        self._handled = metrics.handled.labels(self.name)
        self._failures = metrics.failures.labels(self.name)
        self._dead = metrics.dead.labels(self.name)
        self._delay_s = metrics.delay_s.labels(self.name)
        metrics.lag.labels(self.name).read = self._lag
        metrics.letters.labels(self.name).read = lambda: float(self._held.letters)

    def wake(self) -> None:
        """There is more to do."""
        self._wake.set()

    def look_at_letters(self) -> None:
        """Some may be released."""
        self._held = Held(self._held.letters, has_released=True)
        self.wake()

    def renewed(self, held: Held | None, until_s: float) -> None:
        """The lease lasts until then (Trio's clock); None: another node has it."""
        if self._scope is None:
            return
        if held is None:
            self._scope.cancel()
            return
        self._scope.deadline = max(self._scope.deadline, until_s)
        self._held = held
        if held.has_released:
            self.wake()

    async def run(self) -> None:
        """Have the lease whenever it is to be had, and hand events on."""
        while True:
            wait_s = await self._term()
            await trio.sleep(wait_s)

    def _lag(self) -> float:
        return float(max(0, self._settled() - self.position)) if self.is_held else 0.0

    async def _term(self) -> float:
        """One lease, as long as it lasts; seconds until the next try."""
        settings = self._settings
        until_s = trio.current_time() + settings.lease_s
        try:
            with trio.CancelScope(deadline=until_s) as scope:
                position = await self._store.acquire(
                    self.name, self._holder, settings.lease_s, self._first()
                )
                if position is None:
                    return settings.lease_s / 4
                self._begin(position, scope)
                await self._serve()
        except _LeaseLost:
            pass
        except DomainError as error:
            if not self._is_away:
                _log.warning("events put off", subscriber=self.name, why=error.code)
            self._is_away = True
            return STORE_RETRY_S
        except Exception as error:  # noqa: BLE001  # around one turn
            self.report(error)
            return MISTAKE_S
        finally:
            self._scope, self.is_held = None, False
        _log.warning("lease lost", subscriber=self.name)
        return settings.lease_s / 4

    def _begin(self, position: int, scope: trio.CancelScope) -> None:
        self.position, self._scope, self.is_held = position, scope, True
        # Whether there are letters to be tried is asked once, then told by `renewed`.
        self._held = Held(self._held.letters, has_released=True)
        self._is_away = False
        _log.info("lease taken", subscriber=self.name, position=position)

    async def _serve(self) -> None:
        while True:
            self._wake = trio.Event()
            if self._held.has_released:
                await self._letters()
            if not await self._page() and not self._held.has_released:
                await self._wake.wait()

    # The log.

    async def _page(self) -> bool:
        """Hand on the next batch; False: there is nothing more."""
        upto = min(self._settled(), self.position + SPAN)
        if upto <= self.position:
            return False
        limit = self._settings.batch_max
        rows = await self._store.page(
            self.name, self._wanted, self.position, upto, limit
        )
        if len(rows) == limit:
            upto = rows[-1].event.position
        if self._is_full():
            rows, upto = await self._before_the_blocked(rows, upto)
        if rows:
            await self._deliver(rows, upto)
        self.position = max(self.position, upto)
        return self.position < self._settled()

    def _is_full(self) -> bool:
        return self._held.letters >= self._settings.dead_letters_max

    async def _before_the_blocked(
        self, rows: list[Row], upto: int
    ) -> tuple[list[Row], int]:
        """There may be no more letters, so what would become one has to wait."""
        for index, row in enumerate(rows):
            if row.is_blocked:
                if index == 0:
                    _log.error("too many dead letters", subscriber=self.name)
                    await trio.sleep(self._settings.retry_s_max)
                return rows[:index], row.event.position - 1
        return rows, upto

    async def _deliver(self, rows: Sequence[Row], upto: int) -> None:
        """Each event is handled or a letter, and that is kept, up to `upto`."""
        letters = [self._behind(row.event) for row in rows if row.is_blocked]
        fresh = [row.event for row in rows if not row.is_blocked]
        error = await self._attempt(fresh) if fresh else None
        if error is None:
            await self._settle(upto, letters)
            return
        letters, held = [], set[UUID]()
        attempts = 1 if len(fresh) == 1 else 0
        for row in rows:
            event = row.event
            if row.is_blocked or event.aggregate_id in held:
                is_held = event.aggregate_id in held
                letters.append(self._behind(event, is_held=is_held))
                continue
            letter = await self._insist(event, attempts, error)
            if letter is not None:
                letters.append(letter)
                held.add(event.aggregate_id)
                await self._settle(event.position, letters)
                letters = []
        await self._settle(upto, letters)

    async def _insist(
        self, event: Event, attempts: int, error: str
    ) -> NewLetter | None:
        """Try it until it is handled (None) or given up. error: of the last attempt."""
        while attempts < self._settings.attempts_max or self._is_full():
            if attempts >= self._settings.attempts_max:
                _log.error("too many dead letters", subscriber=self.name)
            if attempts:
                await trio.sleep(self._backoff_s(attempts))
            failed = await self._attempt([event])
            if failed is None:
                return None
            attempts, error = attempts + 1, failed
        _log.error(
            "event given up",
            subscriber=self.name,
            event_id=str(event.id),
            type=event.type,
            error=error,
        )
        return NewLetter(event, attempts, error, True, self._clock.now_ms())

    def _behind(self, event: Event, *, is_held: bool = False) -> NewLetter:
        return NewLetter(event, 0, BEHIND, is_held, self._clock.now_ms())

    async def _settle(self, position: int, letters: Sequence[NewLetter]) -> None:
        until_s = trio.current_time() + self._settings.lease_s
        if not await self._store.settle(
            self.name, self._holder, position, letters, self._settings.lease_s
        ):
            raise _LeaseLost
        self.position = position
        self._dead.add(len(letters))
        count = self._held.letters + len(letters)
        self.renewed(Held(count, has_released=self._held.has_released), until_s)
        if any(not letter.is_held for letter in letters):
            # Those before it may have been dropped meanwhile; then it is released.
            self._held = Held(count, has_released=True)

    # Letters.

    async def _letters(self) -> None:
        """Try what was released, in order; what fails waits again for an operator."""
        limit = self._settings.batch_max
        letters = await self._store.released(self.name, limit)
        if letters:
            error = await self._attempt([letter.event for letter in letters])
            if error is None:
                await self._resolve(letters)
            elif len(letters) == 1:
                await self._failed_again(letters[0], error)
            else:
                await self._letters_one_by_one(letters)
        if len(letters) < limit:
            self._held = Held(self._held.letters)

    async def _letters_one_by_one(self, letters: Sequence[Letter]) -> None:
        failed: set[UUID] = set()
        for letter in letters:
            if letter.event.aggregate_id in failed:
                continue
            error = await self._attempt([letter.event])
            if error is None:
                await self._resolve([letter])
            else:
                failed.add(letter.event.aggregate_id)
                await self._failed_again(letter, error)

    async def _failed_again(self, letter: Letter, error: str) -> None:
        if not await self._store.failed_again(
            self.name, self._holder, letter, error, self._clock.now_ms()
        ):
            raise _LeaseLost
        _log.error("dead letter failed again", number=letter.number, error=error)

    async def _resolve(self, letters: Sequence[Letter]) -> None:
        numbers = [letter.number for letter in letters]
        if not await self._store.handled(self.name, self._holder, numbers):
            raise _LeaseLost
        count = max(0, self._held.letters - len(letters))
        self._held = Held(count, has_released=self._held.has_released)

    # One attempt.

    async def _attempt(self, events: Sequence[Event]) -> str | None:
        """None if all are handled, else the error's class. Waits out `Unavailable`."""
        tries = 0
        while True:
            try:
                with trio.move_on_after(self._settings.handle_s) as scope:
                    await self._subscriber.handle(events)
            except Unavailable as error:
                tries += 1
                if tries == 1:
                    _log.warning("events wait", subscriber=self.name, why=error.code)
                await trio.sleep(self._backoff_s(tries))
                continue
            except DomainError as error:
                self._failures.add()
                return error.code
            except Exception as error:  # noqa: BLE001  # around one attempt
                self._failures.add()
                self.report(error)
                return type(error).__qualname__
            if scope.cancelled_caught:
                self._failures.add()
                return TIMED_OUT
            self._count(events)
            return None

    def _count(self, events: Sequence[Event]) -> None:
        now_ms = self._clock.now_ms()
        self._handled.add(len(events))
        for event in events:
            self._delay_s.observe(max(0.0, (now_ms - event.created_ms) / 1000))

    def _backoff_s(self, tries: int) -> float:
        of = self._settings
        return min(of.retry_s * 2.0 ** min(tries - 1, 30), of.retry_s_max)
