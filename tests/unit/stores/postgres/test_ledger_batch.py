"""What a batch stores and reads beside accounts; and who fails when it cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import pytest

from tchatd.domains.payment.ledger.books import Books
from tchatd.domains.payment.ledger.deciding import KeptAnswer
from tchatd.kernel.clock import ManualClock
from tchatd.stores.postgres.errors import ConstraintViolation, UniqueViolation
from tchatd.stores.postgres.pool import Pool
from tests.support.ledger import (
    WALLET,
    WORLD,
    Do,
    answer,
    key_of,
    move,
    outcomes_of,
)
from tests.support.ledgers import (
    CREATE_NOTES,
    READ_NOTES,
    Book,
    Note,
    NoteKey,
    differences_in,
    made,
    note,
    running,
    write_notes,
)
from tests.support.postgres import until_running

pytestmark = pytest.mark.service


@pytest.fixture
async def ledger(database: str, pool: Pool) -> AsyncIterator[Book]:
    async with running(made(database, pool, ManualClock())) as book:
        yield book
    assert await differences_in(pool) == []


@pytest.fixture
async def wallet(ledger: Book) -> tuple[int, int]:
    """The world, and an empty wallet."""
    return await ledger.open(WORLD), await ledger.open(WALLET)


@pytest.fixture
async def notes(ledger: Book, pool: Pool) -> list[Sequence[Any]]:
    """What is told after a commit."""
    await pool.execute(CREATE_NOTES)
    ledger.ledger.tables.writers[Note] = write_notes
    ledger.ledger.tables.readers[NoteKey] = READ_NOTES
    told: list[Sequence[Any]] = []
    ledger.ledger.on_committed.append(told.append)
    return told


async def test_records_are_stored_with_the_batch_and_told_after_it(
    ledger: Book, pool: Pool, notes: list[Sequence[Any]], wallet: tuple[int, int]
) -> None:
    assert await answer(ledger.submit(note(7, key=key_of("k")))) is None

    assert [type(record) for record in notes[0]] == [Note, KeptAnswer]
    assert await pool.fetch_value("SELECT number FROM notes") == 7


async def test_a_row_that_another_had_first_is_read_again(
    ledger: Book, pool: Pool, notes: list[Sequence[Any]], wallet: tuple[int, int]
) -> None:
    """A unique violation: on the new books the command finds what is there."""
    key = NoteKey(5)
    tries: list[Any] = []

    def run(books: Books) -> str:
        tries.append(books.found(key))
        if books.found(key) is None:
            books.write(Note(5))
            return "made"
        return "found"

    async with pool.transaction() as other, pool.connection() as watcher:
        await other.execute("INSERT INTO notes VALUES (5)")
        waiting = ledger.submit(Do(run, reads=(key,)))
        await until_running(watcher, "INSERT INTO notes")

    assert await answer(waiting) == "found"
    assert tries == [None, 5]


async def test_a_command_that_breaks_a_constraint_fails_alone(
    ledger: Book, pool: Pool, notes: list[Sequence[Any]], wallet: tuple[int, int]
) -> None:
    commands = [move(*wallet, 1) for _ in range(20)]
    commands[13] = note(100)

    outcomes = await outcomes_of([ledger.submit(command) for command in commands])

    failed = outcomes.pop(13)
    assert isinstance(failed, ConstraintViolation)
    assert all(isinstance(one, UUID) for one in outcomes)
    [account] = await ledger.accounts(wallet[1:])
    assert account.balance == 19


async def test_an_id_used_twice_fails_alone(
    ledger: Book, pool: Pool, notes: list[Sequence[Any]], wallet: tuple[int, int]
) -> None:

    def run(books: Books) -> None:
        books.write(Note(1))

    commands = [move(*wallet, 1) for _ in range(5)]
    outcomes = await outcomes_of(
        [ledger.submit(command) for command in (*commands, Do(run), Do(run))]
    )

    assert [type(one) for one in outcomes] == [UUID] * 5 + [type(None), UniqueViolation]


@pytest.mark.parametrize(
    "wrong",
    [
        Do(lambda books: None, accounts=(2**70,)),
        Do(lambda books: None, reads=("no reader",)),
        Do(lambda books: books.write("no writer")),
        Do(lambda books: books.write(Note("x"))),  # type: ignore[arg-type]
    ],
)
async def test_a_mistake_of_ours_fails_alone(
    ledger: Book, notes: list[Sequence[Any]], wallet: tuple[int, int], wrong: Do
) -> None:
    commands = [move(*wallet, 1), wrong, move(*wallet, 1)]

    first, failed, last = await outcomes_of(
        [ledger.submit(command) for command in commands]
    )

    assert isinstance(failed, Exception)
    assert isinstance(first, UUID)
    assert isinstance(last, UUID)
