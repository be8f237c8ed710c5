"""Sending money: both sides, refusals, limits at their edges, keys, who is told."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from tchatd.domains.payment.errors import (
    DialogNotFound,
    NotToOneself,
    PaymentNotAllowed,
    RecipientNotFound,
    WalletNotFound,
    WrongCurrency,
)
from tchatd.domains.payment.ledger.errors import (
    AccountClosed,
    AccountSuspended,
    InsufficientFunds,
    KeyReused,
    LimitExceeded,
)
from tchatd.domains.payment.models import (
    ChangeWallet,
    CloseWallet,
    GetTransaction,
    SendMoney,
    Transaction,
    TransactionUpdated,
    WalletUpdated,
)
from tchatd.domains.payment.rules import DAY_MS
from tchatd.kernel.errors import NotForBots, RateLimited, Unavailable
from tchatd.kernel.money import Currency
from tchatd.kernel.routing import KeptReply
from tests.support.messaging import user_id
from tests.support.paying import DIALOG, THB, World


@pytest.fixture
def world() -> World:
    return World()


async def test_both_sides_have_their_transaction(world: World) -> None:
    wallet, theirs = await world.open(1, 10_000), await world.open(2, 50)

    sent = await world.send(1, wallet, 2, 2_500, description="ค่าข้าว", reference="r1")

    assert (sent.type, sent.amount, sent.fee, sent.net_amount) == (
        "send",
        2500,
        0,
        2500,
    )
    assert (sent.balance_before, sent.balance_after) == (10_000, 7_500)
    assert (sent.status, sent.description, sent.reference) == (
        "completed",
        "ค่าข้าว",
        "r1",
    )
    assert sent.counterpart.name == "Person 2"
    assert sent.counterpart.id == str(user_id(2))
    received = await world.ask(
        world.history.status, world.context(2), GetTransaction(UUID(sent.id))
    )
    assert received.type == "receive"
    assert received.wallet_id == theirs.id
    assert received.id != sent.id
    assert (received.balance_before, received.balance_after) == (50, 2_550)
    assert received.counterpart.name == "Person 1"
    assert (received.description, received.reference) == ("ค่าข้าว", "r1")
    assert world.balance(wallet) == 7_500
    assert world.balance(theirs) == 2_550
    world.check()


async def test_each_finds_its_own_side_by_either_id(world: World) -> None:
    wallet = await world.open(1, 10_000)
    sent = await world.send(1, wallet, 2, 100)
    received = await world.ask(
        world.history.status, world.context(2), GetTransaction(UUID(sent.id))
    )

    for number, wanted in ((1, sent), (2, received)):
        for id in (sent.id, received.id):
            found = await world.ask(
                world.history.status, world.context(number), GetTransaction(UUID(id))
            )
            assert found == wanted


async def test_who_never_had_a_wallet_of_the_currency_gets_one(world: World) -> None:
    wallet = await world.open(1, 10_000)

    await world.send(1, wallet, 2, 100)

    [row] = [r for r in world.wallet_rows.rows.values() if r.user_number == 2]
    assert row.currency is THB
    assert row.is_primary
    assert [e.type for e in world.events].count("wallet.created") == 2


async def test_who_closed_their_wallet_is_not_paid_into_another(world: World) -> None:
    wallet, theirs = await world.open(1, 10_000), await world.open(2)
    await world.ask(world.wallets.close, world.context(2), CloseWallet(UUID(theirs.id)))

    with pytest.raises(AccountClosed):
        await world.send(1, wallet, 2, 100)

    again = await world.open(2)
    await world.send(1, wallet, 2, 100)
    assert world.balance(again) == 100


async def test_a_payment_is_decided_without_asking_any_store(world: World) -> None:
    wallet, _ = await world.open(1, 10_000), await world.open(2)
    await world.send(1, wallet, 2, 100)
    loads = world.people.loads
    command = SendMoney(
        wallet_id=UUID(wallet.id), recipient_id=user_id(2), amount=1, currency=THB
    )

    asked = world.sending.send(world.context(1), command)

    assert asked.done
    assert world.people.loads == loads


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"to": 1}, NotToOneself),
        ({"to": 49, "unknown": True}, RecipientNotFound),
        ({"currency": Currency.USD}, WrongCurrency),
        ({"amount": 10_001}, InsufficientFunds),
    ],
)
async def test_what_makes_no_sense_is_refused_and_moves_nothing(
    world: World, change: dict[str, Any], refusal: type[Exception]
) -> None:
    wallet = await world.open(1, 10_000)
    asked = {"to": 2, "amount": 100} | change
    if asked.pop("unknown", False):
        del world.people.people[49]

    with pytest.raises(refusal):
        await world.send(1, wallet, **asked)

    assert world.balance(wallet) == 10_000
    assert not world.transactions.rows


async def test_the_wallet_of_another_is_not_there(world: World) -> None:
    wallet = await world.open(1, 10_000)

    with pytest.raises(WalletNotFound):
        await world.send(3, wallet, 2, 100)


async def test_all_of_the_balance_can_be_sent_and_no_more(world: World) -> None:
    wallet = await world.open(1, 10_000)

    await world.send(1, wallet, 2, 10_000)
    with pytest.raises(InsufficientFunds):
        await world.send(1, wallet, 2, 1)

    assert world.balance(wallet) == 0


async def test_who_blocks_the_payer_is_not_paid(world: World) -> None:
    wallet = await world.open(1, 10_000)
    world.people.blocks.add((2, 1))

    with pytest.raises(PaymentNotAllowed):
        await world.send(1, wallet, 2, 100)

    assert all(row.user_number == 1 for row in world.wallet_rows.rows.values())


async def test_bots_and_the_banned_are_neither_payer_nor_paid(world: World) -> None:
    wallet = await world.open(1, 10_000)
    world.people.change(2, is_payable=False)
    with pytest.raises(RecipientNotFound):
        await world.send(1, wallet, 2, 100)

    world.people.change(1, is_payable=False)
    with pytest.raises(NotForBots):
        await world.send(1, wallet, 3, 100)


async def test_a_suspended_wallet_neither_pays_nor_is_paid(world: World) -> None:
    wallet, theirs = await world.open(1, 10_000), await world.open(2, 500)
    await world.ask(
        world.wallets.change,
        world.context(1),
        ChangeWallet(wallet_id=UUID(wallet.id), status="suspended"),
    )

    with pytest.raises(AccountSuspended):
        await world.send(1, wallet, 2, 100)
    with pytest.raises(AccountSuspended):
        await world.send(2, theirs, 1, 100)


# Limits, at their edges.


async def test_the_day_ends_at_midnight_of_the_payer(world: World) -> None:
    """10,000,000 satang a day for tier 2; Bangkok's midnight is 17:00 UTC."""
    wallet = await world.open(1, 60_000_000)
    await world.send(1, wallet, 2, 9_999_999)
    await world.send(1, wallet, 2, 1)
    with pytest.raises(LimitExceeded) as refused:
        await world.send(1, wallet, 2, 1)
    assert refused.value.fields == {"limit": "daily", "left": "0"}

    to_midnight_ms = DAY_MS - (world.clock.now_ms() + 7 * 3_600_000) % DAY_MS
    world.clock.advance(to_midnight_ms - 1)
    with pytest.raises(LimitExceeded):
        await world.send(1, wallet, 2, 1)
    world.clock.advance(1)
    await world.send(1, wallet, 2, 10_000_000)


