"""Owns the path of a record: journal, state, then whoever is to be told.

    submit: append -> apply -> wait     on_durable: answer, deliver, hand to the flusher

`submit` is synchronous and costs no task. What it changed is held until the journal
says that it is durable; then all answers and deliveries of the batch go out in journal
order, with one flush of the hub. A record is appended before it is applied: when the
journal refuses, nothing has changed; after it nothing can fail, which is asserted
before (`preconditions.py`): what cannot be applied would end every later start.

At start `recover` applies what the journal has beyond the store, as if it were live,
but tells nobody: who had asked is gone, and others learn it by `sync`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final

import msgspec
import trio

from tchatd.domains.messaging.entry import Entry
from tchatd.domains.messaging.identifiers import DIALOG_NUMBER_MAX
from tchatd.domains.messaging.preconditions import check
from tchatd.domains.messaging.records import (
    AddRecord,
    DialogRecord,
    MessageRecord,
    OwnRecord,
    ReadRecord,
    Record,
    decode,
    encode,
)
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import (
    DialogStore,
    EventRow,
    Hub,
    StoreDiverged,
    Wants,
)
from tchatd.journal.errors import JournalFull, JournalUnusable
from tchatd.journal.loader import Loader
from tchatd.journal.port import Journal
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.deferred import Deferred

REPLAY_RECORDS_MAX: Final = 1_000
"""Applied at once at start; their dialogs are loaded in one query. Whoever joins is
loaded, too, so a record counts for as many as it lets in."""
FLUSH_ROWS_MAX: Final = 5_000
"""Of one batch for the store, but for a single record that has more: a new group has a
row for each member, and no batch may take so long that the store gives it up."""
FLUSH_BYTES_MAX: Final = 16 << 20
"""Of what the records of one batch have changed, likewise."""
_LOADS_MAX: Final = 3
"""Dialogs first, then what they miss; and once more to see that nothing does."""
_RETRY_AFTER_S: Final = 5
TURNS_MAX: Final = 4
"""Of `turn`, between two rounds of the loop: a page of sync is half a millisecond, and
thousands are asked for at once when everybody comes back. One that is long, the first
of those who missed the same, is ten times that."""
_TOLD_BY_ANSWER: Final = frozenset({DialogRecord, MessageRecord, ReadRecord, OwnRecord})
"""Whose answer has all that the event has, so that who asked need not get it, too."""


class Applier:
    """The messaging domain's `CommandLog`. on_flushable: called when there is work.

    Positions: flushed <= durable <= applied. `unflushed` holds the entries later than
    the first, in order, up to `unflushed_max`, and what they hold of states that are
    large for a small record (a channel's members, all who reacted) up to
    `held_bytes_max`; beyond it `submit` refuses. The journal's own limit is of bytes on
    the disk, and a small record's entry takes ten times as many in memory.
    """

    def __init__(
        self,
        journal: Journal,
        state: MessagingState,
        store: DialogStore,
        hub: Hub,
        *,
        wants_max: int = 10_000,
        unflushed_max: int = 1_000_000,
        held_bytes_max: int = 256 << 20,
    ) -> None:
        self._journal = journal
        self._state = state
        self._store = store
        self._hub = hub
        self._append = journal.append
        self._apply = state.apply
        self._unflushed_max = unflushed_max
        self._held_bytes_max = held_bytes_max
        self.held_bytes = 0
        self.has_more = False
        self._pending: deque[tuple[int, Deferred[Any], Entry | None, Any]] = deque()
        self._unreleased: deque[tuple[int, list[Entry]]] = deque()
        self.unflushed: deque[Entry] = deque()
        self._turns = trio.Semaphore(TURNS_MAX)
        self._long_turns = trio.Semaphore(1)
        self.applied_position = 0
        self.durable_position = 0
        self.flushed_position = 0
        self.on_flushable: Callable[[], None] = lambda: None
        self.loader = Loader(
            state,
            store,
            flushed_position=lambda: self.flushed_position,
            unpinned=self._release,
            wants_max=wants_max,
        )
        state.is_kept = self.loader.keeps
        journal.on_durable = self.on_durable

    @property
    def undurable(self) -> int:
        """Answers that wait for the disk."""
        return len(self._pending)

    def submit(self, record: Record, connection: int | None = None) -> Deferred[Any]:
        if (
            len(self.unflushed) >= self._unflushed_max
            or self.held_bytes >= self._held_bytes_max
        ):
            raise JournalFull(
                "The store is too far behind the journal", retry_after_s=_RETRY_AFTER_S
            )
        check(self._state, record)
        position = self._append(encode(record))
        entry = self._apply(record, position)
        self.applied_position = position
        deferred: Deferred[Any] = Deferred()
        if type(record) not in _TOLD_BY_ANSWER:
            connection = None
        self._pending.append((position, deferred, entry, connection))
        self.unflushed.append(entry)
        if entry.changes is not None:
            self.held_bytes += entry.changes.size
        return deferred

    def hold(self, value: Any, position: int) -> Any:
        if position <= self.durable_position:
            return value
        assert position <= self.applied_position
        deferred: Deferred[Any] = Deferred()
        self._pending.append((position, deferred, None, value))
        return deferred

    async def turn(self, *, is_long: bool = False) -> None:
        async with self._long_turns if is_long else self._turns:
            await trio.lowlevel.checkpoint()

    async def durable(self, position: int) -> None:
        held = self.hold(None, position)
        if held is not None:
            event = trio.Event()
            held.on_done(lambda _: event.set())
            await event.wait()

    def pinned(self, *numbers: int) -> AbstractContextManager[None]:
        return self.loader.pinned(*numbers)

    async def load(
        self,
        *,
        ids: Iterable[bytes] = (),
        numbers: Iterable[int] = (),
        members: Iterable[tuple[int, int]] = (),
        messages: Iterable[tuple[int, int]] = (),
        whole: Iterable[int] = (),
    ) -> bool:
        wants = Wants(
            ids=set(ids),
            numbers=set(numbers),
            members=set(members),
            messages=set(messages),
            whole=set(whole),
        )
        return await self.loader.load(wants)

    async def sent(self, number: int, sender: int, client_id: bytes) -> EventRow | None:
        return await self.loader.sent((number, sender, client_id))

    def on_durable(self, position: int) -> None:
        """Tell everything up to position; called by the journal, may be re-entered
        by `submit` and `hold`, whose entries are later and wait for the next call."""
        self.durable_position = position
        pending, deliver = self._pending, self._hub.deliver
        while pending and pending[0][0] <= position:
            _, deferred, entry, extra = pending.popleft()
            if entry is None:
                deferred.resolve(extra)
                continue
            deferred.resolve(entry.answer)
            if entry.members is None:
                self._hub.deliver_user(
                    entry.actor, entry.event, except_connection=extra
                )
            elif entry.event is not None:
                deliver(entry.members, entry.event, except_connection=extra)
            if entry.changes is not None:
                for members, event in entry.changes.told:
                    deliver(members, event, except_connection=extra)
        self._hub.flush()
        if self.unflushed:
            self.on_flushable()

    def flushable(self, count_max: int) -> list[Entry]:
        """The next durable entries, in order; they stay until `flushed`.

        `has_more`: there are more, which would have made the batch too large.
        """
        batch: list[Entry] = []
        durable, rows, size = self.durable_position, 0, 0
        self.has_more = False
        for entry in self.unflushed:
            if entry.position > durable or len(batch) == count_max:
                break
            rows += _rows_of(entry)
            if entry.changes is not None:
                size += entry.changes.size
            if batch and (rows > FLUSH_ROWS_MAX or size > FLUSH_BYTES_MAX):
                self.has_more = True
                break
            batch.append(entry)
        return batch

    def flushed(self, batch: list[Entry]) -> None:
        """These are in the store: the first of what `flushable` gave."""
        for entry in batch:
            first = self.unflushed.popleft()
            assert first is entry
            if entry.changes is not None:
                self.held_bytes -= entry.changes.size
        self.flushed_position = batch[-1].position
        self._unreleased.append((self.flushed_position, batch))
        self._release()

    def _release(self) -> None:
        """Let the state forget what no query in flight can have missed."""
        pin = self.loader.oldest_pin
        while self._unreleased and (pin is None or self._unreleased[0][0] <= pin):
            self._state.flushed(self._unreleased.popleft()[1])
        self._state.evict()

    async def recover(self, flush: Callable[[], Awaitable[None]]) -> int:
        """Apply what the journal has beyond the store; before the journal runs.

        flush: brings everything applied so far into the store; awaited after every
        `REPLAY_RECORDS_MAX` records, so that memory stays bounded. Answers how many
        records there were.

        Raises:
            StoreDiverged: the store has what the journal never had, or lacks what
                the journal goes on from.
            JournalUnusable, Unavailable
        """
        stored = await self._store.position()
        self.applied_position = self.durable_position = self.flushed_position = stored
        batch: list[tuple[int, Record]] = []
        count = weight = 0
        for position, payload in self._journal.replay(stored):
            record = _decoded(payload, position)
            batch.append((position, record))
            weight += _people_of(record)
            if weight >= REPLAY_RECORDS_MAX:
                await self._replay(batch)
                await flush()
                count += len(batch)
                batch, weight = [], 0
        if batch:
            await self._replay(batch)
            await flush()
            count += len(batch)
        if self._journal.next_position != self.applied_position + 1:
            raise StoreDiverged(
                f"The store is at position {stored}, the journal ends at "
                f"{self._journal.next_position - 1}: one of them is not of this data."
            )
        return count

    async def _replay(self, batch: list[tuple[int, Record]]) -> None:
        for _ in range(_LOADS_MAX):
            wants = self._state.missing(batch)
            if not len(wants):
                break
            found = await self._store.load(wants)
            self._state.install(found, wants, evict=False)
        else:
            raise StoreDiverged(
                f"Records from {batch[0][0]} on are of a dialog or a message that "
                "the store lacks: journal and store are not of the same data."
            )
        for position, record in batch:
            assert position == self.applied_position + 1
            entry = self._apply(record, position)
            self.unflushed.append(entry)
            if entry.changes is not None:
                self.held_bytes += entry.changes.size
            self.applied_position = self.durable_position = position


def _decoded(payload: bytes, position: int) -> Record:
    try:
        return decode(payload)
    except msgspec.DecodeError as error:
        raise JournalUnusable(
            f"Record {position} was not written by this version of tchatd: {error}"
        ) from error


def _people_of(record: Record) -> int:
    """Who joins by it; at least 1."""
    if isinstance(record, AddRecord):
        return len(BitMap.deserialize(record.added))
    return 1


def _rows_of(entry: Entry) -> int:
    """About how many rows it writes."""
    if entry.created is None and entry.changes is None:
        return 1
    rows = 1
    if entry.created is not None:
        assert entry.members is not None
        rows += 1 + len(entry.members)
    if entry.changes is not None:
        rows += len(entry.changes.members) + len(entry.changes.messages)
    return rows


assert DIALOG_NUMBER_MAX >= 1 << 40
