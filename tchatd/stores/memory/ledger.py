"""Owns the ledger in memory, for tests: decided at once, or when a test says so.

`submit` is answered before it returns, unless the test gathers a batch:

    with ledger.gathering():
        first, second = ledger.submit(a), ledger.submit(b)
    first.result()

writers, readers: as `tchatd.stores.postgres.ledger` has them, by the type of a record
and of a read's key; here functions that store and find at once. Every other method has
a checkpoint before it touches anything, none in between.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import trio

from tchatd.domains.payment.ledger.books import Books
from tchatd.domains.payment.ledger.deciding import (
    Command,
    KeptAnswer,
    decide_all,
)
from tchatd.domains.payment.ledger.models import Account, Hold, HoldState, Opening
from tchatd.domains.payment.ledger.store import PostedAt
from tchatd.kernel.clock import Clock
from tchatd.kernel.deferred import Deferred


class MemoryLedger:
    """A `Ledger` and its `LedgerStore`.

    on_committed: each is called with the records of a batch after it is stored, and
    before its answers are told.
    """

    def __init__(self, clock: Clock) -> None:
        self.writers: dict[type, Callable[[list[Any]], None]] = {}
        self.readers: dict[type, Callable[[list[Any]], Mapping[Any, Any]]] = {}
        self.on_committed: list[Callable[[Sequence[Any]], None]] = []
        self.stored: dict[int, Account] = {}
        self.holds: dict[UUID, Hold] = {}
        self.log: list[PostedAt] = []
        self._clock = clock
        self._names: dict[tuple[str, Any], int] = {}
        self.kept: dict[bytes, KeptAnswer] = {}
        self._gathered: list[tuple[Command, Deferred[Any]]] | None = None

    # The port of commands.

    def submit(self, command: Command) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        if self._gathered is not None:
            self._gathered.append((command, deferred))
        else:
            self._settle([(command, deferred)])
        return deferred

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """What is submitted inside is one batch, decided at the end."""
        assert self._gathered is None
        self._gathered = []
        try:
            yield
        finally:
            batch, self._gathered = self._gathered, None
        if batch:
            self._settle(batch)

    def _settle(self, batch: list[tuple[Command, Deferred[Any]]]) -> None:
        commands = [command for command, _ in batch]
        books = self._loaded(commands)
        kept = {
            key.digest: self.kept[key.digest]
            for command in commands
            if (key := command.key) is not None and key.digest in self.kept
        }
        outcomes = decide_all(books, commands, kept)
        self._store(books)
        for tell in self.on_committed:
            tell(books.records)
        for (_, deferred), outcome in zip(batch, outcomes, strict=True):
            if outcome.error is None:
                deferred.resolve(outcome.value)
            else:
                deferred.fail(outcome.error)

    def _loaded(self, commands: Sequence[Command]) -> Books:
        numbers = {number for command in commands for number in command.accounts}
        holds = {id for command in commands for id in command.holds}
        wanted: dict[type, dict[Hashable, None]] = {}
        for command in commands:
            for key in command.reads:
                wanted.setdefault(type(key), {})[key] = None
        found: dict[Hashable, Any] = {}
        for kind, keys in wanted.items():
            found.update(self.readers[kind](list(keys)))
        return Books(
            [self.stored[n].copy() for n in sorted(numbers) if n in self.stored],
            [self.holds[id] for id in holds if id in self.holds],
            self._clock.now_ms(),
            found,
        )

    def _store(self, books: Books) -> None:
        unknown = {type(record) for record in books.records} - set(self.writers)
        assert unknown <= {KeptAnswer}, f"no writer of {unknown}"
        for number, account in books.changed.items():
            self.stored[number] = account.copy()
        self.holds.update(books.new_holds)
        self.holds.update(books.changed_holds)
        self.log += [PostedAt(posting, books.now_ms) for posting in books.postings]
        for record in books.records:
            if isinstance(record, KeptAnswer):
                self.kept[record.digest] = record
        for kind, write in self.writers.items():
            if records := [r for r in books.records if type(r) is kind]:
                write(records)

    # The port of rows.

    async def open(self, opening: Opening) -> int:
        await trio.lowlevel.checkpoint()
        return self.open_now(opening)

    def open_now(self, opening: Opening) -> int:
        """Without a checkpoint, to set a test up."""
        name = None if opening.name is None else (opening.name, opening.currency)
        if name is not None and name in self._names:
            return self._names[name]
        number = len(self.stored) + 1
        self.stored[number] = Account(
            number, opening.currency, opening.kind, opening.floor, opening.ceiling
        )
        if name is not None:
            self._names[name] = number
        return number

    async def accounts(self, numbers: Sequence[int]) -> list[Account]:
        await trio.lowlevel.checkpoint()
        wanted = sorted(set(numbers))
        return [self.stored[n].copy() for n in wanted if n in self.stored]

    async def named(self, name: str) -> list[Account]:
        await trio.lowlevel.checkpoint()
        return [
            self.stored[number].copy()
            for (known, _), number in self._names.items()
            if known == name
        ]

    async def hold(self, id: UUID) -> Hold | None:
        await trio.lowlevel.checkpoint()
        return self.holds.get(id)

    async def postings(
        self, account: int, *, below_version: int | None = None, count_max: int = 100
    ) -> list[PostedAt]:
        await trio.lowlevel.checkpoint()
        found = [
            at
            for at in reversed(self.log)
            if at.posting.account == account
            and (below_version is None or at.posting.version < below_version)
        ]
        return found[:count_max]

    async def due_holds(self, now_ms: int, count_max: int) -> list[Hold]:
        await trio.lowlevel.checkpoint()
        due = [
            hold
            for hold in self.holds.values()
            if hold.state is HoldState.PENDING and hold.expires_ms <= now_ms
        ]
        return sorted(due, key=lambda hold: (hold.expires_ms, hold.id))[:count_max]