async def test_a_month_has_its_own_limit(world: World) -> None:
    """Five days' worth; from the 15th to the 20th, then on the first."""
    wallet = await world.open(1, 100_000_000)
    for _ in range(5):
        await world.send(1, wallet, 2, 10_000_000)
        world.clock.advance(DAY_MS)
    with pytest.raises(LimitExceeded) as refused:
        await world.send(1, wallet, 2, 1)
    assert refused.value.fields["limit"] == "monthly"

    world.clock.advance(12 * DAY_MS)
    await world.send(1, wallet, 2, 1)


async def test_a_hundred_payments_a_day_and_wallet(world: World) -> None:
    wallet = await world.open(1, 1_000)
    for _ in range(100):
        await world.send(1, wallet, 2, 1)

    with pytest.raises(LimitExceeded) as refused:
        await world.send(1, wallet, 2, 1)

    assert refused.value.fields["limit"] == "count"


@pytest.mark.parametrize(("tier", "most"), [(1, 100_000), (2, 10_000_000)])
async def test_the_tier_decides(world: World, tier: int, most: int) -> None:
    wallet = await world.open(1, 20_000_000)
    world.people.change(1, tier=tier)

    with pytest.raises(LimitExceeded) as refused:
        await world.send(1, wallet, 2, most + 1)
    assert refused.value.fields["left"] == str(most)
    await world.send(1, wallet, 2, most)


async def test_what_is_refused_counts_against_no_limit(world: World) -> None:
    wallet = await world.open(1, 100)

    for _ in range(3):
        with pytest.raises(InsufficientFunds):
            await world.send(1, wallet, 2, 9_000_000)
    await world.send(1, wallet, 2, 100)

    assert world.ledger.stored[world.facts(wallet).account].day_spent == 100


# Fees.


async def test_the_fee_is_on_top_and_goes_to_the_house() -> None:
    world = World(send_fees=["THB 50 100 0 300"])
    wallet = await world.open(1, 12_000)

    sent = await world.send(1, wallet, 2, 10_000)

    assert (sent.amount, sent.fee, sent.net_amount) == (10_000, 150, 10_150)
    assert sent.balance_after == 1_850
    fees = world.ledger.stored[world.sending.fees_accounts[THB]]
    assert fees.balance == 150
    with pytest.raises(InsufficientFunds):
        await world.send(1, wallet, 2, 1_800)
    world.check()


# Keys.


async def test_a_repeat_gets_the_first_answer_and_moves_nothing(world: World) -> None:
    wallet = await world.open(1, 10_000)
    first = await world.send(1, wallet, 2, 100, key="k")
    world.hub.told.clear()

    again = await world.send(1, wallet, 2, 100, key="k")

    assert type(again) is KeptReply
    assert msgspec.json.decode(again.answer, type=Transaction) == first
    assert world.balance(wallet) == 9_900
    assert world.hub.told == []


