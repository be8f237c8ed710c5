"""A payment's message: once, tried again while it may, noted when it is refused."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tchatd.domains.payment.announcing import PaymentShown
from tchatd.domains.payment.errors import DialogNotFound
from tchatd.domains.payment.models import GetTransaction, Transaction
from tchatd.kernel.errors import DomainError, RateLimited, Unavailable
from tchatd.kernel.sagas import RetryLater, StepContext
from tests.support.paying import DIALOG, World


@pytest.fixture
def world() -> World:
    return World()


async def begun(world: World, **more: Any) -> tuple[Transaction, PaymentShown]:
    wallet = await world.open(1, 1_000)
    sent = await world.send(1, wallet, 2, 250, dialog_id=DIALOG, **more)
    [begun] = world.sagas_begun
    return sent, world.announcing.saga.decoded(begun.data)


def context(world: World) -> StepContext:
    [row] = [begun.row() for begun in world.sagas_begun]
    saga = world.announcing.saga
    return StepContext(row, saga, saga.steps[0], world.clock.now_ms())


async def both_sides(world: World, id: str) -> list[Transaction]:
    return [
        await world.ask(
            world.history.status, world.context(number), GetTransaction(UUID(id))
        )
        for number in (1, 2)
    ]


async def test_the_message_says_what_was_paid_and_which_transaction_it_is(
    world: World,
) -> None:
    sent, data = await begun(world, description="ชา")

    await world.announcing.post(context(world), data)

    assert list(world.dialogs.posted.values()) == [
        {
            "amount": 250,
            "currency": "THB",
            "transaction_id": sent.id,
            "description": "ชา",
        }
    ]


async def test_a_step_that_is_run_again_says_it_once(world: World) -> None:
    _, data = await begun(world)

    for _ in range(3):
        assert await world.announcing.post(context(world), data) == data

    assert list(world.dialogs.posted) == [data.client_id]


@pytest.mark.parametrize("refusal", [Unavailable(), RateLimited(retry_after_s=7)])
async def test_it_waits_for_what_passes(world: World, refusal: DomainError) -> None:
    _, data = await begun(world)
    world.dialogs.refusing = refusal

    with pytest.raises(RetryLater) as later:
        await world.announcing.post(context(world), data)

    assert later.value.delay_s == refusal.retry_after_s


async def test_what_the_dialog_refuses_is_noted_and_the_money_stays_sent(
    world: World,
) -> None:
    sent, data = await begun(world)
    world.dialogs.refusing = DialogNotFound()

    await world.announcing.post(context(world), data)

    for side in await both_sides(world, sent.id):
        assert side.status == "completed"
        assert side.metadata == {
            "dialog_id": DIALOG,
            "message_refused": "dialog-not-found",
        }


async def test_what_was_given_up_is_noted_too(world: World) -> None:
    sent, data = await begun(world)

    await world.announcing.give_up(context(world), data)

    for side in await both_sides(world, sent.id):
        assert side.metadata["message_refused"] == "given-up"
