"""Owns ledgers on a real PostgreSQL, for tests: running, and ready for this month."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import trio

from tchatd.domains.payment.ledger.books import Books
from tchatd.domains.payment.ledger.deciding import Command
from tchatd.domains.payment.ledger.models import Account, Hold, Opening
from tchatd.domains.payment.ledger.store import PostedAt
from tchatd.kernel.clock import Clock
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.ids import Ids
from tchatd.observe.metrics import Metrics
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.ledger import LedgerSettings, PostgresLedger
from tchatd.stores.postgres.ledger_batch import Reader
from tchatd.stores.postgres.ledger_rows import (
    ACCOUNT,
    HOLD,
    POSTING,
    Statement,
    account_of,
    hold_of,
    posting_of,
)
from tchatd.stores.postgres.ledger_store import PostgresLedgerStore
from tchatd.stores.postgres.pool import Pool
from tests.support.ledger import Do, differences

SETTINGS = LedgerSettings(
    batch_max=1_000,
    waiting_max=100_000,
    attempts_max=8,
    trip_s=10.0,
    retry_s=20.0,
    in_doubt_s=20.0,
)


class Book:
    """Both ports at once, as the contract wants them."""

    def __init__(self, ledger: PostgresLedger, store: PostgresLedgerStore) -> None:
        self.ledger = ledger
        self.store = store

    def submit(self, command: Command) -> Deferred[Any]:
        return self.ledger.submit(command)

    async def open(self, opening: Opening) -> int:
        return await self.store.open(opening)

    async def accounts(self, numbers: Sequence[int]) -> list[Account]:
        return await self.store.accounts(numbers)

    async def named(self, name: str) -> list[Account]:
        return await self.store.named(name)

    async def hold(self, id: UUID) -> Hold | None:
        return await self.store.hold(id)

    async def postings(
        self, account: int, *, below_version: int | None = None, count_max: int = 100
    ) -> list[PostedAt]:
        return await self.store.postings(
            account, below_version=below_version, count_max=count_max
        )

    async def due_holds(self, now_ms: int, count_max: int) -> list[Hold]:
        return await self.store.due_holds(now_ms, count_max)


def connecting(dsn: str, settings: LedgerSettings = SETTINGS) -> partial[Any]:
    return partial(
        Connection.connect,
        dsn,
        idle_in_transaction_s=settings.idle_in_transaction_s,
        prepare_threshold=0,
    )


def made(
    dsn: str,
    pool: Pool,
    clock: Clock,
    connect: Callable[[], Awaitable[Connection]] | None = None,
    metrics: Metrics | None = None,
    **settings: Any,
) -> Book:
    chosen = msgspec.structs.replace(SETTINGS, **settings)
    store = PostgresLedgerStore(pool, clock)
    ledger = PostgresLedger(
        connect or connecting(dsn, chosen),
        store.ensure_partitions,
        clock,
        Ids(clock),
        chosen,
        metrics or Metrics(process=False),
    )
    return Book(ledger, store)


@asynccontextmanager
async def running(book: Book) -> AsyncIterator[Book]:
    """It is drained at the end, also of what failed."""
    async with trio.open_nursery() as nursery:
        await nursery.start(book.ledger.run)
        try:
            yield book
        finally:
            book.ledger.close()


async def differences_in(pool: Pool) -> list[str]:
    """Everything there is, read at once and recomputed."""
    async with pool.transaction(isolation="REPEATABLE READ") as connection:
        accounts = await connection.fetch(f"SELECT {ACCOUNT} FROM accounts")
        holds = await connection.fetch(f"SELECT {HOLD} FROM holds")
        postings = await connection.fetch(f"SELECT {POSTING} FROM postings")
    return differences(
        map(account_of, accounts),
        map(hold_of, holds),
        [posting_of(row).posting for row in postings],
    )


# Records of a test, and reading them.

CREATE_NOTES = "CREATE TABLE notes (number bigint PRIMARY KEY CHECK (number < 100))"


class Note(msgspec.Struct, frozen=True):
    number: int


class NoteKey(msgspec.Struct, frozen=True):
    number: int


def write_notes(notes: list[Note]) -> Statement:
    return "INSERT INTO notes SELECT unnest(%(n)b::bigint[])", {
        "n": [note.number for note in notes]
    }


READ_NOTES = Reader(
    lambda keys: (
        "SELECT number FROM notes WHERE number = ANY(%(n)b::bigint[])",
        {"n": [key.number for key in keys]},
    ),
    lambda rows: {NoteKey(row[0]): row[0] for row in rows},
)


def note(number: int, **more: Any) -> Do:
    """Writes a note; its result is what was found before."""
    key = NoteKey(number)

    def run(books: Books) -> Any:
        found = books.found(key)
        books.write(Note(number))
        books.put(key, number)
        return found

    return Do(run, reads=(key,), **more)
