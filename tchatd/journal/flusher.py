"""Owns writing durable records to the store, in batches, each with its position.

One batch is one transaction of the store, so a crash anywhere leaves store and journal
fitting each other. While the store is away it tries again, ever more slowly, for as
long as it takes: records stay in the journal, whose backlog limit then refuses new ones
with 503. What a batch writes is taken from its entries, never from the state, which is
ahead of them.

Others may follow the log (`Feed`): each batch is given to them before it goes to the
store, so that a crash in between gives it again, and none is lost.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, Final, Protocol

import trio
from msgspec import Struct, structs

from tchatd.domains.messaging.entry import Changes, Entry, Profile
from tchatd.domains.messaging.message_state import (
    MessageState,
    body_text,
    changes_bytes,
)
from tchatd.domains.messaging.rows import body_of
from tchatd.domains.messaging.store import (
    MEMBER,
    MESSAGE_NEW,
    MESSAGE_READ,
    CursorRow,
    DialogChange,
    DialogRow,
    DialogStore,
    EventColumns,
    FlushBatch,
    MemberRow,
    MessageUpdate,
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
    interval_s: float = 0.1
    retry_s_max: float = 2.0


class Feed(Protocol):
    """Follows the log, batch by batch."""

    async def take(self, entries: Sequence[Entry]) -> None:
        """Keep what it wants of them: durable, in journal order, not in the store yet.

        The same entries come again if this fails, or if the process ends before the
        store has them: whoever must not count twice remembers the last position.

        Raises:
            DomainError: they are given again, and nothing is flushed meanwhile.
        """
        ...


class Flusher:
    """feeds: asked in order, before the store. on_flushed: each is called with the
    entries that the store has from now on; it must neither fail nor take long."""

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
        self.feeds: list[Feed] = []
        self.on_flushed: list[Callable[[Sequence[Entry]], None]] = []
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
            elif not self._closing and not self._is_full(wrote):
                await trio.sleep_until(began_s + self._settings.interval_s)

    def _is_full(self, wrote: int) -> bool:
        return wrote >= self._settings.batch_max or self._applier.has_more

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
        for feed in self.feeds:
            await self._insist(partial(feed.take, entries), batch.position)
        began_s = time.perf_counter()
        await self._insist(partial(self._store.flush, batch), batch.position)
        self._seconds.observe(time.perf_counter() - began_s)
        self._applier.flushed(entries)
        self._journal.trim(batch.position)
        for tell in self.on_flushed:
            tell(entries)
        self._rows.observe(len(entries))
        return len(entries)

    async def _insist(
        self, write: Callable[[], Awaitable[None]], position: int
    ) -> None:
        """Write, however often it takes."""
        wait_s = max(self._settings.interval_s, _RETRY_S_MIN)
        while True:
            try:
                await write()
            except DomainError as error:
                self._failures.add()
                if not self.is_failing:
                    _log.warning(
                        "the store does not take records; trying on",
                        reason=error.code,
                        position=position,
                    )
                self.is_failing = True
                await trio.sleep(wait_s)
                wait_s = min(2 * wait_s, self._settings.retry_s_max)
            else:
                if self.is_failing:
                    _log.info("the store takes records again", position=position)
                self.is_failing = False
                return


async def batch_of(entries: list[Entry], previous: int) -> FlushBatch:
    """What these entries write; gives other tasks a turn now and then."""
    batch = _Batch()
    for index, entry in enumerate(entries, 1):
        batch.take(entry)
        if index % _ROWS_A_TURN == 0:
            await trio.lowlevel.checkpoint()
    return await batch.finish(previous, entries[-1].position)


class _Batch:
    """The last value of each row, as entries come: one statement writes a row once.

    Entries are kept, rows are made of them at the end, but for those of few records.
    last, active: of each dialog, its last event and its last message or creation.
    moved: who has sent or read, by what at last; of those sent_ms and own_position stay
    when it was not by that.
    """

    def __init__(self) -> None:
        self._events: list[tuple[Any, ...]] = []
        self._created: list[DialogRow] = []
        self._memberships: list[tuple[int, int, int]] = []
        self._last: dict[int, Entry] = {}
        self._active: dict[int, Entry] = {}
        self._members: dict[tuple[int, int], MemberRow] = {}
        self._moved: dict[tuple[int, int], Entry] = {}
        self._sent_ms: dict[tuple[int, int], int] = {}
        self._own_position: dict[tuple[int, int], int] = {}
        self._profiles: dict[int, Profile] = {}
        self._states: dict[tuple[int, int], MessageState] = {}

    def take(self, entry: Entry) -> None:
        number, kind = entry.dialog_number, entry.kind
        if entry.seq:
            self._events.append(_event(entry))
            self._last[number] = entry
        if kind == MESSAGE_NEW:
            self._active[number] = entry
            key = number, entry.actor
            self._sent_ms[key] = entry.at_ms
            if key in self._members:
                self._move_whole(key, entry)
            else:
                self._moved[key] = entry
        elif kind == MESSAGE_READ:
            key = number, entry.actor
            if entry.own_position:
                self._own_position[key] = entry.own_position
            if key in self._members:
                self._move_whole(key, entry)
            else:
                self._moved[key] = entry
        elif entry.created is not None:
            self._active[number] = entry
            self._created.append(entry.created)
            self._memberships += _memberships(entry, entry.created)
        if entry.changes is not None:
            self._take_changes(number, entry.changes)

    def _move_whole(self, key: tuple[int, int], entry: Entry) -> None:
        """Of a member whose whole row is written."""
        whole = self._members[key]
        is_message = entry.kind == MESSAGE_NEW
        self._members[key] = structs.replace(
            whole,
            read_seq=entry.read_seq,
            read_ordinal=entry.ordinal,
            read_at_ms=entry.at_ms,
            client_ms=entry.client_ms,
            delivered_seq=max(whole.delivered_seq, entry.read_seq),
            sent_ms=entry.at_ms if is_message else whole.sent_ms,
            own_position=entry.own_position or whole.own_position,
            mentions=None,
        )

    def _take_changes(self, number: int, changes: Changes) -> None:
        if changes.profile is not None:
            self._profiles[number] = changes.profile
        for row in changes.members:
            key = number, row.user_number
            self._members[key] = row
            self._moved.pop(key, None)
        for state in changes.messages:
            self._states[number, state.seq] = state

    async def finish(self, previous: int, position: int) -> FlushBatch:
        """Make bytes of what may be large and changes often: of the last of each."""
        await trio.lowlevel.checkpoint()
        changes = [self._change(entry) for entry in self._last.values()]
        cursors = [self._cursor(key, entry) for key, entry in self._moved.items()]
        await trio.lowlevel.checkpoint()
        events = EventColumns(*map(list, zip(*self._events, strict=True)))
        updates = []
        turns = count(1)
        rows_of = self._rows_of_messages() if self._states else {}
        for key, state in self._states.items():
            body, changed = body_text(state.body), changes_bytes(state.changes)
            index = rows_of.get(key)
            if index is None:
                update = MessageUpdate(*key, body, changed, state.expires_ms)
                updates.append(update)
            else:
                events.body[index] = body
                events.changed[index] = changed
                events.expires_ms[index] = state.expires_ms
            await _turn(next(turns))
        profiles = []
        for profile in self._profiles.values():
            profiles.append(profile.row())
            await _turn(next(turns))
        return FlushBatch(
            previous,
            position,
            events,
            self._created,
            self._memberships,
            changes,
            list(self._members.values()),
            cursors,
            profiles,
            updates,
        )

    def _rows_of_messages(self) -> dict[tuple[int, int], int]:
        """Where in the batch the messages are that it changes, too."""
        states = self._states
        return {
            key: index
            for index, row in enumerate(self._events)
            if (key := (row[0], row[1])) in states
        }

    def _change(self, last: Entry) -> DialogChange:
        """active_*, last_message_seq: 0 when the batch has no message of the dialog."""
        active = self._active.get(last.dialog_number)
        return DialogChange(
            last.dialog_number,
            last.seq,
            last.count,
            0 if active is None or active.kind != MESSAGE_NEW else active.seq,
            0 if active is None else active.position,
            0 if active is None else active.at_ms,
            last.position,
        )

    def _cursor(self, key: tuple[int, int], entry: Entry) -> CursorRow:
        return CursorRow(
            *key,
            entry.read_seq,
            entry.ordinal,
            entry.at_ms,
            entry.client_ms,
            self._sent_ms.get(key, 0),
            self._own_position.get(key, 0),
        )


async def _turn(done: int) -> None:
    if done % _ROWS_A_TURN == 0:
        await trio.lowlevel.checkpoint()


def _event(entry: Entry) -> tuple[Any, ...]:
    """In the order of EventColumns."""
    state = entry.state
    return (
        entry.dialog_number,
        entry.seq,
        entry.kind,
        entry.position,
        entry.at_ms,
        entry.ordinal,
        entry.actor,
        entry.actor_id,
        body_of(entry.event, entry.mentioned)
        if state is None
        else body_text(state.body),
        entry.client_id,
        None if state is None else changes_bytes(state.changes),
        0 if state is None else state.thread_seq,
        0 if state is None else state.expires_ms,
    )


def _memberships(entry: Entry, row: DialogRow) -> list[tuple[int, int, int]]:
    """(dialog, user, role) of everybody in a new dialog."""
    return [
        (row.number, user, entry.role if user == entry.actor else MEMBER)
        for user in BitMap.deserialize(row.members)
    ]
