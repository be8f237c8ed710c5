"""Amounts are read exactly, or not at all."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.domains.payment.qr import amounts
from tchatd.domains.payment.qr.errors import QrAmountRefused, QrNotExpressible
from tchatd.kernel.money import EXPONENT, Currency

THB, VND = Currency.THB, Currency.VND


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("1", THB, 100),
        ("0.01", THB, 1),
        ("100.5", THB, 10_050),
        ("100.50", THB, 10_050),
        ("000100.50", THB, 10_050),
        ("9999999999.99", THB, 999_999_999_999),
        ("50000", VND, 50_000),
        ("9999999999999", VND, 9_999_999_999_999),
    ],
)
def test_an_amount_is_read_in_minor_units(
    text: str, currency: Currency, minor: int
) -> None:
    assert amounts.read_amount(text, currency) == minor


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("0", THB),
        ("0.00", THB),
        ("-1", THB),
        ("+1", THB),
        ("1.", THB),
        (".5", THB),
        (".", THB),
        ("1.234", THB),
        ("1.000", THB),
        ("1.2.3", THB),
        ("1,00", THB),
        ("1 00", THB),
        ("1_000", THB),
        ("1e3", THB),
        ("0x1", THB),
        ("๑", THB),  # a digit, of another script
        ("²", THB),
        ("10000000000", THB),  # would not fit with its decimals
        ("9999999999999", THB),
        ("00000000000001", VND),  # 14 characters
        ("1.0", VND),
        ("1.", VND),
        ("0", VND),
    ],
)
def test_what_is_no_amount_of_the_currency_is_refused(
    text: str, currency: Currency
) -> None:
    with pytest.raises(QrAmountRefused):
        amounts.read_amount(text, currency)


@given(st.sampled_from(Currency), st.data())
def test_what_is_written_is_the_same_amount(
    currency: Currency, data: st.DataObject
) -> None:
    minor = data.draw(st.integers(1, amounts.MINOR_MAX[currency]))
    text = amounts.write_amount(minor, currency)
    assert len(text) <= amounts.CHARS_MAX
    assert Decimal(text).scaleb(EXPONENT[currency]) == minor
    assert amounts.read_amount(text, currency) == minor


@pytest.mark.parametrize("minor", [0, -1, 10**12])
def test_what_does_not_fit_is_not_written(minor: int) -> None:
    with pytest.raises(QrNotExpressible):
        amounts.write_amount(minor, THB)


@given(st.integers(1, amounts.BASIS_POINTS_MAX))
def test_a_percentage_is_the_same_again(points: int) -> None:
    assert amounts.read_percentage(amounts.write_percentage(points)) == points


@pytest.mark.parametrize("text", ["0", "00.00", "100", "1.234", "2.5%", ""])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(QrAmountRefused):
        amounts.read_percentage(text)


@pytest.mark.parametrize("points", [0, 10_000, -1])
def test_a_percentage_out_of_range_is_not_written(points: int) -> None:
    with pytest.raises(QrNotExpressible):
        amounts.write_percentage(points)
