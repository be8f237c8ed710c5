"""The ledger's rows beside its batches; its schema's own defences."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio

from tchatd.domains.payment.ledger.models import AccountKind, Opening
from tchatd.kernel.clock import ManualClock
from tchatd.stores.postgres.errors import CheckViolation, QueryRefused
from tchatd.stores.postgres.ledger_store import (
    BATCHER_MS_MAX,
    PostgresLedgerStore,
    open_statement,
)
from tchatd.stores.postgres.partitions import month_of
from tchatd.stores.postgres.pool import Pool
from tests.support.ledger import THB, WALLET, WORLD, answer, key_of, move
from tests.support.ledgers import made, running

pytestmark = pytest.mark.service


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(pool: Pool, clock: ManualClock) -> PostgresLedgerStore:
    return PostgresLedgerStore(pool, clock)


async def test_many_at_once_open_one_account_of_a_name(
    store: PostgresLedgerStore,
) -> None:
    numbers: set[int] = set()

    async def open_it() -> None:
        numbers.add(await store.open(Opening(THB, AccountKind.FEES, name="fees")))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(open_it)

    assert len(numbers) == 1


async def test_an_account_is_opened_in_the_transaction_of_what_it_is_for(
    store: PostgresLedgerStore, pool: Pool
) -> None:
    sql, parameters = open_statement(WALLET, 5)

    async with pool.transaction() as connection:
        number = await connection.fetch_value(
            f"WITH a AS ({sql}) SELECT number FROM a", parameters
        )

    [account] = await store.accounts([number])
    assert (account.kind, account.floor, account.balance) == (AccountKind.WALLET, 0, 0)
    with pytest.raises(AssertionError):
        open_statement(WORLD, 5)


async def test_keys_are_forgotten_by_months_and_postings_are_not(
    database: str, pool: Pool, store: PostgresLedgerStore, clock: ManualClock
) -> None:
    async with running(made(database, pool, clock)) as book:
        world, wallet = await book.open(WORLD), await book.open(WALLET)
        await answer(book.submit(move(world, wallet, 1, key_of("old"))))
        first = month_of(clock.now_ms())
        clock.advance(70 * 86_400_000)
        await answer(book.submit(move(world, wallet, 1, key_of("new"))))

        dropped = await store.drop_keys(clock.now_ms() - 31 * 86_400_000)

        assert f"ledger_keys_{first.year}_{first.month:02}" in dropped
        assert await pool.fetch_value("SELECT count(*) FROM ledger_keys") == 1
        assert await pool.fetch_value("SELECT count(*) FROM postings") == 4
        await answer(book.submit(move(world, wallet, 1, key_of("old"))))
    assert await store.drop_keys(0) == []


async def test_partitions_are_made_once(store: PostgresLedgerStore) -> None:
    now_ms = 1_900_000_000_000

    made = await store.ensure_partitions(now_ms)

    assert "postings_2030_03" in made
    assert "ledger_keys_2030_03" in made
    assert await store.ensure_partitions(now_ms) == []


async def test_batchers_that_are_gone_are_forgotten(
    store: PostgresLedgerStore, pool: Pool, clock: ManualClock
) -> None:
    now_ms = clock.now_ms()
    for active_ms in (now_ms - BATCHER_MS_MAX - 1, now_ms - BATCHER_MS_MAX):
        await pool.execute(
            "INSERT INTO ledger_batchers VALUES (%s, 1, %s)", (uuid4(), active_ms)
        )

    assert await store.prune_batchers() == 1
    assert await store.prune_batchers() == 0


async def test_a_posting_is_neither_changed_nor_deleted(
    database: str, pool: Pool, clock: ManualClock
) -> None:
    async with running(made(database, pool, clock)) as book:
        world, wallet = await book.open(WORLD), await book.open(WALLET)
        await answer(book.submit(move(world, wallet, 1)))
    for statement in ("UPDATE postings SET code = 9", "DELETE FROM postings"):
        with pytest.raises(QueryRefused, match="never changed"):
            await pool.execute(statement)


async def test_a_hold_that_has_ended_is_not_changed(pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO holds (id, debit, credit, amount_minor, expires_ms, created_ms,"
        " code, state) VALUES (%s, 1, 2, 5, 0, 0, 0, 3)",
        (uuid4(),),
    )
    for statement in ("UPDATE holds SET state = 1", "DELETE FROM holds"):
        with pytest.raises(QueryRefused, match="never changed"):
            await pool.execute(statement)


async def test_the_schema_lets_nothing_below_a_floor(
    store: PostgresLedgerStore, pool: Pool
) -> None:
    await store.open(WALLET)
    for change in ("balance = -1", "held = 1", "held = -1", "version = -1"):
        with pytest.raises(CheckViolation):
            await pool.execute(f"UPDATE accounts SET {change}")
