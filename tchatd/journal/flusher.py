"""Owns writing durable records to the store, in batches, each with its position.

One batch is one transaction of the store, so a crash anywhere leaves store and journal
fitting each other. While the store is away it tries again, ever more slowly, for as
long as it takes: records stay in the journal, whose backlog limit then refuses new ones
with 503. What a batch writes is taken from its entries, never from the state, which is
ahead of them.
"""

from __future__ import annotations

import time
from typing import Final

import trio
from msgspec import Struct

from tchatd.domains.messaging.dialog import Entry
from tchatd.domains.messaging.rows import body_of
from tchatd.domains.messaging.store import (
    DIALOG_CREATED,
    MEMBER,
    MESSAGE_NEW,
    DialogChange,
    DialogRow,
    DialogStore,
    EventColumns,
    FlushBatch,
    MemberRow,
)
from tchatd.journal.applier import Applier
from tchatd.journal.port import Journal
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.errors import DomainError
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import Metrics

_ROWS_A_TURN: Final = 50
"""Rows prepared before other tasks get a turn."""
_RETRY_S_MIN: Final = 0.05
_SIZES: Final = (1, 10, 30, 100, 300, 1_000, 3_000, 10_000)

_log = get_logger("flusher")


class FlusherSettings(Struct, frozen=True, kw_only=True):
    """batch_max: records of one transaction. interval_s: least time between two begins,
    so that a trickle of messages does not become a storm of transactions.
    retry_s_max: the longest wait before trying a store that is away again.
    """

    batch_max: int = 1_000
    interval_s: float = 0.05
    retry_s_max: float = 2.0


class Flusher:
    def __init__(
        self,
        applier: Applier,
        journal: Journal,
        store: DialogStore,
        metrics: Metrics,
        settings: FlusherSettings = FlusherSettings(),  # noqa: B008  # frozen
    ) -> None:
        self._applier = applier
        self._journal = journal
        self._store = store
        self._settings = settings
        self._wake = trio.Event()
        self._closing = False
        self.is_failing = False
        applier.on_flushable = self.wake
        self._rows = metrics.histogram(
            "flush_records", "Records written to the store at once", _SIZES
        )
        self._seconds = metrics.histogram("flush_seconds", "One write to the store")
        self._failures = metrics.counter("flush_failures", "Writes that failed")
        metrics.gauge(
            "flush_lag_records",
            "Records that are taken but not in the store",
            lambda: float(len(applier.unflushed)),
        )
        metrics.gauge(
            "flush_store_away",
            "1 while writing to the store fails",
            lambda: float(self.is_failing),
        )

    def wake(self) -> None:
        self._wake.set()

    def close(self) -> None:
        """Let `run` write what is durable by now, then return."""
        self._closing = True
        self._wake.set()

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Write whatever becomes durable, until `close`.

        Raises:
            StoreDiverged: another process writes to the store; this one must stop.
        """
        task_status.started()
        while True:
            began_s = trio.current_time()
            wrote = await self.flush_batch()
            if not wrote:
                if self._closing:
                    return
                await self._wake.wait()
                self._wake = trio.Event()
            elif not self._closing and wrote < self._settings.batch_max:
                await trio.sleep_until(began_s + self._settings.interval_s)

    async def flush(self) -> None:
        """Write everything that is durable now."""
        while await self.flush_batch():
            pass

    async def flush_batch(self) -> int:
        """Write one batch, however often it takes; how many records it had."""
        entries = self._applier.flushable(self._settings.batch_max)
        if not entries:
            return 0
        batch = await batch_of(entries, self._applier.flushed_position)
        await self._write(batch)
        self._applier.flushed(entries)
        self._journal.trim(batch.position)
        self._rows.observe(len(entries))
        return len(entries)

    async def _write(self, batch: FlushBatch) -> None:
        wait_s = max(self._settings.interval_s, _RETRY_S_MIN)
        while True:
            began_s = time.perf_counter()
            try:
                await self._store.flush(batch)
            except DomainError as error:
                self._failures.add()
                if not self.is_failing:
                    _log.warning(
                        "the store does not take records; trying on",
                        reason=error.code,
                        position=batch.position,
                    )
                self.is_failing = True
                await trio.sleep(wait_s)
                wait_s = min(2 * wait_s, self._settings.retry_s_max)
            else:
                if self.is_failing:
                    _log.info("the store takes records again", position=batch.position)
                self.is_failing = False
                self._seconds.observe(time.perf_counter() - began_s)
                return


async def batch_of(entries: list[Entry], previous: int) -> FlushBatch:
    """What these entries write; gives other tasks a turn now and then."""
    columns = EventColumns()
    created: list[DialogRow] = []
    memberships: list[tuple[int, int, int]] = []
    changes: dict[int, DialogChange] = {}
    members: dict[tuple[int, int], MemberRow] = {}
    for index, entry in enumerate(entries, 1):
        number = entry.dialog_number
        if entry.seq:
            _add_event(columns, entry)
            changes[number] = _changed(changes.get(number), entry)
        if entry.created is not None:
            created.append(entry.created)
            memberships += _memberships(entry, entry.created)
        else:
            members[number, entry.actor] = MemberRow(
                number,
                entry.actor,
                entry.role,
                entry.read_seq,
                entry.ordinal,
                entry.at_ms,
                entry.client_ms,
            )
        if index % _ROWS_A_TURN == 0:
            await trio.lowlevel.checkpoint()
    return FlushBatch(
        previous,
        entries[-1].position,
        columns,
        created,
        memberships,
        list(changes.values()),
        list(members.values()),
    )


def _add_event(columns: EventColumns, entry: Entry) -> None:
    columns.dialog_number.append(entry.dialog_number)
    columns.seq.append(entry.seq)
    columns.kind.append(entry.kind)
    columns.position.append(entry.position)
    columns.at_ms.append(entry.at_ms)
    columns.ordinal.append(entry.ordinal)
    columns.actor.append(entry.actor)
    columns.actor_id.append(entry.actor_id)
    columns.body.append(body_of(entry.event, entry.mentioned))
    columns.client_id.append(entry.client_id)


def _changed(before: DialogChange | None, entry: Entry) -> DialogChange:
    """active_*, last_message_seq: 0 when the batch has no message of the dialog."""
    message_seq = active_position = active_ms = 0
    if entry.kind in (MESSAGE_NEW, DIALOG_CREATED):
        active_position, active_ms = entry.position, entry.at_ms
        message_seq = entry.seq if entry.kind == MESSAGE_NEW else 0
    elif before is not None:
        message_seq = before.last_message_seq
        active_position, active_ms = before.active_position, before.active_ms
    return DialogChange(
        entry.dialog_number,
        entry.seq,
        entry.count,
        message_seq,
        active_position,
        active_ms,
        entry.position,
    )


def _memberships(entry: Entry, row: DialogRow) -> list[tuple[int, int, int]]:
    """(dialog, user, role) of everybody in a new dialog."""
    return [
        (row.number, user, entry.role if user == entry.actor else MEMBER)
        for user in BitMap.deserialize(row.members)
    ]
