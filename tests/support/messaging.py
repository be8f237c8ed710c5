"""Owns a messaging core over memory: journal, hub and directory that a test drives."""

from __future__ import annotations

import random
from collections.abc import (
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import trio

from tchatd.domains.messaging import message_routes
from tchatd.domains.messaging.models import CreateDialog, SendMessage
from tchatd.domains.messaging.reach import Blocks
from tchatd.domains.messaging.service import MessagingService
from tchatd.domains.messaging.state import MessagingState, StateLimits
from tchatd.domains.messaging.store import Bots, DialogStore
from tchatd.journal.applier import Applier
from tchatd.journal.errors import JournalFull
from tchatd.journal.flusher import Flusher, FlusherSettings
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.encoding import encode_json
from tchatd.kernel.ids import Ids
from tchatd.kernel.routing import Caller, Context
from tchatd.observe.metrics import Metrics
from tchatd.stores.memory.messaging import MemoryDialogStore


def user_id(number: int) -> UUID:
    return UUID(int=0x019A_0000_0000_7000_8000_0000_0000_0000 + number)


def seeded_bytes(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


class FakeJournal:
    """Durable when told; `kept` is what the disk has."""

    def __init__(self, kept: Iterable[bytes] = ()) -> None:
        self.kept = list(kept)
        self.durable_position = len(self.kept)
        self.trimmed = 0
        self.room = 1 << 30
        self.on_durable: Callable[[int], None] = lambda position: None

    @property
    def next_position(self) -> int:
        return len(self.kept) + 1

    def append(self, payload: bytes) -> int:
        if len(self.kept) - self.trimmed >= self.room:
            raise JournalFull
        self.kept.append(payload)
        return len(self.kept)

    def sync(self, until: int | None = None) -> None:
        """The disk has everything up to `until` now."""
        position = len(self.kept) if until is None else until
        if position > self.durable_position:
            self.durable_position = position
            self.on_durable(position)

    def crash(self) -> FakeJournal:
        """What the next process finds."""
        return FakeJournal(self.kept[: self.durable_position])

    def trim(self, position: int) -> None:
        assert self.trimmed <= position <= self.durable_position
        self.trimmed = position

    def replay(self, after: int) -> Iterator[tuple[int, bytes]]:
        yield from list(enumerate(self.kept, 1))[after:]

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        task_status.started()
        await trio.sleep_forever()

    def close(self) -> None:
        pass


class FakeHub:
    """Remembers what was told to whom: (members, event, connection left out)."""

    def __init__(self) -> None:
        self.told: list[tuple[list[int], Any, int | None]] = []
        self.flushes = 0

    def deliver(
        self, members: BitMap, event: Any, *, except_connection: int | None = None
    ) -> None:
        self.told.append((list(members), event, except_connection))

    def deliver_user(
        self, user_number: int, event: Any, *, except_connection: int | None = None
    ) -> None:
        self.told.append(([user_number], event, except_connection))

    def flush(self) -> None:
        self.flushes += 1


class FakeDirectory:
    """Users 1 to `count`."""

    def __init__(self, count: int) -> None:
        self._numbers = {user_id(number): number for number in range(1, count + 1)}

    async def numbers_of(self, ids: Sequence[UUID]) -> Mapping[UUID, int]:
        await trio.lowlevel.checkpoint()
        return {id: self._numbers[id] for id in ids if id in self._numbers}

    async def ids_of(self, numbers: Sequence[int]) -> Mapping[int, UUID]:
        await trio.lowlevel.checkpoint()
        known = set(self._numbers.values())
        return {number: user_id(number) for number in numbers if number in known}


class Core:
    """Every part wired over a store. `auto`: records are durable at once."""

    def __init__(
        self,
        store: DialogStore | None = None,
        journal: FakeJournal | None = None,
        *,
        users: int = 200,
        clock: ManualClock | None = None,
        limits: StateLimits | None = None,
        settings: FlusherSettings | None = None,
        auto: bool = True,
        seed: int = 1,
        bots: Bots | None = None,
        blocks: Blocks | None = None,
    ) -> None:
        self.store = MemoryDialogStore() if store is None else store
        self.journal = FakeJournal() if journal is None else journal
        self.clock = clock or ManualClock()
        self.ids = Ids(self.clock, seeded_bytes(seed))
        self.hub = FakeHub()
        self.state = MessagingState(limits or StateLimits(), self.clock.now_ms)
        self.applier = Applier(self.journal, self.state, self.store, self.hub)
        self.flusher = Flusher(
            self.applier,
            self.journal,
            self.store,
            Metrics(process=False),
            settings or FlusherSettings(interval_s=0),
        )
        self.auto = auto
        self.service = MessagingService(
            self.state,
            self.applier,
            self.store,
            FakeDirectory(users),
            self.hub,
            self.clock,
            self.ids,
            blocks,
            bots=bots,
        )

    def context(
        self,
        user: int,
        connection: int | None = None,
        idempotency_id: UUID | None = None,
    ) -> Context:
        caller = Caller(user_id(user), user, user_id(user))
        return Context("r-1", "127.0.0.1", caller, connection, idempotency_id)

    async def settle(self, answer: Any) -> Any:
        """The value of whatever a handler answered."""
        for _ in range(3):
            if hasattr(type(answer), "__await__"):
                answer = await answer
            elif isinstance(answer, Deferred):
                if self.auto and not answer.done:
                    self.journal.sync()
                if not answer.done:
                    event = trio.Event()
                    answer.on_done(partial(_set, event))
                    await event.wait()
                return answer.result()
        return answer

    async def do(self, user: int, command: Any, **around: Any) -> Any:
        handlers: dict[str, Callable[[Context, Any], Any]] = {
            "CreateDialog": self.service.create_dialog,
            "GetDialog": self.service.get_dialog,
            "ListDialogs": self.service.list_dialogs,
            "ChangeDialog": self.service.profiles.change,
            "DropDialog": self.service.profiles.drop,
            "ListMembers": self.service.roster.list_members,
            "AddMembers": self.service.membership.add,
            "ChangeMember": self.service.membership.change,
            "RemoveMember": self.service.membership.remove,
            "ListBans": self.service.roster.list_bans,
            "BanUser": self.service.bans.ban,
            "EndBan": self.service.bans.end,
            "ChangeOwn": self.service.own.change,
            "SaveDraft": self.service.own.save_draft,
            "SendMessage": self.service.send_message,
            "ListMessages": self.service.list_messages,
            "ReadMessages": self.service.read_messages,
            "ListEvents": self.service.list_events,
            "StartTyping": self.service.start_typing,
            "StopTyping": self.service.stop_typing,
            "Sync": self.service.sync,
            **{
                operation.command.__name__: operation.handler
                for operation in message_routes.operations(self.service)
            },
        }
        handler = handlers[type(command).__name__]
        if self.auto:
            self.journal.sync()
        return await self.settle(handler(self.context(user, **around), command))

    async def restart(self, **changes: Any) -> Core:
        """A new process over the same store and what the disk has."""
        core = Core(
            changes.pop("store", self.store),
            self.journal.crash(),
            clock=self.clock,
            auto=self.auto,
            **changes,
        )
        await core.applier.recover(core.flusher.flush)
        return core


def _set(event: trio.Event, _: object) -> None:
    event.set()


@asynccontextmanager
async def loading(core: Core) -> AsyncIterator[None]:
    """The core's loader runs meanwhile."""
    async with trio.open_nursery() as nursery:
        await nursery.start(core.applier.loader.run)
        yield
        nursery.cancel_scope.cancel()


def client_id(time_ms: int, rest: int = 0) -> UUID:
    return UUID(int=time_ms << 80 | 7 << 76 | 2 << 62 | rest)


def text(dialog_id: str, words: str = "hello", **fields: Any) -> SendMessage:
    return SendMessage(
        dialog_id=dialog_id, type="text", content={"text": words}, **fields
    )


def with_user(*numbers: int) -> CreateDialog:
    people = [user_id(number) for number in numbers]
    return CreateDialog(type="user", participants=people)


def group_of(numbers: Iterable[int], name: str = "Lunch") -> CreateDialog:
    people = [user_id(number) for number in numbers]
    return CreateDialog(type="group", name=name, participants=people)


def shape(value: Any) -> Any:
    """What a client sees of it."""
    return msgspec.json.decode(encode_json(value))
