"""Owns how the event log is put together: its relay, its partitions, what is over."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from tchatd.app.jobs import Alarm, report
from tchatd.app.settings import Events as EventSettings
from tchatd.events.relay import Relay
from tchatd.events.subscription import RelaySettings
from tchatd.kernel.clock import Clock
from tchatd.kernel.events import Subscriber
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import Metrics
from tchatd.stores.postgres.dead_letters import PostgresLetterStore
from tchatd.stores.postgres.event_relay import PostgresEventStore
from tchatd.stores.postgres.pool import Pool

DAY_MS: Final = 86_400_000
HANDLED_MS: Final = 3_600_000
"""How long an effect is remembered that cannot come again: for a node that lost its
lease in the middle of it."""
PRUNE_MAX: Final = 10_000
_log = get_logger("events")


class Events:
    """`start` before anything is written; then `relay.run` and `housekeeping.run`.

    Whoever commits events calls `relay.nudge`. subscribers: more may be added to the
    relay before it runs.
    """

    def __init__(
        self,
        settings: EventSettings,
        pool: Pool,
        node: str,
        clock: Clock,
        metrics: Metrics,
        subscribers: Iterable[Subscriber] = (),
    ) -> None:
        self._clock = clock
        self._keep_ms = settings.keep_days * DAY_MS
        self._due_ms = 0
        self.store = PostgresEventStore(pool)
        self.letters = PostgresLetterStore(pool)
        self.relay = Relay(
            self.store,
            node,
            clock,
            metrics,
            RelaySettings(
                poll_s=settings.poll_s,
                batch_max=settings.batch_max,
                attempts_max=settings.attempts_max,
                retry_s=settings.retry_s,
                retry_s_max=settings.retry_s_max,
                handle_s=settings.handle_s,
                lease_s=settings.lease_s,
                dead_letters_max=settings.dead_letters_max,
            ),
        )
        self.relay.report = partial(report, "events")
        for subscriber in subscribers:
            self.relay.subscribe(subscriber)
        self.housekeeping = Alarm("event log", self._keep_house, clock)

    async def start(self) -> None:
        """Raises: Unavailable."""
        await self.store.ensure_partitions(self._clock.now_ms())

    async def prune(self) -> int:
        """Forget one batch of effects that cannot come again."""
        before_ms = self._clock.now_ms() - HANDLED_MS
        return await self.store.prune_handled(before_ms, PRUNE_MAX)

    async def _keep_house(self) -> int:
        """Once a day: months made ahead, and dropped when they are old; when again."""
        now_ms = self._clock.now_ms()
        if now_ms < self._due_ms:
            return self._due_ms
        for name in await self.store.ensure_partitions(now_ms):
            _log.info("partition made", name=name)
        for name in await self.store.drop_partitions(now_ms - self._keep_ms):
            _log.info("partition dropped", name=name)
        self._due_ms = now_ms + DAY_MS
        return self._due_ms
