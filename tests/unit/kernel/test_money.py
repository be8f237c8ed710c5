"""Currencies of ISO 4217, and the one way in which anything is rounded."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.kernel.money import AMOUNT_MAX, EXPONENT, NUMERIC, Currency, divided_half_up


def test_every_currency_has_its_exponent_and_number() -> None:
    assert set(EXPONENT) == set(NUMERIC) == set(Currency)
    assert EXPONENT[Currency.VND] == 0
    assert {EXPONENT[c] for c in Currency if c is not Currency.VND} == {2}
    assert len(set(NUMERIC.values())) == len(Currency)


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"),
    [(0, 3, 0), (1, 3, 0), (1, 2, 1), (3, 2, 2), (5, 3, 2), (4, 2, 2), (149, 100, 1)],
)
def test_a_half_is_rounded_up(numerator: int, denominator: int, rounded: int) -> None:
    assert divided_half_up(numerator, denominator) == rounded


@given(st.integers(0, AMOUNT_MAX**2), st.integers(1, AMOUNT_MAX))
def test_what_is_rounded_is_off_by_at_most_a_half(numerator: int, of: int) -> None:
    off = divided_half_up(numerator, of) - Fraction(numerator, of)

    assert -Fraction(1, 2) < off <= Fraction(1, 2)


@pytest.mark.parametrize(("numerator", "denominator"), [(-1, 2), (1, 0), (1, -1)])
def test_what_is_below_zero_is_not_divided(numerator: int, denominator: int) -> None:
    with pytest.raises(AssertionError):
        divided_half_up(numerator, denominator)
