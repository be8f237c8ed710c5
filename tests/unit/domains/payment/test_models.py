"""What clients may ask: each bound at its edge."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tchatd.domains.payment.models import (
    ListTransactions,
    OpenWallet,
    SendMoney,
)
from tchatd.kernel.money import AMOUNT_MAX

ID = "019a0000-0000-7000-8000-000000000001"
GOOD = {"wallet_id": ID, "recipient_id": ID, "amount": 1, "currency": "THB"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"amount": AMOUNT_MAX},
        {"description": ""},
        {"description": "ก" * 200},
        {"reference": "x" * 100},
        {"dialog_id": ID},
        {"client_id": ID, "idempotency_key": "k" * 255},
    ],
)
def test_what_can_be_sent(more: dict[str, Any]) -> None:
    msgspec.convert(GOOD | more, SendMoney)


@pytest.mark.parametrize(
    "more",
    [
        {"amount": 0},
        {"amount": -1},
        {"amount": AMOUNT_MAX + 1},
        {"amount": 1.5},
        {"amount": "1"},
        {"amount": True},
        {"currency": "EUR"},
        {"currency": "thb"},
        {"description": "x" * 201},
        {"description": "a\nb"},
        {"reference": ""},
        {"reference": "x" * 101},
        {"reference": "x\n"},
        {"recipient_id": "nobody"},
        {"dialog_id": "x"},
        {"idempotency_key": ""},
        {"idempotency_key": "k" * 256},
    ],
)
def test_what_cannot_be_sent(more: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(GOOD | more, SendMoney)


@pytest.mark.parametrize("name", list(GOOD))
def test_nothing_may_be_left_out(name: str) -> None:
    asked = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(asked, SendMoney)


@pytest.mark.parametrize(
    ("more", "is_good"),
    [
        ({"limit": 1}, True),
        ({"limit": 100}, True),
        ({"limit": 0}, False),
        ({"limit": 101}, False),
        ({"offset": 10_000}, True),
        ({"offset": 10_001}, False),
        ({"type": "cashback"}, True),
        ({"type": "gift"}, False),
    ],
)
def test_pages_are_bounded(more: dict[str, Any], is_good: bool) -> None:
    def read() -> None:
        msgspec.convert({"wallet_id": ID} | more, ListTransactions)

    if is_good:
        read()
    else:
        with pytest.raises(msgspec.ValidationError):
            read()


def test_a_wallet_is_of_a_currency_that_there_is() -> None:
    assert msgspec.convert({"currency": "VND"}, OpenWallet).is_primary is False
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"currency": "XXX"}, OpenWallet)
