"""Owns the tasks of the relay: following the log, keeping leases, one per subscriber.

Theory of operation
    Events are rows that are written with the change they tell of (`event_log`), so an
    event is there if and only if its change is. The relay reads them in the order of
    their positions, no further than the log is settled (`tchatd.events.horizon`, on
    holes), and hands them to subscribers, each of which has its own position and its
    own pace (`tchatd.events.subscription`, on failures).

    On several nodes a subscriber is served by the one that holds its lease, a row with
    an end by the store's clock. The holder makes its leases longer three times within
    their length, all in one statement, which also keeps positions that moved without an
    event. A holder that died is succeeded within a lease and a quarter; the same node,
    started again, has its leases at once.

    A node looks at the log every `poll_s`, and at once when it is nudged, which whoever
    commits events in this process does. While there is a hole it looks sooner, ever
    less so. Without subscribers nothing runs and nothing is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from tchatd.events.horizon import Horizon
from tchatd.events.store import EventStore
from tchatd.events.subscription import (
    MISTAKE_S,
    STORE_RETRY_S,
    RelayMetrics,
    RelaySettings,
    Subscription,
)
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import DomainError
from tchatd.kernel.events import Subscriber
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import Metrics

LOOK_MAX: Final = 1_000
"""Positions of one look; what is beyond them is crossed by a fence."""
LOOK_S_MIN: Final = 0.01
"""Between two looks, however often somebody nudges."""
RELEASE_S: Final = 2.0
"""Longest time at the end for leases to be given back."""
_log = get_logger("events")


class Relay:
    """`subscribe` all, then `run` until `close`. holder: the node's id."""

    def __init__(
        self,
        store: EventStore,
        holder: str,
        clock: Clock,
        metrics: Metrics,
        settings: RelaySettings,
    ) -> None:
        self._store = store
        self._holder = holder
        self._clock = clock
        self._settings = settings
        self._metrics = RelayMetrics(metrics)
        self._horizon = Horizon()
        self._begun_at: int | None = None
        self._has_begun = False
        self._subscriptions: dict[str, Subscription] = {}
        self._wake = trio.Event()
        self._closing = trio.Event()
        self._is_running = False
        self._is_away = False
        self.report: Callable[[Exception], object] = lambda _: None
        metrics.gauge(
            "events_unsettled",
            "Positions of the log beyond a hole that may still be filled",
            lambda: float(self._horizon.last - self._horizon.settled),
        )

    def subscribe(self, subscriber: Subscriber) -> None:
        """Before `run`."""
        assert not self._is_running
        assert subscriber.name not in self._subscriptions, "a name is used once"
        is_told_all = subscriber.begins == "oldest"
        subscription = Subscription(
            subscriber,
            self._store,
            self._holder,
            self._clock,
            self._settings,
            self._metrics,
            settled=lambda: self._horizon.settled,
            first=lambda: 0 if is_told_all else self._latest(),
        )
        subscription.report = lambda error: self.report(error)
        self._subscriptions[subscriber.name] = subscription

    @property
    def subscribers(self) -> list[str]:
        return list(self._subscriptions)

    @property
    def settled(self) -> int:
        """Up to this position nothing will appear in the log any more."""
        return self._horizon.settled

    def nudge(self) -> None:
        """Events were committed; also from a synchronous callback."""
        self._wake.set()

    def retry(self, subscriber: str) -> None:
        """Letters of the subscriber were released; another node finds out by itself."""
        subscription = self._subscriptions.get(subscriber)
        if subscription is not None:
            subscription.look_at_letters()

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Hand events on until `close`; then leases are given back.

        Cancelled, it leaves the leases to end by themselves; what was being handled is
        handed on again by whoever has them next.
        """
        self._is_running = True
        task_status.started()
        if not self._subscriptions:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            nursery.start_soon(self._keep_leases)
            for subscription in self._subscriptions.values():
                nursery.start_soon(subscription.run)
            await self._closing.wait()
            held = self._held()
            nursery.cancel_scope.cancel()
        with trio.move_on_after(RELEASE_S):
            try:
                await self._store.release(self._holder, held)
            except DomainError as error:
                _log.warning("leases left to end", why=error.code)

    def close(self) -> None:
        """Ask `run` to return; what is being handled is not waited for."""
        self._closing.set()

    def _held(self) -> dict[str, int]:
        return {s.name: s.position for s in self._subscriptions.values() if s.is_held}

    # The horizon.

    def _latest(self) -> int | None:
        """Where the log ended at the first look, or later; None: not known."""
        return self._horizon.settled if self._has_begun else None

    async def _follow(self) -> None:
        """Look again and again; ever later while there is a hole that stays."""
        is_known, pause_s = False, LOOK_S_MIN
        while True:
            self._wake = trio.Event()
            try:
                if not is_known:
                    self._horizon = Horizon(await self._store.furthest())
                    is_known = True
                moved = await self._look()
                self._is_away = False
            except DomainError as error:
                # A fence may be lost together with the server that it is of.
                is_known = False
                if not self._is_away:
                    _log.warning("event log put off", why=error.code)
                self._is_away = True
                await trio.sleep(STORE_RETRY_S)
                continue
            except Exception as error:  # noqa: BLE001  # around one turn
                is_known = False
                self.report(error)
                await trio.sleep(MISTAKE_S)
                continue
            is_settled = self._horizon.settled == self._horizon.last
            if moved or is_settled:
                pause_s = LOOK_S_MIN
            await trio.sleep(pause_s)
            if is_settled:
                with trio.move_on_after(self._settings.poll_s):
                    await self._wake.wait()
            else:
                pause_s = min(2 * pause_s, self._settings.poll_s)

    async def _look(self) -> bool:
        """Whether the horizon moved."""
        horizon = self._horizon
        before = horizon.settled
        if horizon.see(await self._store.look(before, LOOK_MAX)):
            horizon.fence(await self._store.draw_fence())
        if self._begun_at is None:
            self._begun_at = horizon.last
        self._has_begun = self._has_begun or horizon.settled >= self._begun_at
        if horizon.settled == before:
            return False
        for subscription in self._subscriptions.values():
            subscription.wake()
        return True

    # Leases.

    async def _keep_leases(self) -> None:
        lease_s = self._settings.lease_s
        while True:
            await trio.sleep(lease_s / 3)
            positions = self._held()
            if not positions:
                continue
            until_s = trio.current_time() + lease_s
            try:
                renewed = await self._store.renew(self._holder, positions, lease_s)
            except DomainError:
                continue  # they end by themselves, unless the next one succeeds
            except Exception as error:  # noqa: BLE001  # around one turn
                self.report(error)
                continue
            for name in positions:
                self._subscriptions[name].renewed(renewed.get(name), until_s)
