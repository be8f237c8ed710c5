"""Owns limits, fees, days and states of payments; pure functions, and their settings.

Source of the limits: FACTS (KYC): by tier and currency, a day in the owner's time zone,
a calendar month there, and a count a day. All of them are in `[payment.limits]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

from msgspec import Meta, Struct

from tchatd.domains.payment.errors import WrongState
from tchatd.domains.payment.fees import WHOLE, FeeSchedule, fixed_parts
from tchatd.domains.payment.ledger.models import AccountStatus, Spending
from tchatd.domains.payment.models import (
    TransactionStatus,
    TransactionType,
    WalletStatus,
)
from tchatd.kernel.money import AMOUNT_MAX, Currency

TIERS: Final = (1, 2, 3)
DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
ZONE_MS: Final[Mapping[str, int]] = {
    "TH": 7 * _HOUR_MS,
    "ID": 7 * _HOUR_MS,
    "MY": 8 * _HOUR_MS,
    "VN": 7 * _HOUR_MS,
    "SG": 8 * _HOUR_MS,
    "PH": 8 * _HOUR_MS,
}
"""A user's day by their country: none of the six has summer time. Indonesia has three
zones; all of its days are those of Jakarta."""
CURRENCY_OF: Final[Mapping[str, Currency]] = {
    "TH": Currency.THB,
    "ID": Currency.IDR,
    "MY": Currency.MYR,
    "VN": Currency.VND,
    "SG": Currency.SGD,
    "PH": Currency.PHP,
}
STATUS_OF: Final[Mapping[AccountStatus, WalletStatus]] = {
    AccountStatus.OPEN: "active",
    AccountStatus.SUSPENDED: "suspended",
    AccountStatus.CLOSED: "closed",
}
MOVES: Final[Mapping[TransactionStatus, frozenset[TransactionStatus]]] = {
    "pending": frozenset({"processing", "cancelled", "expired"}),
    "processing": frozenset({"completed", "failed", "cancelled"}),
    "completed": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
    "expired": frozenset(),
}
"""CONTRACT, Payment: what is refunded is a new transaction, and the old one stays."""

Money = Annotated[str, Meta(pattern=r"^[A-Z]{3} [0-9]{1,16}$")]
FeeText = Annotated[str, Meta(pattern=r"^[A-Z]{3}( [0-9]{1,16}){4}$")]


class LimitSettings(Struct, frozen=True, kw_only=True):
    """daily, monthly: what a wallet may send and pay, by the tier of its owner;
    `["THB 100000", …]` in minor units, each currency once. balance: what it may hold.
    payments_per_day: of a wallet. wallets_known_max: remembered, 400 bytes each."""

    daily_tier_1: list[Money]
    daily_tier_2: list[Money]
    daily_tier_3: list[Money]
    monthly_tier_1: list[Money]
    monthly_tier_2: list[Money]
    monthly_tier_3: list[Money]
    payments_per_day: Annotated[int, Meta(ge=1, le=1_000_000)]
    wallets_known_max: Annotated[int, Meta(ge=1, le=1 << 31)]


class ChargeSettings(Struct, frozen=True, kw_only=True):
    """What we take, by currency: `"THB 25 100 500 10000"` is 0.25 % and 1 baht, at
    least 5 and at most 100 baht; a maximum of 0 is none. Left out: nothing."""

    send: list[FeeText]


class Limits(Struct, frozen=True, gc=False):
    """Of one wallet; minor units, and a count."""

    day_minor_max: int
    month_minor_max: int
    day_count_max: int


class Charge(Struct, frozen=True):
    """What we take of one kind of payment in one currency. maximum: 0 for none."""

    schedule: FeeSchedule
    minimum: int = 0
    maximum: int = 0

    def of(self, amount_minor: int, currency: Currency) -> int:
        """Minor units; the share rounded half up, then the fixed part, then within
        the bounds."""
        fee = max(self.schedule.fee(amount_minor, currency), self.minimum)
        return min(fee, self.maximum) if self.maximum else fee


def broken_relations(
    limits: LimitSettings, charges: ChargeSettings
) -> Iterator[tuple[str, str]]:
    """Every relation that does not hold: the key to change, and a sentence."""
    for tier in TIERS:
        for name in (f"daily_tier_{tier}", f"monthly_tier_{tier}"):
            try:
                _complete(name, limits)
            except ValueError as error:
                yield f"payment.limits.{name}", str(error)
    try:
        ChargeTable(charges)
    except ValueError as error:
        yield "payment.fees.send", str(error)


class LimitTable:
    """Raises ValueError, with a sentence: the settings are not right."""

    def __init__(self, settings: LimitSettings) -> None:
        self._limits: dict[tuple[int, Currency], Limits] = {}
        for tier in TIERS:
            daily = _complete(f"daily_tier_{tier}", settings)
            monthly = _complete(f"monthly_tier_{tier}", settings)
            for currency in Currency:
                self._limits[tier, currency] = Limits(
                    daily[currency], monthly[currency], settings.payments_per_day
                )

    def of(self, tier: int, currency: Currency) -> Limits:
        """tier: 1 to 3."""
        return self._limits[tier, currency]


class ChargeTable:
    """Raises ValueError, with a sentence: the settings are not right."""

    def __init__(self, settings: ChargeSettings) -> None:
        self._charges: dict[tuple[TransactionType, Currency], Charge] = {}
        for text in settings.send:
            currency, charge = charge_of(text)
            if ("send", currency) in self._charges:
                raise ValueError(f"{currency.value} is there twice")
            self._charges["send", currency] = charge

    def fee(self, type: TransactionType, amount_minor: int, currency: Currency) -> int:
        charge = self._charges.get((type, currency))
        return 0 if charge is None else charge.of(amount_minor, currency)


def charge_of(text: str) -> tuple[Currency, Charge]:
    """Raises: ValueError, with a sentence."""
    code, *numbers = text.split(" ")
    percent, fixed, minimum, maximum = (int(number) for number in numbers)
    try:
        currency = Currency(code)
    except ValueError:
        raise ValueError(f"{text!r} begins with no currency") from None
    if percent > WHOLE or max(fixed, minimum, maximum) > AMOUNT_MAX:
        raise ValueError(f"{text!r} is too much")
    if maximum and maximum < minimum:
        raise ValueError(f"{text!r}: the maximum is below the minimum")
    return currency, Charge(FeeSchedule(percent, {currency: fixed}), minimum, maximum)


def _complete(name: str, settings: LimitSettings) -> dict[Currency, int]:
    texts: Sequence[str] = getattr(settings, name)
    amounts = fixed_parts(texts)
    missing = [currency.value for currency in Currency if currency not in amounts]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing")
    return amounts


def day_of(now_ms: int, zone_ms: int) -> int:
    """Days since 1970 in the zone."""
    return (now_ms + zone_ms) // DAY_MS


def month_of(now_ms: int, zone_ms: int) -> int:
    """Months since year 0 in the zone."""
    there = datetime.fromtimestamp((now_ms + zone_ms) // 1_000, UTC)
    return there.year * 12 + there.month - 1


def spending_of(
    amount_minor: int, limits: Limits, zone_ms: int, now_ms: int
) -> Spending:
    """What a payment counts, now, against the limits of its wallet."""
    return Spending(
        amount_minor,
        day_of(now_ms, zone_ms),
        month_of(now_ms, zone_ms),
        limits.day_minor_max,
        limits.day_count_max,
        limits.month_minor_max,
    )


def zone_of(country: str) -> int:
    """Milliseconds to be added to UTC. An unknown country's days are those of UTC."""
    return ZONE_MS.get(country, 0)


def check_move(status: TransactionStatus, to: TransactionStatus) -> None:
    """Raises WrongState."""
    if to not in MOVES[status]:
        raise WrongState(f"What is {status} does not become {to}.")


def shares_of(amount_minor: int, count: int) -> list[int]:
    """Equal shares that sum to the amount; the first ones have a unit more.

    >>> shares_of(1000, 3)
    [334, 333, 333]
    """
    assert count >= 1
    share, rest = divmod(amount_minor, count)
    return [share + (index < rest) for index in range(count)]