async def test_a_repeat_is_answered_though_it_would_be_refused_now(
    world: World,
) -> None:
    wallet = await world.open(1, 100)
    await world.send(1, wallet, 2, 100, key="k")
    world.people.blocks.add((2, 1))

    again = await world.send(1, wallet, 2, 100, key="k")

    assert type(again) is KeptReply


async def test_a_refusal_is_the_first_answer_too(world: World) -> None:
    wallet = await world.open(1, 100)
    with pytest.raises(InsufficientFunds):
        await world.send(1, wallet, 2, 101, key="funds")
    with pytest.raises(NotToOneself):
        await world.send(1, wallet, 1, 1, key="self")
    world.fund(world.facts(wallet), 1_000)

    for key, to, amount, code in (
        ("funds", 2, 101, b"insufficient-funds"),
        ("self", 1, 1, b"not-to-oneself"),
    ):
        again = await world.send(1, wallet, to, amount, key=key)
        assert type(again) is KeptReply
        assert again.answer == code


async def test_a_key_belongs_to_one_request_and_one_person(world: World) -> None:
    wallet, theirs = await world.open(1, 1_000), await world.open(2, 1_000)
    await world.send(1, wallet, 2, 100, key="k")

    with pytest.raises(KeyReused):
        await world.send(1, wallet, 2, 101, key="k")
    with pytest.raises(KeyReused):
        await world.send(1, wallet, 1, 100, key="k")
    await world.send(2, theirs, 1, 100, key="k")

    assert world.balance(wallet) == 1_000


async def test_what_may_be_tried_again_is_not_kept(world: World) -> None:
    wallet = await world.open(1, 1_000)
    world.dialogs.is_loaded = True
    for refusal in (RateLimited(retry_after_s=3), Unavailable()):
        world.dialogs.refusal = refusal
        with pytest.raises(type(refusal)) as refused:
            await world.send(1, wallet, 2, 5, dialog_id=DIALOG, key="k")
        assert refused.value is refusal
    world.dialogs.refusal = None

    sent = await world.send(1, wallet, 2, 5, dialog_id=DIALOG, key="k")
    world.dialogs.refusal = RateLimited(retry_after_s=3)
    again = await world.send(1, wallet, 2, 5, dialog_id=DIALOG, key="k")

    assert sent.status == "completed"
    assert type(again) is KeptReply


# Who is told.


async def test_both_are_told_on_every_device_but_the_one_that_asked(
    world: World,
) -> None:
    wallet, theirs = await world.open(1, 10_000), await world.open(2)
    world.hub.told.clear()

    sent = await world.send(1, wallet, 2, 100, connection=77)

    mine, his = world.hub.events_of(1), world.hub.events_of(2)
    assert [type(event) for event in mine] == [TransactionUpdated, WalletUpdated]
    assert [type(event) for event in his] == [TransactionUpdated, WalletUpdated]
    assert mine[0].transaction == sent
    assert his[0].transaction.type == "receive"
    assert (mine[1].wallet.id, mine[1].wallet.balance) == (wallet.id, 9_900)
    assert (his[1].wallet.id, his[1].wallet.balance) == (theirs.id, 100)
    assert [except_one for _, _, except_one in world.hub.told] == [77, None, None, None]
    assert world.hub.flushes


async def test_the_events_of_both_sides_say_nothing_that_was_written(
    world: World,
) -> None:
    wallet = await world.open(1, 10_000)
    world.events.clear()

    sent = await world.send(1, wallet, 2, 100, description="secret words")

    completed = [e for e in world.events if e.type == "transaction.completed"]
    assert str(completed[0].aggregate_id) == sent.id
    assert [e.version for e in completed] == [1, 1]
    datas = [msgspec.json.decode(e.data) for e in completed]
    assert [d["balance_after"] for d in datas] == [9_900, 100]
    assert [d["type"] for d in datas] == ["send", "receive"]
    assert not any(b"secret" in e.data for e in world.events)


# In a dialog.


async def test_a_payment_in_a_dialog_begins_its_message_in_the_same_commit(
    world: World,
) -> None:
    wallet = await world.open(1, 10_000)

    sent = await world.send(1, wallet, 2, 100, dialog_id=DIALOG, description="tea")

    [begun] = world.sagas_begun
    assert world.sagas.launched == [begun]
    data = world.announcing.saga.decoded(begun.data)
    assert str(data.transaction_id) == sent.id
    assert (data.dialog_id, data.amount, data.description) == (DIALOG, 100, "tea")
    assert sent.metadata == {"dialog_id": DIALOG}


async def test_nothing_moves_where_one_of_the_two_is_not(world: World) -> None:
    wallet = await world.open(1, 10_000)
    world.dialogs.members = {1, 3}

    with pytest.raises(DialogNotFound):
        await world.send(1, wallet, 2, 100, dialog_id=DIALOG)

    assert world.balance(wallet) == 10_000
    assert world.sagas_begun == []
