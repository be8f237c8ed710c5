"""Transactions in memory beyond the contract (test_wallets.py)."""

from __future__ import annotations

import pytest

from tests.support.paying import World, command_of


async def test_an_id_is_given_once() -> None:
    world = World()
    wallet, theirs = await world.open(1, 100), await world.open(2)
    command = command_of(world, wallet, theirs, 1)
    world.ledger.submit(command)

    with pytest.raises(AssertionError):
        world.ledger.submit(command)
