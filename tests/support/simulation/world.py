"""Owns a daemon in a world where things go wrong, and the devices around it.

One seed is one history. Commands, deliveries, the disk, the flusher, lost connections
and crashes come in an order drawn from it; the store answers late; and so that a seed
replays exactly, Trio's scheduler draws from it, too.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import trio
from msgspec import to_builtins

from tchatd.domains.messaging import routes
from tchatd.domains.messaging.identifiers import uuid_text
from tchatd.domains.messaging.models import Sync
from tchatd.domains.messaging.records import DialogRecord, MessageRecord, decode
from tchatd.domains.messaging.state import StateLimits
from tchatd.domains.messaging.store import (
    ChangedDialog,
    DialogStore,
    EventRow,
    FlushBatch,
    Found,
    ListedDialog,
    Wants,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, Unavailable
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support.messaging import Core, FakeJournal
from tests.support.simulation.device import Device
from tests.support.simulation.truth import Truth

LIMITS = StateLimits(dialogs_max=2, tail_max=2, client_ids_max=2)
_asked: ContextVar[tuple[int, Any]] = ContextVar("asked")


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Trio's order of tasks follows the seed; Hypothesis asks for it the same way."""
    run = trio._core._run
    before, state = run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate()
    run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    run._r.seed(seed)
    try:
        yield
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]
        run._r.setstate(state)


class LateStore(MemoryDialogStore):
    """Answers are as of some moment between question and answer."""

    choose = random.Random(0)

    async def _pause(self) -> None:
        for _ in range(self.choose.choice((0, 0, 1, 3))):
            await trio.lowlevel.checkpoint()

    async def flush(self, batch: FlushBatch) -> None:
        await self._pause()
        await super().flush(batch)
        await self._pause()

    async def load(self, wants: Wants) -> Found:
        await self._pause()
        found = await super().load(wants)
        await self._pause()
        return found

    async def events(
        self, number: int, after: int, until: int, limit: int
    ) -> list[EventRow]:
        await self._pause()
        found = await super().events(number, after, until, limit)
        await self._pause()
        return found

    async def messages_before(
        self, number: int, seq: int, limit: int
    ) -> list[EventRow]:
        await self._pause()
        found = await super().messages_before(number, seq, limit)
        await self._pause()
        return found

    async def listed(
        self, user_number: int, **how: Any
    ) -> tuple[list[ListedDialog], int]:
        await self._pause()
        found = await super().listed(user_number, **how)
        await self._pause()
        return found

    async def changed(
        self, user_number: int, **how: Any
    ) -> tuple[list[ChangedDialog], int]:
        await self._pause()
        found = await super().changed(user_number, **how)
        await self._pause()
        return found

    async def ranges(
        self, ranges: Sequence[tuple[int, int, int]], until_position: int
    ) -> tuple[list[EventRow], list[EventRow]]:
        await self._pause()
        found = await super().ranges(ranges, until_position)
        await self._pause()
        return found


class Noting(FakeJournal):
    """Tells the world what was accepted."""

    def __init__(self, kept: Iterable[bytes], truth: Truth) -> None:
        super().__init__(kept)
        self.truth = truth
        self.ids: dict[int, str] = {}

    def append(self, payload: bytes) -> int:
        position = super().append(payload)
        record = decode(payload)
        if isinstance(record, DialogRecord):
            number = position
            self.ids[number] = uuid_text(record.dialog_id)
        else:
            number = record.dialog_number
        user, command = _asked.get()
        id = self.ids.get(number, "")
        text = ""
        if isinstance(record, MessageRecord):
            text = to_builtins(record.content).get("text", "")
        self.truth.take((user, command, number, id, type(record).__name__, text))
        return position

    def crash(self) -> FakeJournal:
        return FakeJournal(self.kept[: self.durable_position])


