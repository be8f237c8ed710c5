"""What is taken of an amount, in integers, half up."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.domains.payment.fees import FeeSchedule, fixed_parts
from tchatd.kernel.money import AMOUNT_MAX, Currency

STRIPE = FeeSchedule(290, {Currency.THB: 30})
OMISE = FeeSchedule(275, {Currency.THB: 25})


@pytest.mark.parametrize(
    ("schedule", "amount", "currency", "fee"),
    [
        (STRIPE, 10_000, Currency.THB, 290 + 30),
        (OMISE, 10_000, Currency.THB, 275 + 25),
        (STRIPE, 10_000, Currency.SGD, 290),
        (STRIPE, 0, Currency.THB, 30),
        (STRIPE, 1, Currency.THB, 30),  # 0.029 of a satang
        (FeeSchedule(50), 100, Currency.THB, 1),  # a half goes up
        (FeeSchedule(50), 99, Currency.THB, 0),
        (FeeSchedule(50), 300, Currency.THB, 2),
        (FeeSchedule(10_000), 123, Currency.VND, 123),
        (FeeSchedule(), 123, Currency.VND, 0),
    ],
)
def test_a_fee_is_a_share_and_a_fixed_part(
    schedule: FeeSchedule, amount: int, currency: Currency, fee: int
) -> None:
    assert schedule.fee(amount, currency) == fee


@given(st.integers(0, AMOUNT_MAX), st.integers(0, 10_000))
def test_a_share_is_within_half_a_minor_unit_and_never_below_it(
    amount: int, percent: int
) -> None:
    exact = Fraction(amount * percent, 10_000)
    fee = FeeSchedule(percent).fee(amount, Currency.THB)
    assert Fraction(-1, 2) < fee - exact <= Fraction(1, 2)
    assert 0 <= fee <= amount


def test_the_settings_write_fixed_parts_by_currency() -> None:
    assert fixed_parts([]) == {}
    assert fixed_parts(["THB 30", "VND 0"]) == {Currency.THB: 30, Currency.VND: 0}


@pytest.mark.parametrize(
    "texts", [["XXX 1"], ["THB"], ["THB -1"], ["THB 0.3"], ["THB 1", "THB 2"], [""]]
)
def test_what_is_no_fixed_part_is_named(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"THB|XXX|''"):
        fixed_parts(texts)
