"""Owns currencies and amounts; refuses fractions of the minor unit.

An amount is an integer in the currency's minor unit (ISO 4217): 1 baht is 100, 1 dong
is 1. Nothing here rounds but what says so by its name.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

AMOUNT_MAX: Final = 10**15
"""Of one transfer, in minor units: a hundred times what a country's largest bank moves
in a day, and far below what 64 bits hold even when summed."""


class Currency(enum.Enum):
    """By ISO 4217 code."""

    THB = "THB"
    SGD = "SGD"
    IDR = "IDR"
    MYR = "MYR"
    PHP = "PHP"
    VND = "VND"
    USD = "USD"


EXPONENT: Final[Mapping[Currency, int]] = {
    currency: 0 if currency is Currency.VND else 2 for currency in Currency
}
"""Decimal digits of the minor unit."""

NUMERIC: Final[Mapping[Currency, int]] = {
    Currency.THB: 764,
    Currency.SGD: 702,
    Currency.IDR: 360,
    Currency.MYR: 458,
    Currency.PHP: 608,
    Currency.VND: 704,
    Currency.USD: 840,
}
"""ISO 4217 numeric codes."""


def divided_half_up(numerator: int, denominator: int) -> int:
    """numerator / denominator, both not negative, a half rounded up."""
    assert numerator >= 0
    assert denominator > 0
    return (2 * numerator + denominator) // (2 * denominator)