class Wire:
    """The hub: what is told waits in the inbox of every device that is online."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = devices

    def deliver(
        self, members: BitMap, event: Any, *, except_connection: int | None = None
    ) -> None:
        for device in self._devices:
            online = device.connection
            if online in (None, except_connection) or device.user not in members:
                continue
            device.inbox.append((None, event))

    def deliver_user(
        self, user_number: int, event: Any, *, except_connection: int | None = None
    ) -> None:
        members = BitMap((user_number,))
        self.deliver(members, event, except_connection=except_connection)

    def flush(self) -> None:
        pass


class World:
    """devices: of four people. running: commands that are under way. trace: what has
    happened, the last last. rest_s: for a real store to get on meanwhile."""

    def __init__(self, seed: int, store: DialogStore | None = None) -> None:
        self.choose = random.Random(seed)
        self.seed = seed
        self.trace: list[str] = []
        self.truth = Truth()
        self.devices = [
            Device(f"{user}{letter}", user)
            for user, letter in (
                (1, "a"),
                (1, "b"),
                (2, "a"),
                (2, "b"),
                (3, ""),
                (4, ""),
            )
        ]
        self._connections = 0
        self.running = 0
        self.rest_s = 0.0 if store is None else 0.002
        if store is None:
            store = LateStore()
            store.choose = self.choose
        self._journal = Noting((), self.truth)
        self.core = Core(store, self._journal, limits=LIMITS, auto=False, seed=seed)
        self._begin()

    def _begin(self) -> None:
        core = self.core
        core.applier._hub = Wire(self.devices)
        self._handlers: dict[type, Callable[..., Any]] = {
            operation.command: operation.handler
            for operation in routes.operations(core.service)
        }
        self.is_flushing = False

    @property
    def is_quiet(self) -> bool:
        """Nothing is under way, neither to the disk nor to a device."""
        journal = self._journal
        return (
            not self.running
            and journal.durable_position == journal.next_position - 1
            and not any(device.inbox for device in self.devices)
            and not any(
                device.missing or device.rest
                for device in self.devices
                if device.connection is not None
            )
        )

    # What happens to the daemon

    async def crash(self) -> None:
        """The next process finds what the disk has; what it lacks never was."""
        durable = self._journal.durable_position
        self.note(f"crash at {self._journal.next_position - 1}, {durable} durable")
        taken, ids = self.truth.taken[:durable], self._journal.ids
        self.truth = Truth(taken)
        self._journal = Noting(self._journal.kept[:durable], self.truth)
        self._journal.ids = ids
        core = Core(
            self.core.store,
            self._journal,
            clock=self.core.clock,
            limits=LIMITS,
            auto=False,
            seed=self.seed,
        )
        core.ids = self.core.ids
        self.core = core
        for device in self.devices:
            for _ in range(self.choose.choice((0, 0, len(device.inbox)))):
                self.receive(device, ask=False)
            device.disconnect()
        self._begin()
        await core.applier.recover(core.flusher.flush)
        self.running = 0

    def sync_disk(self, *, wholly: bool = False) -> None:
        journal = self._journal
        last = journal.next_position - 1
        first = last if wholly else journal.durable_position
        journal.sync(self.choose.randint(first, last))

    async def flush(self) -> None:
        if self.is_flushing:
            return
        self.is_flushing = True
        await self.core.flusher.flush_batch()
        self.is_flushing = False

    # What devices do

    def connect(self, device: Device) -> None:
        self._connections += 1
        device.connect(self._connections)
        self.note(f"{device.name} connects")
        self.catch_up(device)
        for command in (*device.unanswered.values(), *device.next_questions()):
            self.start(device, command)

    def catch_up(self, device: Device) -> None:
        limit = self.choose.choice((1, 2, 5, 300))
        device.asked = Sync(cursor=device.cursor, limit=limit)
        self.start(device, device.asked)

    def list_on(self, device: Device) -> None:
        """Ask for the next page of the device's list, if there is one."""
        if device.connection is None:
            return
        command = device.next_page(self.choose.choice((1, 2)))
        if command is not None:
            self.start(device, command)

    def receive(self, device: Device, *, ask: bool = True) -> None:
        """One thing that waits for the device."""
        command, told = device.inbox.popleft()
        is_behind = device.take(command, told)
        if not ask:
            return
        if is_behind:
            self.catch_up(device)
        for question in device.next_questions():
            self.start(device, question)

    nursery: trio.Nursery

    def start(self, device: Device, command: Any) -> None:
        """Ask, and go on: the answer comes when it comes."""
        self.running += 1
        self.nursery.start_soon(self._ask, device, command)

    async def _ask(self, device: Device, command: Any) -> None:
        connection, core = device.connection, self.core

        def reply(value: Any) -> None:
            if core is self.core and device.connection == connection is not None:
                device.inbox.append((command, getattr(value, "body", value)))

        try:
            answer = await self.call(device.user, command, connection)
        except DomainError as error:
            if isinstance(error, Unavailable):  # nothing is: somebody was kept waiting
                raise AssertionError(f"{command} is not answered") from error
            device.refused(command)
            self.note(f"{device.name} is refused {command}: {type(error).__name__}")
        else:
            self.note(f"{device.name} asks {command}")
            if isinstance(answer, Deferred):
                answer.on_done(lambda deferred: reply(deferred.result()))
            else:
                reply(answer)
        if core is self.core:
            self.running -= 1

    async def call(self, user: int, command: Any, connection: int | None) -> Any:
        """What the handler answers, awaited, but still a Deferred."""
        _asked.set((user, command))
        context = self.core.context(user, connection)
        answer = self._handlers[type(command)](context, command)
        if isinstance(answer, Awaitable):
            answer = await answer
        return answer

    async def read(self, user: int, command: Any) -> Any:
        """The answer of something that changes nothing, once everything is durable."""
        answer = await self.call(user, command, None)
        return answer.result() if isinstance(answer, Deferred) else answer

    def note(self, what: str) -> None:
        self.trace.append(what)
