"""What clients see of rows."""

from __future__ import annotations

from uuid import UUID

import msgspec

from tchatd.domains.payment.commands import AccountNow
from tchatd.domains.payment.ledger.models import AccountStatus
from tchatd.domains.payment.rows import TransactionRow
from tchatd.domains.payment.views import transaction_view, wallet_now
from tchatd.kernel.money import Currency

ID = UUID("019a0000-0000-7000-8000-000000000001")
PENDING = TransactionRow(
    id=ID,
    wallet_id=ID,
    account=1,
    user_number=1,
    user_id=ID,
    type="topup",
    status="pending",
    currency=Currency.VND,
    amount=10_000,
    fee=25,
    net_amount=9_975,
    created_ms=1_800_000_000_000,
)


def test_a_pending_transaction_has_no_balances_and_no_other_times() -> None:
    shown = msgspec.json.decode(msgspec.json.encode(transaction_view(PENDING, {})))

    assert shown == {
        "id": str(ID),
        "wallet_id": str(ID),
        "type": "topup",
        "amount": 10_000,
        "currency": "VND",
        "fee": 25,
        "net_amount": 9_975,
        "status": "pending",
        "description": "",
        "metadata": {},
        "created_at": "2027-01-15T08:00:00.000Z",
    }


def test_a_counterpart_that_is_no_user_has_the_name_it_was_given() -> None:
    row = msgspec.structs.replace(
        PENDING, counterpart_type="system", counterpart_name="Stripe"
    )

    counterpart = transaction_view(row, {}).counterpart

    assert msgspec.to_builtins(counterpart) == {
        "id": "",
        "name": "Stripe",
        "type": "system",
    }


def test_a_wallet_now_says_what_can_be_spent() -> None:
    now = AccountNow(100, 30, AccountStatus.SUSPENDED, 7, 1_800_000_000_000)

    shown = wallet_now(ID, Currency.THB, now)

    assert (shown.balance, shown.frozen_balance, shown.available_balance) == (
        100,
        30,
        70,
    )
    assert (shown.status, shown.version) == ("suspended", 7)
