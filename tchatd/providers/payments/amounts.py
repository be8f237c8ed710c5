"""Owns how a provider writes amounts: by its own table of decimal digits, not by ISO's.

A provider's mistake here is a factor of a hundred, so a currency that is not in the
table is refused, and an amount that does not come out whole is no amount.
"""

from __future__ import annotations

from collections.abc import Mapping

from tchatd.kernel.money import EXPONENT, Currency


class ProviderAmounts:
    """exponents: decimal digits of the provider's unit, of each currency it takes."""

    def __init__(self, exponents: Mapping[Currency, int]) -> None:
        assert all(0 <= digits <= 4 for digits in exponents.values())
        self._exponents = dict(exponents)

    def to_provider(self, amount_minor: int, currency: Currency) -> int:
        """amount_minor: by ISO, positive. Raises: ValueError, if it is not whole there
        or the currency is not taken."""
        return _scaled(amount_minor, EXPONENT[currency], self._digits(currency))

    def to_minor(self, amount: int, currency: Currency) -> int:
        """By ISO. Raises: ValueError, likewise."""
        return _scaled(amount, self._digits(currency), EXPONENT[currency])

    def _digits(self, currency: Currency) -> int:
        digits = self._exponents.get(currency)
        if digits is None:
            raise ValueError(f"{currency.value} is not taken")
        return digits


def _scaled(amount: int, digits: int, digits_wanted: int) -> int:
    factor: int = 10 ** abs(digits_wanted - digits)
    if digits_wanted >= digits:
        return amount * factor
    whole, rest = divmod(amount, factor)
    if rest:
        raise ValueError("the amount is not whole")
    return whole
