"""Decisions on the books: all or nothing, dense versions, states."""

from __future__ import annotations

from typing import Any, get_args
from uuid import UUID, uuid4

import msgspec
import pytest
from msgspec import structs

from tchatd.domains.payment.commands import Move, code_of
from tchatd.domains.payment.errors import WrongState
from tchatd.domains.payment.ledger.errors import InsufficientFunds
from tchatd.domains.payment.ledger.models import CODE_MAX
from tchatd.domains.payment.models import (
    TransactionStatus,
    TransactionType,
    fee_transfer,
    other_side,
)
from tests.support.paying import World, command_of

STATUSES: tuple[TransactionStatus, ...] = get_args(TransactionStatus)


@pytest.fixture
def world() -> World:
    return World()


async def test_payments_of_one_batch_see_each_other(world: World) -> None:
    """100 for two of three payments of 50 at once."""
    wallet, theirs = await world.open(1, 100), await world.open(2)
    commands = [command_of(world, wallet, theirs, 50) for _ in range(3)]

    with world.ledger.gathering():
        answers = [world.ledger.submit(command) for command in commands]

    assert [answer.error is None for answer in answers] == [True, True, False]
    assert isinstance(answers[2].error, InsufficientFunds)
    befores = [n.row.balance_before for n in world.transactions.rows.values()]
    assert befores == [100, 0, 50, 50]
    world.check()


async def test_what_is_refused_writes_nothing(world: World) -> None:
    wallet, theirs = await world.open(1, 100), await world.open(2)
    events = len(world.events)

    refused = world.ledger.submit(command_of(world, wallet, theirs, 101))

    assert isinstance(refused.error, InsufficientFunds)
    assert not world.transactions.rows
    assert len(world.events) == events
    assert world.ledger.stored[world.facts(wallet).account].day_count == 0


async def test_a_fee_that_is_not_covered_undoes_the_payment(world: World) -> None:
    wallet, theirs = await world.open(1, 100), await world.open(2)
    fees = world.sending.fees_accounts[world.facts(wallet).currency]
    command = command_of(world, wallet, theirs, 100)

    refused = world.ledger.submit(structs.replace(command, fee=1, fees_account=fees))

    assert isinstance(refused.error, InsufficientFunds)
    assert world.balance(wallet) == 100
    world.check()


async def test_the_transfers_have_the_ids_and_codes_of_the_transaction(
    world: World,
) -> None:
    wallet, theirs = await world.open(1, 200), await world.open(2)
    fees = world.sending.fees_accounts[world.facts(wallet).currency]
    command = structs.replace(
        command_of(world, wallet, theirs, 100), fee=3, fees_account=fees
    )
    funded = len(world.ledger.log)

    world.ledger.submit(command)

    found = [(at.posting.transfer_id, at.posting.code) for at in world.ledger.log]
    assert found[funded::2] == [
        (command.id, code_of("send")),
        (fee_transfer(command.id), code_of("fee")),
    ]


def test_codes_are_distinct_and_fit() -> None:
    codes = [code_of(type) for type in get_args(TransactionType)]

    assert len(set(codes)) == len(codes)
    assert all(1 <= code <= CODE_MAX for code in codes)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("to", STATUSES)
async def test_a_transaction_moves_on_or_is_refused(
    world: World, status: TransactionStatus, to: TransactionStatus
) -> None:
    allowed = {
        "pending": {"processing", "cancelled", "expired"},
        "processing": {"completed", "failed", "cancelled"},
    }
    wallet, theirs = await world.open(1, 100), await world.open(2)
    sent = world.ledger.submit(command_of(world, wallet, theirs, 1)).result().send
    numbered = world.transactions.rows[sent.id]
    world.transactions.rows[sent.id] = structs.replace(
        numbered, row=structs.replace(sent, status=status, completed_ms=0)
    )
    events = len(world.events)
    account = world.facts(wallet).account

    moved = world.ledger.submit(
        Move(id=sent.id, account=account, event_id=uuid4(), to=to)
    )

    now = world.transactions.rows[sent.id].row
    if to in allowed.get(status, ()):
        assert moved.result() == now
        assert (now.status, now.version) == (to, 2)
        assert (now.completed_ms > 0) == (to != "processing")
        assert world.events[-1].type == f"transaction.{to}"
        assert world.events[-1].version == 2
    else:
        assert isinstance(moved.error, WrongState)
        assert now.status == status
        assert len(world.events) == events


async def test_two_moves_of_one_batch_are_decided_one_after_the_other(
    world: World,
) -> None:
    wallet, theirs = await world.open(1, 100), await world.open(2)
    sent = world.ledger.submit(command_of(world, wallet, theirs, 1)).result().send
    numbered = world.transactions.rows[sent.id]
    world.transactions.rows[sent.id] = structs.replace(
        numbered, row=structs.replace(sent, status="processing")
    )
    account = world.facts(wallet).account

    with world.ledger.gathering():
        first, second = (
            world.ledger.submit(
                Move(id=sent.id, account=account, event_id=uuid4(), to=to)
            )
            for to in ("completed", "failed")
        )

    assert first.result().status == "completed"
    assert isinstance(second.error, WrongState)


async def test_data_of_an_event_is_of_what_it_says(world: World) -> None:
    wallet, theirs = await world.open(1, 100), await world.open(2)
    world.ledger.submit(command_of(world, wallet, theirs, 7))

    data: Any = msgspec.json.decode(world.events[-1].data)

    assert data["wallet_id"] == theirs.id
    assert UUID(data["user_id"]) == world.facts(theirs).user_id
    assert (data["amount"], data["currency"], data["account_version"]) == (7, "THB", 1)


async def test_sides_of_different_payments_never_meet(world: World) -> None:
    ids = [world.ids.v7() for _ in range(1_000)]
    others = {f(id) for id in ids for f in (other_side, fee_transfer)}

    assert len(others | set(ids)) == 3_000
    assert all(other_side(other_side(id)) == id for id in ids)
