"""Owns one batch of the ledger on one connection: its two round trips.

    1  BEGIN; the batcher's own row; accounts, locked in order of number; then, in
       statements whose snapshots are taken with the locks held (READ COMMITTED):
       holds, keys, what the commands' readers find
       - `decide_all`, in memory -
    2  accounts, postings, holds, keys, records by their types; COMMIT

The batcher's own row (`ledger_batchers`) is how a lost answer to COMMIT is found out:
the first trip writes the batch's number to it and so holds its lock until the
transaction has ended, whatever becomes of the connection. Whoever waits for that lock
on another connection then reads whether the number was committed. `pg_xact_status`
would do, but for a transaction that a crash of the server cut off: its id may be
another's afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from tchatd.domains.payment.ledger.books import Books
from tchatd.domains.payment.ledger.deciding import (
    Command,
    KeptAnswer,
    Outcome,
    decide_all,
)
from tchatd.kernel.deferred import Deferred
from tchatd.stores.postgres import ledger_rows as rows
from tchatd.stores.postgres.connection import Connection, Cursor
from tchatd.stores.postgres.driver import Row
from tchatd.stores.postgres.errors import ConnectionLost
from tchatd.stores.postgres.ledger_rows import Statement

Writer = Callable[[list[Any]], Statement]
"""Records of one type, at least one → the statement that stores them."""


class Reader(msgspec.Struct, frozen=True):
    """statement: that finds the rows of keys of one type, at least one. found: its rows
    by key, those that are there."""

    statement: Callable[[list[Any]], Statement]
    found: Callable[[Sequence[Row]], Mapping[Any, Any]]


class Waiting:
    """A command, what it needs (asked once), and where its answer goes."""

    __slots__ = ("accounts", "command", "deferred", "digest", "holds", "reads")

    def __init__(self, command: Command) -> None:
        self.command = command
        self.deferred: Deferred[Any] = Deferred()
        self.accounts = command.accounts
        self.holds = command.holds
        self.reads = command.reads
        key = command.key
        self.digest = None if key is None else key.digest


class Decided(msgspec.Struct, frozen=True):
    """What came of a batch, not yet stored. statements: none, and nothing is to be."""

    books: Books
    outcomes: list[Outcome]
    statements: list[Statement]


class Tables:
    """Writers and readers, by types; in the order in which they were put in."""

    def __init__(self) -> None:
        self.writers: dict[type, Writer] = {}
        self.readers: dict[type, Reader] = {}

    def statements(self, books: Books) -> list[Statement]:
        """All that a batch stores. Raises KeyError of a record without a writer."""
        made: list[Statement] = []
        if books.changed:
            made.append(rows.store_accounts(books.changed.values()))
        if books.postings:
            made.append(rows.store_postings(books.postings, books.now_ms))
        if books.new_holds:
            made.append(rows.store_new_holds(books.new_holds.values(), books.now_ms))
        if books.changed_holds:
            made.append(rows.store_ended_holds(books.changed_holds.values()))
        if books.records:
            made += self._records(books)
        return made

    def _records(self, books: Books) -> Iterable[Statement]:
        by_type: dict[type, list[Any]] = {}
        for record in books.records:
            by_type.setdefault(type(record), []).append(record)
        if answers := by_type.pop(KeptAnswer, None):
            yield rows.store_keys(answers, books.now_ms)
        for kind, write in self.writers.items():
            if records := by_type.pop(kind, None):
                yield write(records)
        if by_type:
            raise KeyError(f"no writer of {sorted(kind.__name__ for kind in by_type)}")


_MARK = (
    "UPDATE ledger_batchers SET batch = %(batch)s, active_ms = %(now)s"
    " WHERE id = %(batcher)s"
)


async def load_and_decide(
    connection: Connection,
    tables: Tables,
    batch: Sequence[Waiting],
    now_ms: int,
    batcher: UUID,
    number: int,
) -> Decided:
    """The first round trip. The transaction is left open, and to be ended.

    Raises:
        ConnectionLost: and the store's other errors; nothing has happened.
    """
    accounts = {account for one in batch for account in one.accounts}
    holds = {id for one in batch for id in one.holds}
    digests = {one.digest for one in batch if one.digest is not None}
    wanted: dict[type, dict[Hashable, None]] = {}
    for one in batch:
        for key in one.reads:
            wanted.setdefault(type(key), {})[key] = None
    mark = {"batch": number, "now": now_ms, "batcher": batcher}
    asked: list[Statement] = [(_MARK, mark), rows.lock_accounts(accounts)]
    if holds:
        asked.append(rows.load_holds(holds))
    if digests:
        asked.append(rows.load_keys(digests))
    readers = {kind: tables.readers[kind] for kind in wanted}
    asked += [readers[kind].statement(list(keys)) for kind, keys in wanted.items()]
    marked, locked, *others = await _trip(connection, "BEGIN", asked)
    if marked.rowcount != 1:  # Pruned: nothing was committed for a week.
        connection.close()
        raise ConnectionLost("The batcher's row is gone")
    loaded = iter([await cursor.fetchall() for cursor in others])
    found_holds = [rows.hold_of(row) for row in next(loaded)] if holds else []
    kept: dict[bytes, KeptAnswer] = {}
    if digests:
        kept = {row[0]: KeptAnswer(*row) for row in next(loaded)}
    found: dict[Hashable, Any] = {}
    for reader, found_rows in zip(readers.values(), loaded, strict=True):
        found.update(reader.found(found_rows))
    books = Books(
        [rows.account_of(row) for row in await locked.fetchall()],
        found_holds,
        now_ms,
        found,
    )
    outcomes = decide_all(books, [one.command for one in batch], kept)
    return Decided(books, outcomes, tables.statements(books))


async def store(connection: Connection, decided: Decided) -> None:
    """The second round trip.

    Raises:
        ConnectionLost: and the store's other errors. While the connection is still in
            its transaction, that was not committed; else nobody knows.
    """
    last = ("COMMIT", None)
    cursors = await _trip(connection, "", [*decided.statements, last])
    assert cursors[-1].statusmessage == "COMMIT"


async def end(connection: Connection) -> None:
    """End a transaction that had nothing to store, and wait for no disk.

    Not by ROLLBACK, after which the driver prepares all statements anew.
    """
    await _trip(connection, "SET LOCAL synchronous_commit TO off", [("COMMIT", None)])


async def roll_back(connection: Connection) -> None:
    """End the transaction that failed. The connection is closed if that fails."""
    if not connection.closed and not connection.idle:
        try:
            await connection.execute("ROLLBACK")
        finally:
            if not connection.idle:
                connection.close()


async def _trip(
    connection: Connection,
    first: str,
    statements: Sequence[tuple[str, Mapping[str, Any] | None]],
) -> list[Cursor]:
    """Send all, wait once. The cursors of `statements`, in their order."""
    async with connection.pipeline() as pipeline:
        if first:
            await connection.execute(first)
        cursors = [await connection.execute(*statement) for statement in statements]
        await pipeline.sync()
    return cursors
