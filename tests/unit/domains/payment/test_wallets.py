"""Wallets: one of a currency, one primary, every change of state as a table."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tchatd.domains.payment.errors import (
    PrimaryStays,
    WalletClosed,
    WalletExists,
    WalletNotEmpty,
    WalletNotFound,
    WalletSuspended,
)
from tchatd.domains.payment.ledger.models import AccountStatus
from tchatd.domains.payment.models import (
    ChangeWallet,
    CloseWallet,
    GetWallet,
    ListWallets,
    OpenWallet,
    Wallet,
    WalletUpdated,
)
from tchatd.kernel.errors import NotForBots
from tchatd.kernel.money import Currency
from tchatd.kernel.routing import KeptReply
from tests.support.ledger import HOUR_MS, answer, keep_back
from tests.support.paying import THB, World

USD = Currency.USD


@pytest.fixture
def world() -> World:
    return World()


async def change(world: World, wallet: Wallet, number: int = 1, **what: Any) -> Wallet:
    command = ChangeWallet(wallet_id=UUID(wallet.id), **what)
    changed: Wallet = await world.ask(
        world.wallets.change, world.context(number), command
    )
    return changed


async def close(world: World, wallet: Wallet, number: int = 1) -> Wallet:
    closed: Wallet = await world.ask(
        world.wallets.close, world.context(number), CloseWallet(UUID(wallet.id))
    )
    return closed


async def listed(world: World, number: int = 1) -> list[Wallet]:
    found: list[Wallet] = await world.ask(
        world.wallets.list, world.context(number), ListWallets()
    )
    return found


async def test_the_first_wallet_is_the_primary_one(world: World) -> None:
    first = await world.open(1)
    second = await world.open(1, currency=USD)

    assert (first.is_primary, second.is_primary) == (True, False)
    assert (first.balance, first.status, first.currency) == (0, "active", THB)
    assert (first.daily_limit, first.monthly_limit) == (10_000_000, 50_000_000)
    assert await listed(world) == [first, second]


async def test_there_is_one_of_each_currency(world: World) -> None:
    await world.open(1)

    with pytest.raises(WalletExists):
        await world.open(1)
    await world.open(2)


async def test_two_at_once_open_one(world: World) -> None:
    commands = [
        await world.known.opening(1, uuid4(), THB, is_asked=True) for _ in range(2)
    ]

    with world.ledger.gathering():
        first, second = (world.ledger.submit(command) for command in commands)

    assert first.error is None
    assert isinstance(second.error, WalletExists)


async def test_a_bot_has_no_wallet(world: World) -> None:
    world.people.change(1, is_payable=False)

    with pytest.raises(NotForBots):
        await world.open(1)


async def test_opening_again_with_the_same_key_tells_of_the_first(world: World) -> None:
    command = OpenWallet(currency=THB)
    await world.ask(world.wallets.open, world.context(1, "k"), command)

    again = await world.ask(world.wallets.open, world.context(1, "k"), command)

    assert type(again) is KeptReply
    assert len(world.wallet_rows.rows) == 1


async def test_another_one_becomes_the_primary_one(world: World) -> None:
    first, second = await world.open(1), await world.open(1, currency=USD)
    third = await world.ask(
        world.wallets.open,
        world.context(1),
        OpenWallet(currency=Currency.SGD, is_primary=True),
    )
    assert third.is_primary

    await change(world, second, is_primary=True)

    assert [(w.id, w.is_primary) for w in await listed(world)] == [
        (second.id, True),
        (first.id, False),
        (third.id, False),
    ]
    with pytest.raises(PrimaryStays):
        await change(world, second, is_primary=False)
    assert (await change(world, first, is_primary=False)).is_primary is False


async def test_closing_the_primary_one_hands_it_on(world: World) -> None:
    first, second = await world.open(1), await world.open(1, currency=USD)

    closed = await close(world, first)

    assert (closed.status, closed.is_primary) == ("closed", False)
    first = (await listed(world))[0]
    assert (first.id, first.is_primary) == (second.id, True)


async def test_a_closed_wallet_makes_room_for_another(world: World) -> None:
    first = await world.open(1)
    await close(world, first)

    second = await world.open(1)

    assert second.id != first.id
    assert second.is_primary
    assert world.known.of_owner(1, THB) == world.facts(second)


async def test_only_an_empty_wallet_is_closed(world: World) -> None:
    wallet = await world.open(1, 100)
    with pytest.raises(WalletNotEmpty):
        await close(world, wallet)

    await world.send(1, wallet, 2, 100)
    assert (await close(world, wallet)).status == "closed"


async def test_what_is_held_is_shown_and_cannot_be_closed_over(world: World) -> None:
    wallet, other = await world.open(1, 100), await world.open(2)
    hold = keep_back(
        world.facts(wallet).account,
        world.facts(other).account,
        30,
        world.clock.now_ms() + HOUR_MS,
    )
    await answer(world.ledger.submit(hold))

    balance = await world.ask(
        world.wallets.balance, world.context(1), GetWallet(UUID(wallet.id))
    )
    [shown] = await listed(world)

    assert (balance.balance, balance.frozen_balance) == (100, 30)
    assert balance.available_balance == 70
    assert (shown.frozen_balance, shown.available_balance) == (30, 70)


async def test_what_was_used_is_of_today_and_this_month(world: World) -> None:
    wallet = await world.open(1, 1_000)
    await world.send(1, wallet, 2, 300)
    [shown] = await listed(world)
    assert (shown.used_today, shown.used_this_month) == (300, 300)

    world.clock.advance(86_400_000)
    [shown] = await listed(world)
    assert (shown.used_today, shown.used_this_month) == (0, 300)

    world.clock.advance(31 * 86_400_000)
    [shown] = await listed(world)
    assert (shown.used_today, shown.used_this_month) == (0, 0)


async def test_somebody_elses_wallet_is_not_there(world: World) -> None:
    wallet = await world.open(1)

    with pytest.raises(WalletNotFound):
        await change(world, wallet, 2, status="suspended")
    with pytest.raises(WalletNotFound):
        await close(world, wallet, 2)
    for id in (UUID(wallet.id), uuid4()):
        with pytest.raises(WalletNotFound):
            await world.ask(world.wallets.get, world.context(2), GetWallet(id))
        with pytest.raises(WalletNotFound):
            await world.ask(world.wallets.balance, world.context(2), GetWallet(id))


# From state to state: who, from, to, and what comes of it.
@pytest.mark.parametrize(
    ("first", "by", "to", "then"),
    [
        ("active", "owner", "active", "active"),
        ("active", "owner", "suspended", "suspended"),
        ("active", "owner", "closed", "closed"),
        ("active", "operator", "suspended", "frozen"),
        ("suspended", "owner", "active", "active"),
        ("suspended", "owner", "suspended", "suspended"),
        ("suspended", "owner", "closed", "closed"),
        ("suspended", "operator", "active", "active"),
        ("suspended", "operator", "suspended", "frozen"),
        ("frozen", "owner", "active", WalletSuspended),
        ("frozen", "owner", "suspended", WalletSuspended),
        ("frozen", "owner", "closed", WalletSuspended),
        ("frozen", "operator", "active", "active"),
        ("frozen", "operator", "closed", "closed"),
        ("closed", "owner", "active", WalletClosed),
        ("closed", "owner", "suspended", WalletClosed),
        ("closed", "owner", "closed", "closed"),
        ("closed", "operator", "active", WalletClosed),
    ],
)
async def test_states_change_as_they_may(
    world: World, first: str, by: Any, to: Any, then: Any
) -> None:
    wallet = await world.open(1)
    facts = world.facts(wallet)

    async def put(by: Any, to: Any) -> None:
        command = world.wallets.command_of(facts, by, to)
        await answer(world.ledger.submit(command))

    if first != "active":
        is_frozen = first == "frozen"
        await put(
            "operator" if is_frozen else "owner", "suspended" if is_frozen else first
        )
    if isinstance(then, type):
        with pytest.raises(then):
            await put(by, to)
        then = first
    else:
        await put(by, to)

    row = world.wallet_rows.rows[facts.id]
    account = world.ledger.stored[facts.account]
    assert row.suspended_by == {"suspended": "owner", "frozen": "operator"}.get(then)
    assert bool(row.closed_ms) == (then == "closed")
    assert (
        account.status
        is {
            "active": AccountStatus.OPEN,
            "suspended": AccountStatus.SUSPENDED,
            "frozen": AccountStatus.SUSPENDED,
            "closed": AccountStatus.CLOSED,
        }[then]
    )


async def test_events_of_a_wallet_are_dense(world: World) -> None:
    first, second = await world.open(1), await world.open(1, currency=USD)
    await change(world, second, is_primary=True)
    await change(world, first, status="suspended")
    await change(world, first, status="active", is_primary=True)
    await change(world, first, status="active")
    await close(world, first)

    for wallet in (first, second):
        versions = [e.version for e in world.events if str(e.aggregate_id) == wallet.id]
        assert versions == list(range(1, len(versions) + 1))
        assert world.wallet_rows.rows[UUID(wallet.id)].version == versions[-1]


async def test_the_owners_devices_are_told(world: World) -> None:
    wallet = await world.open(1, 50)

    await change(world, wallet, status="suspended")

    [event] = world.hub.events_of(1)
    assert isinstance(event, WalletUpdated)
    assert (event.wallet.status, event.wallet.balance) == ("suspended", 50)
