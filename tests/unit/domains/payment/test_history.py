"""A wallet's history: pages that stay right, filters, totals."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest

from tchatd.domains.payment.errors import TransactionNotFound, WalletNotFound
from tchatd.domains.payment.history import cursor_of, number_of
from tchatd.domains.payment.models import (
    GetTransaction,
    ListTransactions,
    TransactionPage,
    Wallet,
)
from tchatd.kernel.errors import Invalid
from tests.support.paying import World


@pytest.fixture
def world() -> World:
    return World()


async def page(
    world: World, wallet: Wallet, number: int = 1, **asked: Any
) -> TransactionPage:
    found: TransactionPage = await world.ask(
        world.history.page,
        world.context(number),
        ListTransactions(wallet_id=UUID(wallet.id), **asked),
    )
    return found


async def test_pages_go_on_where_the_last_one_ended_whatever_comes_in(
    world: World,
) -> None:
    wallet, other = await world.open(1, 1_000), await world.open(2, 1_000)
    for amount in range(1, 8):
        await world.send(1, wallet, 2, amount)

    seen: list[int] = []
    asked: dict[str, Any] = {}
    while True:
        found = await page(world, wallet, limit=3, **asked)
        seen += [transaction.amount for transaction in found.transactions]
        if not found.has_more:
            break
        asked["cursor"] = found.next_cursor
        await world.send(2, other, 1, 500)

    assert seen == [7, 6, 5, 4, 3, 2, 1]
    newest = await page(world, wallet, limit=2)
    assert [t.type for t in newest.transactions] == ["receive", "receive"]
    assert (newest.total, newest.has_more) == (9, True)


async def test_an_offset_counts_from_the_newest(world: World) -> None:
    wallet = await world.open(1, 1_000)
    for amount in range(1, 5):
        await world.send(1, wallet, 2, amount)

    found = await page(world, wallet, limit=2, offset=2)

    assert [t.amount for t in found.transactions] == [2, 1]
    assert (found.total, found.has_more) == (4, False)
    assert not found.next_cursor


async def test_one_type_alone_with_its_total(world: World) -> None:
    wallet, other = await world.open(1, 1_000), await world.open(2, 1_000)
    for amount in (1, 2):
        await world.send(1, wallet, 2, amount)
        await world.send(2, other, 1, 10 * amount)

    found = await page(world, wallet, type="receive")

    assert [t.amount for t in found.transactions] == [20, 10]
    assert found.total == 2
    assert (await page(world, wallet, type="topup")).transactions == []


async def test_the_balance_of_each_follows_from_the_one_before(world: World) -> None:
    wallet, other = await world.open(1, 1_000), await world.open(2, 1_000)
    await world.send(1, wallet, 2, 300)
    await world.send(2, other, 1, 50)
    await world.send(1, wallet, 2, 7)

    rows = (await page(world, wallet)).transactions

    for newer, older in pairwise(rows):
        assert newer.balance_before == older.balance_after
    assert rows[0].balance_after == world.balance(wallet)


async def test_names_are_those_of_now_and_of_nobody_who_is_gone(world: World) -> None:
    wallet = await world.open(1, 1_000)
    await world.send(1, wallet, 2, 1)
    await world.send(1, wallet, 3, 1)
    world.people.change(2, name="New name")
    del world.people.people[3]

    rows = (await page(world, wallet)).transactions

    assert [row.counterpart.name for row in rows] == ["", "New name"]


async def test_what_is_anothers_is_not_there(world: World) -> None:
    wallet = await world.open(1, 1_000)
    sent = await world.send(1, wallet, 2, 1)

    with pytest.raises(WalletNotFound):
        await page(world, wallet, 2)
    for id in (UUID(sent.id), uuid4()):
        with pytest.raises(TransactionNotFound):
            await world.ask(world.history.status, world.context(3), GetTransaction(id))


@pytest.mark.parametrize("cursor", ["t0", "x1", "t-1", "tzz", "t" + "f" * 17, "7"])
async def test_a_cursor_of_nobodys_is_refused(world: World, cursor: str) -> None:
    with pytest.raises(Invalid):
        await page(world, await world.open(1), cursor=cursor)


async def test_a_cursor_goes_without_an_offset(world: World) -> None:
    with pytest.raises(Invalid):
        await page(world, await world.open(1), cursor="t1", offset=1)


def test_a_cursor_is_read_as_it_is_written() -> None:
    for number in (1, 255, (1 << 63) - 1):
        assert number_of(cursor_of(number)) == number
