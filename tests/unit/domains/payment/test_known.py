"""What is remembered of wallets."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from msgspec import structs

from tchatd.domains.payment.errors import WalletNotFound
from tests.support.messaging import user_id
from tests.support.paying import THB, World


@pytest.fixture
def world() -> World:
    return World()


async def test_a_wallet_is_loaded_once(world: World) -> None:
    wallet = await world.open(1)
    facts = world.facts(wallet)
    world.known.__init__(  # type: ignore[misc]  # a process that has just begun
        world.wallet_rows,
        world.ledger,
        world.ledger,
        world.known._settle,
        world.ids,
        10,
    )
    assert world.known.by_id(facts.id) is None

    assert await world.known.load(UUID(wallet.id)) == facts

    assert world.known.by_id(facts.id) == facts
    assert world.known.of_owner(1, THB) == facts


async def test_what_is_not_there_is_not_learned(world: World) -> None:
    with pytest.raises(WalletNotFound):
        await world.known.load(uuid4())


async def test_an_older_wallet_does_not_take_the_place_of_a_newer_one(
    world: World,
) -> None:
    facts = world.facts(await world.open(1))
    row = world.wallet_rows.rows[facts.id]

    world.known.learn(structs.replace(row, id=uuid4(), account=facts.account - 1))

    assert world.known.of_owner(1, THB) == facts


async def test_a_persons_wallet_is_found_or_opened(world: World) -> None:
    opened = await world.known.of_person(7, user_id(7), THB)
    world.known.forget(opened)
    assert world.known.of_owner(7, THB) is None

    assert await world.known.of_person(7, user_id(7), THB) == opened
    assert len(world.wallet_rows.rows) == 1


async def test_two_who_pay_at_once_open_one(world: World) -> None:
    commands = [
        await world.known.opening(7, user_id(7), THB, is_asked=False) for _ in range(2)
    ]

    with world.ledger.gathering():
        first, second = (world.ledger.submit(command) for command in commands)

    assert first.result().row == second.result().row
