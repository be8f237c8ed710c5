"""Connections cut and servers killed at every moment: each command happens once.

A command with a key is asked again until its answer is definite, as a client does. At
the end of each case it has had exactly one effect, and the ledger adds up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from tchatd.domains.payment.ledger.deciding import Command, Replayed
from tchatd.domains.payment.ledger.errors import InDoubt
from tchatd.kernel.clock import SystemClock
from tchatd.kernel.errors import Unavailable
from tchatd.stores.postgres import migrations
from tchatd.stores.postgres.ledger_store import PostgresLedgerStore
from tchatd.stores.postgres.ledger_verify import verify
from tchatd.stores.postgres.pool import Pool
from tests.support.cutting import cutting
from tests.support.ledger import (
    WALLET,
    WORLD,
    answer,
    keep_back,
    key_of,
    move,
    outcome_of,
    outcomes_of,
    post,
)
from tests.support.ledgers import Book, connecting, differences_in, made, running
from tests.support.postgres import kill, open_folder, own_server

pytestmark = [pytest.mark.service, pytest.mark.slow]
EVENTS_MAX = 60
"""More than a case has; the counter goes on until nothing was cut."""
LIMITS: dict[str, Any] = {"trip_s": 5.0, "retry_s": 5.0, "in_doubt_s": 5.0}


async def until_definite(book: Book, command: Command) -> Any:
    """Ask with the same key until it is known what became of it."""
    while True:
        outcome = await outcome_of(book.submit(command))
        if not isinstance(outcome, (InDoubt, Unavailable)):
            return outcome
        await trio.sleep(0.02)


async def check(pool: Pool) -> None:
    assert await differences_in(pool) == []
    async with pool.connection() as connection:
        assert (await verify(connection)).differences == []


@pytest.mark.parametrize("passes", [False, True])
async def test_a_connection_cut_at_any_moment_loses_and_doubles_nothing(
    database: str, pool: Pool, passes: bool
) -> None:
    """passes: the piece at which it was cut was still passed on, its answer was not."""
    clock = SystemClock()
    store = PostgresLedgerStore(pool, clock)
    await store.ensure_partitions(clock.now_ms())
    world = await store.open(WORLD)
    at, was_cut, doubts = 0, True, 0
    while was_cut:
        assert at < EVENTS_MAX
        wallet, payee = await store.open(WALLET), await store.open(WALLET)
        async with cutting(database, at, passes=passes) as (proxy, dsn):
            book = made(dsn, pool, clock, connecting(dsn), **LIMITS)
            async with running(book):
                doubts += await _one_case(book, at, world, wallet, payee)
            was_cut = proxy.was_cut
        one, other = await store.accounts([wallet, payee])
        assert (one.balance, one.held, other.balance) == (25, 0, 5), at
        assert (one.version, other.version) == (3, 1), at
        at += 1
    assert doubts == 0, "whoever can ask finds out"
    await check(pool)


async def _one_case(book: Book, at: int, world: int, wallet: int, payee: int) -> int:
    """A batch of two, a hold and its posting in part; how many were in doubt."""
    keys = [key_of(f"{at} {n}") for n in range(3)]
    outcomes = await outcomes_of(
        [book.submit(move(world, wallet, 15, key)) for key in keys[:2]]
    )
    hold_command = keep_back(wallet, payee, 9, SystemClock().now_ms() + 60_000)
    held = await outcome_of(book.submit(hold_command))
    assert isinstance(held, UUID), held
    hold = await book.hold(held)
    assert hold is not None
    outcomes.append(await outcome_of(book.submit(post(hold, 5, keys[2]))))
    again = await outcome_of(book.submit(move(world, wallet, 15, keys[0])))
    assert again == Replayed(str(outcomes[0]).encode())
    return sum(isinstance(outcome, InDoubt) for outcome in outcomes)


async def test_two_ledgers_whose_connections_are_cut_again_and_again(
    database: str, pool: Pool
) -> None:
    clock = SystemClock()
    store = PostgresLedgerStore(pool, clock)
    await store.ensure_partitions(clock.now_ms())
    world = await store.open(WORLD)
    wallets = [await store.open(WALLET) for _ in range(4)]
    books = [made(database, pool, clock, **LIMITS) for _ in range(2)]
    async with trio.open_nursery() as nursery:
        for book in books:
            await nursery.start(book.ledger.run)
        nursery.start_soon(_cut_backends, pool)
        await _many_transfers(books, world, wallets, tasks=20, each=40)
        for book in books:
            book.ledger.close()
        nursery.cancel_scope.cancel()
    await check(pool)
    balances = [account.balance for account in await store.accounts(wallets)]
    assert sum(balances) == 20 * 40


async def _cut_backends(pool: Pool) -> None:
    """The server ends whoever has a transaction open, wherever that is."""
    while True:
        await trio.sleep(0.03)
        await pool.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND xact_start IS NOT NULL AND query NOT LIKE 'SELECT pg_term%%'"
        )


async def _many_transfers(
    books: Sequence[Book], world: int, wallets: list[int], tasks: int, each: int
) -> None:
    """Every unit that comes in does so by a key of its own, asked until definite, by
    whichever ledger; meanwhile they are passed round without keys."""

    async def one(task: int) -> None:
        for n in range(each):
            wallet = wallets[(task + n) % len(wallets)]
            command = move(world, wallet, 1, key_of(f"{task} {n}"))
            outcome = await until_definite(books[n % len(books)], command)
            assert isinstance(outcome, (UUID, Replayed)), outcome
            there = wallets[(task + n + 1) % len(wallets)]
            await outcome_of(books[task % len(books)].submit(move(wallet, there, 1)))

    async with trio.open_nursery() as nursery:
        for task in range(tasks):
            nursery.start_soon(one, task)


async def test_a_server_killed_and_restarted_under_load_loses_and_doubles_nothing() -> (
    None
):
    clock = SystemClock()
    with open_folder() as folder:
        async with own_server(Path(folder) / "postgres") as server:
            await migrations.apply(server.dsn)
            pool = Pool(server.dsn, size=4)
            store = PostgresLedgerStore(pool, clock)
            await store.ensure_partitions(clock.now_ms())
            world = await store.open(WORLD)
            wallets = [await store.open(WALLET) for _ in range(4)]
            book = made(server.dsn, pool, clock, trip_s=5, retry_s=1, in_doubt_s=1)
            async with running(book):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_many_transfers, [book], world, wallets, 20, 60)
                    for _ in range(3):
                        await trio.sleep(0.3)
                        kill(server.statistics().pid)
                await answer(book.submit(move(world, wallets[0], 1)))
            await check(pool)
            accounts = await store.accounts(wallets)
            assert sum(account.balance for account in accounts) == 20 * 60 + 1
            await pool.aclose()
