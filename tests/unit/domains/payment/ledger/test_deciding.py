"""A batch: every command once, all or nothing, each with its own answer."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tchatd.domains.payment.ledger.books import Books
from tchatd.domains.payment.ledger.deciding import (
    KeptAnswer,
    Key,
    Outcome,
    Replayed,
    decide_all,
)
from tchatd.domains.payment.ledger.errors import InsufficientFunds, KeyReused
from tchatd.domains.payment.ledger.models import Account, AccountKind, Transfer
from tchatd.kernel.errors import Unavailable
from tests.support.ledger import THB, Do, key_of, move

WORLD, ALICE, BOB = 1, 2, 3


@pytest.fixture
def books() -> Books:
    return Books(
        [
            Account(WORLD, THB, AccountKind.WORLD, floor=None, balance=-100, version=1),
            Account(ALICE, THB, AccountKind.WALLET, balance=100, version=1),
            Account(BOB, THB, AccountKind.WALLET),
        ],
        [],
        now_ms=1_000,
    )


def balances(books: Books) -> list[int]:
    return [books.account(number).balance for number in (WORLD, ALICE, BOB)]


def test_each_command_has_its_outcome_in_order(books: Books) -> None:
    first, refused, last = decide_all(
        books, [move(ALICE, BOB, 60), move(ALICE, BOB, 60), move(ALICE, BOB, 40)], {}
    )

    assert isinstance(first.value, UUID)
    assert isinstance(refused.error, InsufficientFunds)
    assert last.error is None
    assert balances(books) == [-100, 0, 100]
    assert [p.version for p in books.postings if p.account == ALICE] == [2, 3]


def test_a_repeat_within_the_batch_gets_the_first_answer(books: Books) -> None:
    kept: dict[bytes, KeptAnswer] = {}
    command = move(ALICE, BOB, 60, key_of("k"))

    first, again = decide_all(books, [command, command], kept)

    assert again == Outcome(Replayed(str(first.value).encode()))
    assert balances(books) == [-100, 40, 60]
    assert books.records == list(kept.values())


def test_a_key_known_before_has_no_effect_at_all(books: Books) -> None:
    key = key_of("k")
    kept = {key.digest: KeptAnswer(key.digest, key.fingerprint, b"before")}

    [again] = decide_all(books, [move(ALICE, BOB, 60, key)], kept)

    assert again == Outcome(Replayed(b"before"))
    assert (books.postings, books.records, books.changed) == ([], [], {})


def test_a_key_with_another_body_is_refused_and_the_first_answer_stays(
    books: Books,
) -> None:
    commands = [
        move(ALICE, BOB, 60, key_of("k")),
        move(ALICE, BOB, 10, key_of("k", "other")),
    ]

    _, reused = decide_all(books, commands, {})

    assert isinstance(reused.error, KeyReused)
    assert len(books.records) == 1
    assert balances(books) == [-100, 40, 60]


def test_a_refusal_is_the_answer_of_its_key(books: Books) -> None:
    key = key_of("k")
    commands = [move(ALICE, BOB, 101, key), move(ALICE, BOB, 101, key)]

    refused, again = decide_all(books, commands, {})

    assert isinstance(refused.error, InsufficientFunds)
    assert again == Outcome(Replayed(b"insufficient-funds"))
    assert books.postings == []


def test_being_asked_to_try_again_is_no_answer_of_a_key(books: Books) -> None:
    def busy(books: Books) -> None:
        books.transfer(Transfer(uuid4(), ALICE, BOB, 1))
        raise Unavailable

    key = key_of("k")
    [later, done] = decide_all(
        books, [Do(busy, (ALICE, BOB), key=key), move(ALICE, BOB, 5, key)], {}
    )

    assert isinstance(later.error, Unavailable)
    assert isinstance(done.value, UUID)
    assert balances(books) == [-100, 95, 5]


def test_a_mistake_in_a_command_undoes_that_command_alone(books: Books) -> None:
    def stumble(books: Books) -> None:
        books.transfer(Transfer(uuid4(), ALICE, BOB, 50))
        books.write("a record")
        raise LookupError("ours")

    key = key_of("k")
    first, wrong, last = decide_all(
        books,
        [
            move(ALICE, BOB, 1),
            Do(stumble, (ALICE, BOB), key=key),
            move(ALICE, BOB, 1, key),
        ],
        {},
    )

    assert isinstance(wrong.error, LookupError)
    assert isinstance(first.value, UUID)
    assert isinstance(last.value, UUID)
    assert balances(books) == [-100, 98, 2]
    assert "a record" not in books.records


def test_an_answer_that_cannot_be_encoded_undoes_its_command(books: Books) -> None:
    def fail(said: Any) -> bytes:
        raise TypeError

    kept: dict[bytes, KeptAnswer] = {}
    [wrong] = decide_all(
        books, [move(ALICE, BOB, 60, Key(bytes(32), bytes(32), fail))], kept
    )

    assert isinstance(wrong.error, TypeError)
    assert (balances(books), kept, books.records) == ([-100, 100, 0], {}, [])
