"""The contract of wallets and transactions, in PostgreSQL; two processes at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import pytest
import trio

from tchatd.domains.payment.commands import Open
from tchatd.domains.payment.errors import WalletExists
from tchatd.domains.payment.ledger.models import AccountKind, Opening
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.events import EventDraft
from tchatd.stores.postgres import transactions, wallets
from tchatd.stores.postgres.event_log import append_statement
from tchatd.stores.postgres.partitions import ensure_partitions
from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.transactions import PostgresTransactionStore
from tchatd.stores.postgres.wallets import PostgresWalletStore
from tests.support.ledger import answer
from tests.support.ledgers import Book, differences_in, made, running
from tests.support.payment_stores import THB, PaymentStoresContract

pytestmark = pytest.mark.service


class PostgresStores:
    """users: four that there are."""

    def __init__(self, book: Book, pool: Pool, users: list[tuple[int, UUID]]) -> None:
        tables = book.ledger.tables
        wallets.register(tables)
        transactions.register(tables)
        tables.writers[EventDraft] = append_statement
        self.ledger = book
        self.wallets = PostgresWalletStore(pool)
        self.transactions = PostgresTransactionStore(pool)
        self.users = users


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def users(pool: Pool, clock: ManualClock) -> list[tuple[int, UUID]]:
    await ensure_partitions(pool, "event_log", clock.now_ms())
    rows = await pool.fetch(
        "INSERT INTO users (id, name, country, locale, created_ms, updated_ms,"
        " is_bot, data_key, data_key_id)"
        " SELECT gen_random_uuid(), 'x', 'TH', 'th-TH', 1, 1, true, '', ''"
        " FROM generate_series(1, 4) RETURNING number, id"
    )
    return [(row[0], row[1]) for row in rows]


@pytest.fixture
async def stores(
    database: str, pool: Pool, clock: ManualClock, users: list[tuple[int, UUID]]
) -> AsyncIterator[PostgresStores]:
    async with running(made(database, pool, clock)) as book:
        yield PostgresStores(book, pool, users)
    assert await differences_in(pool) == []


class TestPostgresWallets(PaymentStoresContract):
    pass


async def test_two_processes_open_one_wallet_of_a_currency(
    database: str, pool: Pool, clock: ManualClock, users: list[tuple[int, UUID]]
) -> None:
    """Whoever loses the race decides again, and finds the other's."""
    number, id = users[0]
    async with AsyncExitStack() as stack:
        both = [
            PostgresStores(
                await stack.enter_async_context(running(made(database, pool, clock))),
                pool,
                users,
            )
            for _ in range(2)
        ]
        outcomes: list[str] = []

        async def open(stores: PostgresStores) -> None:
            account = await stores.ledger.open(Opening(THB, AccountKind.WALLET))
            command = Open(
                id=uuid4(),
                event_ids=(uuid4(), uuid4()),
                account=account,
                user_number=number,
                user_id=id,
                currency=THB,
            )
            try:
                await answer(stores.ledger.submit(command))
            except WalletExists:
                outcomes.append("exists")
            else:
                outcomes.append("opened")

        async with trio.open_nursery() as nursery:
            for index in range(10):
                nursery.start_soon(open, both[index % 2])

    assert sorted(outcomes) == ["exists"] * 9 + ["opened"]
    assert len(await PostgresWalletStore(pool).of_user(number)) == 1


async def test_history_is_read_by_its_index(stores: PostgresStores, pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO transactions (id, wallet_id, account, user_number, user_id, type,"
        " status, currency, amount, fee, net_amount, created_ms, processed_ms,"
        " completed_ms, counterpart_number, version, description, metadata)"
        " SELECT gen_random_uuid(), gen_random_uuid(), i % 50, 1, gen_random_uuid(),"
        " i % 3, 2, 764, 1, 0, 1, 1, 1, 1, 0, 1, '', '{}'"
        " FROM generate_series(1, 20000) i"
    )
    await pool.execute("VACUUM ANALYZE transactions")
    asked = {"account": 7, "types": [0, 1, 2], "below": 10**9}
    page = asked | {"most": 20, "limit": 20, "offset": 0}

    for query, values in (
        (transactions._PAGE, page),
        (transactions._COUNT, {"account": 7, "types": [0, 1, 2]}),
    ):
        plan = await pool.fetch(f"EXPLAIN {query}", values)
        text = "\n".join(row[0] for row in plan)
        assert "transactions_history" in text
        assert "Seq Scan" not in text
