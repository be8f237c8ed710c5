"""Owns how the ledger is put together: its batcher, holds that are over, its months."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import trio

from tchatd.app.jobs import Alarm
from tchatd.app.settings import Ledger as LedgerSection
from tchatd.domains.payment.ledger.errors import HoldEnded
from tchatd.domains.payment.ledger.expiring import ExpireHold
from tchatd.edge.http import outcome
from tchatd.kernel.clock import Clock
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.ids import Ids
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import Metrics
from tchatd.stores.postgres.ledger import LedgerSettings, PostgresLedger
from tchatd.stores.postgres.ledger_store import PostgresLedgerStore
from tchatd.stores.postgres.pool import Pool

DAY_MS: Final = 86_400_000
_log = get_logger("ledger")


class Ledger:
    """`start` before anything is submitted; then `run` and `housekeeping.run`.

    batches: the port, and where writers and readers of other tables are put in
    (`batches.tables`) and listeners (`batches.on_committed`). store: its rows.
    """

    def __init__(
        self,
        settings: LedgerSection,
        pool: Pool,
        clock: Clock,
        ids: Ids,
        metrics: Metrics,
    ) -> None:
        self._clock = clock
        self._settings = settings
        of = LedgerSettings(
            batch_max=settings.batch_max,
            waiting_max=settings.waiting_max,
            attempts_max=settings.attempts_max,
            trip_s=settings.trip_s,
            retry_s=settings.retry_s,
            in_doubt_s=settings.in_doubt_s,
        )
        self.store = PostgresLedgerStore(pool, clock)
        self.batches = PostgresLedger(
            partial(
                pool.dedicated,
                application_name="tchatd ledger",
                idle_in_transaction_s=of.idle_in_transaction_s,
                prepare_threshold=0,
            ),
            self.store.ensure_partitions,
            clock,
            ids,
            of,
            metrics,
        )
        self._expired = metrics.counter("ledger_holds_expired", "Holds let go in time")
        self._expiry = Alarm("holds", self.expire, clock, settings.expiry_interval_s)
        self.housekeeping = Alarm(
            "the ledger's months", self.keep_house, clock, DAY_MS / 1_000
        )

    async def start(self) -> None:
        """Raises: Unavailable."""
        await self.store.ensure_partitions(self._clock.now_ms())

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Commit batches, and let go of holds, until `close` and all is answered."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._expiry.run)
            await self.batches.run(task_status=task_status)
            nursery.cancel_scope.cancel()

    def close(self) -> None:
        """Take no more commands."""
        self.batches.close()

    async def expire(self) -> int | None:
        """Let go of a batch of holds that are over; when to look again, if at once.

        Raises: Unavailable.
        """
        now_ms = self._clock.now_ms()
        most = self._settings.expiry_batch_max
        due = await self.store.due_holds(now_ms, most)
        await self._settled([self.batches.submit(ExpireHold(hold)) for hold in due])
        return now_ms if len(due) == most else None

    async def _settled(self, answers: Sequence[Deferred[Any]]) -> None:
        for deferred in answers:
            try:
                await outcome(deferred)
            except HoldEnded:  # Another node was first.
                continue
            self._expired.add()

    async def keep_house(self) -> int:
        """Make the months to come, forget keys that are over; when it is to be again.

        Raises: Unavailable.
        """
        now_ms = self._clock.now_ms()
        for name in await self.store.ensure_partitions(now_ms):
            _log.info("partition made", name=name)
        before_ms = now_ms - round(self._settings.keys_days * DAY_MS)
        for name in await self.store.drop_keys(before_ms):
            _log.info("partition dropped", name=name)
        if gone := await self.store.prune_batchers():
            _log.info("pruned", what="batchers", rows=gone)
        return now_ms + DAY_MS
