"""The contract of the ledger, in memory; and its batches, as a test makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from tchatd.domains.payment.ledger.books import Books
from tchatd.domains.payment.ledger.deciding import KeptAnswer, Replayed
from tchatd.kernel.clock import ManualClock
from tchatd.stores.memory.ledger import MemoryLedger
from tests.support.ledger import (
    WALLET,
    WORLD,
    Do,
    LedgerContract,
    differences,
    key_of,
    move,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(clock: ManualClock) -> MemoryLedger:
    return MemoryLedger(clock)


class TestMemoryLedger(LedgerContract):
    pass


class Note(msgspec.Struct, frozen=True):
    text: str


class NoteKey(msgspec.Struct, frozen=True):
    text: str


def test_a_batch_is_answered_when_it_ends(ledger: MemoryLedger) -> None:
    world, wallet = ledger.open_now(WORLD), ledger.open_now(WALLET)

    with ledger.gathering():
        first = ledger.submit(move(world, wallet, 5, key_of("k")))
        again = ledger.submit(move(world, wallet, 5, key_of("k")))
        assert not first.done

    assert again.result() == Replayed(str(first.result()).encode())
    assert ledger.stored[wallet].balance == 5
    postings = [at.posting for at in ledger.log]
    assert not differences(ledger.stored.values(), ledger.holds.values(), postings)


def test_records_are_written_and_rows_are_found_by_their_types(
    ledger: MemoryLedger,
) -> None:
    notes: dict[str, str] = {}
    told: list[Sequence[Any]] = []

    def write(records: list[Note]) -> None:
        notes.update((note.text, note.text) for note in records)

    def read(keys: list[NoteKey]) -> dict[NoteKey, str]:
        return {key: notes[key.text] for key in keys if key.text in notes}

    ledger.writers[Note] = write
    ledger.readers[NoteKey] = read
    ledger.on_committed.append(told.append)
    key = NoteKey("a")

    def run(books: Books) -> Any:
        found = books.found(key)
        books.write(Note("a"))
        books.put(key, "put")
        return found

    command = Do(run, reads=(key,), key=key_of("k"))
    assert ledger.submit(command).result() is None
    assert [type(record) for record in told[0]] == [Note, KeptAnswer]
    with ledger.gathering():
        first, second = (ledger.submit(Do(run, reads=(key,))) for _ in range(2))
    assert (first.result(), second.result()) == ("a", "put")
