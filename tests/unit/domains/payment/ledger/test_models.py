"""What the shapes of the ledger refuse to be."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tchatd.domains.payment.ledger.models import (
    BALANCE_MAX,
    NAME_MAX,
    Account,
    AccountKind,
    AccountStatus,
    Hold,
    HoldState,
    Opening,
    Transfer,
)
from tchatd.kernel.money import AMOUNT_MAX, Currency

ID = UUID(int=1)


def test_what_is_available_is_the_balance_less_what_is_held() -> None:
    account = Account(1, Currency.THB, AccountKind.WALLET, balance=10, held=4)

    assert account.available == 6


def test_a_copy_has_every_field_and_is_another() -> None:
    account = Account(
        *(1, Currency.SGD, AccountKind.WORLD, -5, 90, AccountStatus.SUSPENDED),
        *(20, 30, 40, 50, 60, 70, 80, 95),
    )

    copy = account.copy()

    assert copy is not account
    fields = {name: getattr(account, name) for name in Account.__slots__}
    assert {name: getattr(copy, name) for name in Account.__slots__} == fields
    assert len(set(map(str, fields.values()))) == len(fields), "each its own"


@pytest.mark.parametrize("amount", [0, -1, AMOUNT_MAX + 1])
def test_an_amount_is_from_one_to_its_most(amount: int) -> None:
    with pytest.raises(AssertionError):
        Transfer(ID, 1, 2, amount)
    with pytest.raises(AssertionError):
        Hold(ID, 1, 2, amount, 0)
    Transfer(ID, 1, 2, 1)
    Hold(ID, 1, 2, AMOUNT_MAX, 0)


@pytest.mark.parametrize(
    "ended",
    [
        {"state": HoldState.POSTED},
        {"state": HoldState.POSTED, "posted_minor": 5},
        {"state": HoldState.POSTED, "posted_minor": 11, "transfer_id": ID},
        {"state": HoldState.VOIDED, "posted_minor": 5, "transfer_id": ID},
        {"transfer_id": ID},
    ],
)
def test_only_a_posted_hold_has_a_transfer_and_no_more_than_was_held(
    ended: dict[str, Any],
) -> None:
    with pytest.raises(AssertionError):
        Hold(ID, 1, 2, 10, 0, **ended)
    Hold(ID, 1, 2, 10, 0, state=HoldState.POSTED, posted_minor=10, transfer_id=ID)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * (NAME_MAX + 1)},
        {"floor": -BALANCE_MAX - 1},
        {"ceiling": BALANCE_MAX + 1},
    ],
)
def test_an_opening_is_within_its_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        Opening(Currency.THB, AccountKind.HOUSE, **wrong)
