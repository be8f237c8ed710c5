"""A ledger that was worked with is clean; each kind of damage is found and named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tchatd.kernel.clock import ManualClock
from tchatd.kernel.money import Currency
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.ledger_verify import CHECKS, Report, verify
from tchatd.stores.postgres.pool import Pool
from tests.support.ledger import (
    WALLET,
    WORLD,
    answer,
    keep_back,
    move,
    outcomes_of,
    post,
    void,
)
from tests.support.ledgers import made, running

pytestmark = pytest.mark.service
WORLD_NUMBER, ALICE, BOB, VND_WORLD, VND_WALLET = range(1, 6)


@pytest.fixture
async def connection(database: str, pool: Pool) -> AsyncIterator[Connection]:
    """To a ledger with something of everything, which may be damaged."""
    clock = ManualClock()
    async with running(made(database, pool, clock)) as book:
        for currency in (Currency.THB, Currency.VND):
            await book.open(msgspec.structs.replace(WORLD, currency=currency))
            for _ in range(2 if currency is Currency.THB else 1):
                await book.open(msgspec.structs.replace(WALLET, currency=currency))
        moves = [
            move(WORLD_NUMBER, ALICE, 1_000),
            move(VND_WORLD, VND_WALLET, 50),
            move(ALICE, BOB, 300),
            move(BOB, ALICE, 50),
        ]
        await outcomes_of([book.submit(command) for command in moves])
        holds = []
        for amount in (10, 20, 30):
            command = keep_back(ALICE, BOB, amount, clock.now_ms() + 1_000)
            hold = await book.hold(await answer(book.submit(command)))
            assert hold is not None
            holds.append(hold)
        await answer(book.submit(post(holds[0], 6)))
        await answer(book.submit(void(holds[1])))
    opened = await Connection.connect(database, statement_timeout_s=0)
    await opened.execute("SET session_replication_role = replica")  # no triggers
    for table in ("accounts", "holds", "postings"):
        await _drop_checks(opened, table)
    yield opened
    opened.close()


async def _drop_checks(connection: Connection, table: str) -> None:
    found = await connection.fetch(
        "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass"
        " AND contype = 'c'",
        (table,),
    )
    for (name,) in found:
        await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")


async def test_a_ledger_that_was_worked_with_is_clean(connection: Connection) -> None:
    report = await verify(connection)

    assert report == Report(
        accounts=5,
        postings=10,
        pending_holds=1,
        totals={"VND": 50, "THB": 1_000},
        differences=[],
        more=[],
    )


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (
            "UPDATE accounts SET balance = balance + 1 WHERE number = 2",
            {"accounts": "account 2", "sums": "currency 764"},
        ),
        (
            "UPDATE accounts SET version = version + 1 WHERE number = 2",
            {"accounts": "account 2"},
        ),
        (
            "UPDATE accounts SET held = held + 1 WHERE number = 2",
            {"held": "account 2"},
        ),
        ("UPDATE accounts SET floor = 5000 WHERE number = 2", {"floors": "account 2"}),
        (
            "UPDATE postings SET balance = balance + 1"
            " WHERE account = 2 AND version = 2",
            {"history": "account 2 version 2"},
        ),
        (
            "UPDATE postings SET version = 9 WHERE account = 2 AND version = 2",
            {"history": "account 2 version 3"},
        ),
        (
            "UPDATE postings SET amount_minor = amount_minor - 1"
            " WHERE account = 2 AND version = 2",
            {"history": "account 2 version 2", "accounts": "account 2"},
        ),
        (
            "DELETE FROM postings WHERE account = 3 AND version = 1",
            {"history": "account 3 version 2", "accounts": "account 3"},
        ),
        (
            "DELETE FROM accounts WHERE number = 5",
            {"accounts": "account 5", "sums": "currency 704"},
        ),
        (
            "UPDATE accounts SET currency = 704 WHERE number = 3",
            {"sums": "currency 704"},
        ),
        (
            "UPDATE holds SET state = 3 WHERE state = 1",
            {"held": "account 2"},
        ),
        ("DELETE FROM holds WHERE state = 1", {"held": "account 2"}),
        (
            "UPDATE holds SET debit = 99 WHERE state = 1",
            {"held": "account 2"},
        ),
    ],
)
async def test_each_kind_of_damage_is_found(
    connection: Connection, damage: str, found: dict[str, str]
) -> None:
    await connection.execute(damage)

    report = await verify(connection)

    named = {(difference.check, difference.what) for difference in report.differences}
    assert named >= set(found.items())


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        # One side of a transfer is gone, or is another's, or there twice.
        ("DELETE FROM postings WHERE account = 3 AND version = 1", "transfers"),
        ("UPDATE postings SET counter = 5 WHERE account = 3", "transfers"),
        ("UPDATE postings SET code = 9 WHERE account = 3 AND version = 1", "transfers"),
        (
            "UPDATE postings SET transfer_id = id FROM holds WHERE state = 1",
            "transfers",
        ),
        (
            "INSERT INTO postings SELECT account, version + 10, created_ms,"
            " amount_minor, balance, counter, transfer_id, code FROM postings"
            " WHERE account = 3 AND version = 1",
            "transfers",
        ),
        ("UPDATE accounts SET currency = 704 WHERE number = 3", "currencies"),
        # A hold that was posted has its posting, of that amount, and for itself.
        ("UPDATE holds SET posted_minor = 7 WHERE state = 2", "holds"),
        ("UPDATE holds SET posted_minor = 60 WHERE state = 2", "holds"),
        ("UPDATE holds SET transfer_id = gen_random_uuid() WHERE state = 2", "holds"),
        ("UPDATE holds SET credit = 5 WHERE state = 2", "holds"),
        ("UPDATE holds SET state = 3 WHERE state = 2", "holds"),
        (
            "UPDATE holds SET state = 2, posted_minor = 6, transfer_id ="
            " (SELECT transfer_id FROM holds WHERE state = 2) WHERE state = 3",
            "holds-once",
        ),
    ],
)
async def test_each_kind_of_damage_to_transfers_and_holds_is_found(
    connection: Connection, damage: str, check: str
) -> None:
    await connection.execute(damage)

    report = await verify(connection)

    assert check in {difference.check for difference in report.differences}


async def test_only_so_many_differences_are_listed(connection: Connection) -> None:
    await connection.execute("UPDATE accounts SET version = version + 1")

    report = await verify(connection, differences_max=2)

    assert [d.what for d in report.differences if d.check == "accounts"] == [
        "account 1",
        "account 2",
    ]
    assert report.more == ["accounts"]


async def test_it_neither_waits_nor_is_in_the_way(
    connection: Connection, pool: Pool
) -> None:
    async with pool.transaction() as other:
        await other.execute("UPDATE accounts SET balance = balance + 1")

        report = await verify(connection)

    assert report.differences == []
    assert connection.idle


def test_every_check_is_explained() -> None:
    text = (Path(__file__).parents[4] / "docs" / "ledger.md").read_text()
    for check in CHECKS:
        assert f"`{check}`" in text
