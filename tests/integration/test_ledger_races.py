"""Many at once, and two processes' ledgers on one database: nothing is ever wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import UUID

import pytest

from tchatd.domains.payment.ledger.deciding import Replayed
from tchatd.domains.payment.ledger.errors import InsufficientFunds, KeyReused
from tchatd.kernel.clock import SystemClock
from tchatd.stores.postgres.ledger_verify import verify
from tchatd.stores.postgres.pool import Pool
from tests.support.ledger import (
    WALLET,
    WORLD,
    answer,
    keep_back,
    key_of,
    move,
    outcomes_of,
    post,
    void,
)
from tests.support.ledgers import Book, differences_in, made, running

pytestmark = pytest.mark.service


@pytest.fixture
async def ledgers(database: str, pool: Pool) -> AsyncIterator[list[Book]]:
    """Two batchers, as two processes would have them; clean at the end."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                running(made(database, pool, SystemClock(), batch_max=50))
            )
            for _ in range(2)
        ]
    assert await differences_in(pool) == []
    async with pool.connection() as connection:
        assert (await verify(connection)).differences == []


async def funded(book: Book, amount: int, count: int) -> list[int]:
    world = await book.open(WORLD)
    wallets = [await book.open(WALLET) for _ in range(count)]
    await outcomes_of([book.submit(move(world, w, amount)) for w in wallets])
    return wallets


async def test_a_thousand_spends_of_one_balance_spend_it_once(
    ledgers: list[Book],
) -> None:
    payer, payee = await funded(ledgers[0], 300, 2)

    outcomes = await outcomes_of(
        [ledgers[n % 2].submit(move(payer, payee, 1)) for n in range(1_000)]
    )

    assert Counter(type(outcome) for outcome in outcomes) == {
        UUID: 300,
        InsufficientFunds: 700,
    }
    [account] = await ledgers[0].accounts([payer])
    assert account.balance == 0


async def test_transfers_in_a_ring_and_against_each_other(ledgers: list[Book]) -> None:
    """Each ledger locks in the order of numbers, whichever way the money goes."""
    wallets = await funded(ledgers[0], 100, 5)
    dice = random.Random(7)
    commands = []
    for n in range(1_500):
        here = dice.randrange(5)
        step = 1 if n % 3 else -1
        there = wallets[(here + step) % 5]
        commands.append(move(wallets[here], there, dice.randint(1, 40)))

    outcomes = await outcomes_of(
        [ledgers[n % 2].submit(command) for n, command in enumerate(commands)]
    )

    assert {type(outcome) for outcome in outcomes} <= {UUID, InsufficientFunds}
    assert sum(a.balance for a in await ledgers[0].accounts(wallets)) == 500


async def test_one_key_from_a_hundred_tasks_has_one_effect(
    ledgers: list[Book],
) -> None:
    payer, payee = await funded(ledgers[0], 100, 2)

    outcomes = await outcomes_of(
        [ledgers[n % 2].submit(move(payer, payee, 5, key_of("k"))) for n in range(100)]
    )

    [first] = [outcome for outcome in outcomes if isinstance(outcome, UUID)]
    replays = [outcome for outcome in outcomes if outcome is not first]
    assert replays == [Replayed(str(first).encode())] * 99
    [account] = await ledgers[0].accounts([payer])
    assert account.balance == 95


async def test_one_key_for_two_requests_at_once_is_one_request(
    ledgers: list[Book],
) -> None:
    """They touch other accounts, so that nothing but the key is in common."""
    one, other, payee, another = await funded(ledgers[0], 100, 4)

    for n in range(20):
        outcomes = await outcomes_of(
            [
                ledgers[0].submit(move(one, payee, 1, key_of(f"k{n}", "a"))),
                ledgers[1].submit(move(other, another, 1, key_of(f"k{n}", "b"))),
            ]
        )
        kinds = {type(outcome) for outcome in outcomes}
        assert kinds == {UUID, KeyReused}

    accounts = await ledgers[0].accounts([one, other])
    assert sum(account.balance for account in accounts) == 180


async def test_a_hold_is_ended_by_one_of_many(ledgers: list[Book]) -> None:
    payer, payee = await funded(ledgers[0], 100, 2)
    expires_ms = SystemClock().now_ms() + 60_000
    for n in range(10):
        command = keep_back(payer, payee, 8, expires_ms)
        hold = await ledgers[0].hold(await answer(ledgers[0].submit(command)))
        assert hold is not None
        outcomes = await outcomes_of(
            [
                ledgers[m % 2].submit(post(hold, 3) if (n + m) % 3 else void(hold))
                for m in range(6)
            ]
        )
        assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1

    [account] = await ledgers[0].accounts([payer])
    assert account.held == 0
