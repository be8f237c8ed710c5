"""Owns what a provider, or we, take of an amount; all of it in integers.

A fee is a share of the amount in hundredths of a percent (290 is 2.9 %), rounded half
up to the minor unit, and then a fixed part by currency, which is whole already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from tchatd.kernel.money import AMOUNT_MAX, Currency, divided_half_up

WHOLE: Final = 10_000
"""100 % in hundredths of a percent."""


class FeeSchedule(msgspec.Struct, frozen=True):
    """percent_hundredths: 0 to WHOLE. fixed_minor: a currency left out has none."""

    percent_hundredths: int = 0
    fixed_minor: Mapping[Currency, int] = {}

    def __post_init__(self) -> None:
        assert 0 <= self.percent_hundredths <= WHOLE
        assert all(0 <= amount <= AMOUNT_MAX for amount in self.fixed_minor.values())

    def fee(self, amount_minor: int, currency: Currency) -> int:
        """Minor units, rounded half up; more than the amount itself if that is small
        against the fixed part.

        >>> FeeSchedule(290, {Currency.THB: 30}).fee(10_050, Currency.THB)
        321
        """
        assert 0 <= amount_minor <= AMOUNT_MAX
        share = divided_half_up(amount_minor * self.percent_hundredths, WHOLE)
        return share + self.fixed_minor.get(currency, 0)


def fixed_parts(texts: Sequence[str]) -> dict[Currency, int]:
    """`["THB 30", "SGD 30"]`, as the settings have it, in minor units.

    Raises: ValueError, with a sentence.
    """
    found: dict[Currency, int] = {}
    for text in texts:
        code, _, amount = text.partition(" ")
        try:
            currency = Currency(code)
        except ValueError:
            raise ValueError(f"{text!r} begins with no currency") from None
        if not (amount.isascii() and amount.isdigit() and len(amount) <= 12):
            raise ValueError(f"{text!r} is no currency and whole minor units")
        if currency in found:
            raise ValueError(f"{code} is there twice")
        found[currency] = int(amount)
    return found
