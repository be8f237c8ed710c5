"""Owns amounts as QR codes write them: major units, a point, decimals; never a float.

At most 13 characters (EMVCo QRCPS 1.1, 4.7.7), digits with at most as many decimals as
the currency's exponent and at least one behind a point; so none, and no point, of VND.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tchatd.domains.payment.qr.errors import QrAmountRefused, QrNotExpressible
from tchatd.kernel.money import AMOUNT_MAX, EXPONENT, Currency

CHARS_MAX: Final = 13
MINOR_MAX: Final[Mapping[Currency, int]] = {
    currency: 10 ** (CHARS_MAX - (1 if exponent else 0)) - 1
    for currency, exponent in EXPONENT.items()
}
"""The largest amount that fits with all its decimals."""
assert all(most <= AMOUNT_MAX for most in MINOR_MAX.values())

BASIS_POINTS_MAX: Final = 9_999
_PERCENTAGE_EXPONENT: Final = 2


def read_amount(text: str, currency: Currency) -> int:
    """In minor units, at least 1. Raises: QrAmountRefused."""
    minor = _read(text, EXPONENT[currency])
    if not 0 < minor <= MINOR_MAX[currency]:
        raise QrAmountRefused("The amount is zero or too large.")
    return minor


def write_amount(minor: int, currency: Currency) -> str:
    """With all decimals of the currency. Raises: QrNotExpressible."""
    if not 0 < minor <= MINOR_MAX[currency]:
        raise QrNotExpressible("The amount is zero, negative or too large.")
    return _written(minor, EXPONENT[currency])


def read_percentage(text: str) -> int:
    """`2.5` → 250, in basis points, from 1 to 9,999. Raises: QrAmountRefused."""
    points = _read(text, _PERCENTAGE_EXPONENT)
    if not 0 < points <= BASIS_POINTS_MAX:
        raise QrAmountRefused("The percentage is zero or too large.")
    return points


def write_percentage(points: int) -> str:
    """Raises: QrNotExpressible."""
    if not 0 < points <= BASIS_POINTS_MAX:
        raise QrNotExpressible("A percentage is from 0.01 to 99.99.")
    return _written(points, _PERCENTAGE_EXPONENT)


def _read(text: str, exponent: int) -> int:
    whole, point, part = text.partition(".")
    decimals_good = 1 <= len(part) <= exponent if point else not part
    digits = whole + part
    if (
        len(text) > CHARS_MAX
        or not whole
        or not decimals_good
        or not (digits.isascii() and digits.isdigit())
    ):
        raise QrAmountRefused("It is not written as an amount of its currency.")
    scale: int = 10 ** (exponent - len(part))
    return int(digits) * scale


def _written(minor: int, exponent: int) -> str:
    if not exponent:
        return str(minor)
    major, part = divmod(minor, 10**exponent)
    return f"{major}.{part:0{exponent}d}"
