"""Owns bringing dialogs, members and client_ids from the store into the state.

Whoever misses something joins the next batch and waits; while one query runs, the next
batch gathers, so that a thousand callers cost two queries.

An answer of the store is as old as the moment its query began. It must not meet a state
that has forgotten, since then, what happened in between: a dialog that changed, was
flushed and evicted would come back as it was. So every wait is pinned from before the
query until the waiter runs, and the applier tells the state of a flush only when no
older pin is left (`oldest_pin`). Until then the state keeps it all, and a moment
longer: a waiter, whose pin goes as it wakes up, has yet to look at the state. Nor are
the dialogs evicted that somebody waits to look at (`keeps`), or a rush for more of them
than memory has room for would load them again and again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import trio

from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.identifiers import uuid_text
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import DialogStore, EventRow, Found, Wants
from tchatd.kernel.errors import DomainError, Unavailable

T = TypeVar("T")


class _Batch:
    """What waits for one query. `found` or `error` is there when `done` is set."""

    __slots__ = ("done", "error", "found", "wants")

    def __init__(self) -> None:
        self.wants = Wants()
        self.done = trio.Event()
        self.found: Found | None = None
        self.error: DomainError | None = None

    async def wait(self) -> Found:
        await self.done.wait()
        if self.error is not None:
            raise Unavailable(
                self.error.detail, retry_after_s=self.error.retry_after_s or 1
            )
        assert self.found is not None
        return self.found


class _Pin:
    __slots__ = ("active", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        self.active = True


class Loader:
    """flushed_position: of what the store has for sure, now.

    wants_max: of one batch; a caller beyond it is refused with `Unavailable`.
    unpinned: called when the oldest pin has gone, after whoever had it has awaited
        again.
    """

    def __init__(
        self,
        state: MessagingState,
        store: DialogStore,
        *,
        flushed_position: Callable[[], int],
        unpinned: Callable[[], None],
        wants_max: int,
    ) -> None:
        self._state = state
        self._store = store
        self._flushed_position = flushed_position
        self._unpinned = unpinned
        self._wants_max = wants_max
        self._next = _Batch()
        self._wanted = trio.Event()
        self._pins: deque[_Pin] = deque()
        self._kept_ids: Counter[str] = Counter()
        self._kept_numbers: Counter[int] = Counter()
        self.batches = 0
        self.loaded = 0

    @property
    def oldest_pin(self) -> int | None:
        """What had been flushed when the longest waiting caller came; None: nobody."""
        return self._pins[0].position if self._pins else None

    @property
    def waiting(self) -> int:
        return len(self._pins)

    async def load(self, wants: Wants) -> bool:
        """Whether all of the dialogs asked for exist; they are in state, or were.

        Raises:
            Unavailable: the store is away, or too many wait.
        """
        with self._pinned(wants):
            found = await self._joined(wants).wait()
            ids = {row.id for row in found.dialogs}
            numbers = {row.number for row in found.dialogs}
            return wants.ids <= ids and wants.numbers <= numbers

    async def sent(self, key: tuple[int, int, bytes]) -> EventRow | None:
        """The stored `message.new` of (dialog number, sender, client_id)."""
        wants = Wants(sent={key})
        with self._pinned(wants):
            found = await self._joined(wants).wait()
            for row in found.sent:
                if (row.dialog_number, row.actor, row.client_id) == key:
                    return row
            return None

    def pinned(self, *numbers: int) -> AbstractContextManager[None]:
        """Hold on to the dialogs, and to everything that happens to it meanwhile, for
        somebody who asks the store by themselves."""
        return self._pinned(Wants(numbers=set(numbers)))

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Ask for one batch after another, until cancelled."""
        task_status.started()
        while True:
            await self._wanted.wait()
            batch, self._next, self._wanted = self._next, _Batch(), trio.Event()
            await self._ask(batch)

    async def _ask(self, batch: _Batch) -> None:
        try:
            with self._pinned(Wants()):  # who waits may be cancelled before the answer
                found = await self._store.load(batch.wants)
                self._state.install(found, batch.wants)
        except DomainError as error:
            batch.error = error
        else:
            batch.found = found
            self.batches += 1
            self.loaded += len(found.dialogs)
        finally:
            if batch.found is None and batch.error is None:
                batch.error = Unavailable("The server is stopping.")
            batch.done.set()

    def _joined(self, wants: Wants) -> _Batch:
        batch = self._next
        if len(batch.wants) + len(wants) > self._wants_max:
            raise Unavailable("Too many dialogs are being loaded.")
        batch.wants.ids |= wants.ids
        batch.wants.numbers |= wants.numbers
        batch.wants.members |= wants.members
        batch.wants.sent |= wants.sent
        batch.wants.messages |= wants.messages
        batch.wants.whole |= wants.whole
        self._wanted.set()
        return batch

    def keeps(self, dialog: DialogState) -> bool:
        """Whether somebody who waits is about to look at it."""
        return dialog.number in self._kept_numbers or dialog.id in self._kept_ids

    @contextmanager
    def _pinned(self, wants: Wants) -> Iterator[None]:
        pin = _Pin(self._flushed_position())
        self._pins.append(pin)
        ids, numbers = _dialogs_of(wants)
        self._kept_ids.update(ids)
        self._kept_numbers.update(numbers)
        try:
            yield
        finally:
            _take(self._kept_ids, ids)
            _take(self._kept_numbers, numbers)
            pin.active = False
            first = self._pins[0] is pin
            while self._pins and not self._pins[0].active:
                self._pins.popleft()
            if first:
                trio.lowlevel.current_trio_token().run_sync_soon(self._unpinned)


def _dialogs_of(wants: Wants) -> tuple[list[str], list[int]]:
    """The dialogs that are looked at afterwards: texts of ids, and numbers."""
    numbers = [*wants.numbers]
    numbers += [number for number, _ in wants.members]
    numbers += [number for number, _, _ in wants.sent]
    numbers += [number for number, _ in wants.messages]
    numbers += wants.whole
    return [uuid_text(id) for id in wants.ids], numbers


def _take(counts: Counter[T], keys: Iterable[T]) -> None:
    for key in keys:
        counts[key] -= 1
        if not counts[key]:
            del counts[key]
