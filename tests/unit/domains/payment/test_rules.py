"""Limits, fees, days, states: each rule at its edge."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.domains.payment.errors import WrongState
from tchatd.domains.payment.models import TransactionStatus
from tchatd.domains.payment.rules import (
    DAY_MS,
    ChargeSettings,
    ChargeTable,
    Limits,
    LimitTable,
    broken_relations,
    charge_of,
    check_move,
    day_of,
    month_of,
    shares_of,
    spending_of,
    zone_of,
)
from tchatd.kernel.money import AMOUNT_MAX, Currency
from tests.support.paying import LIMITS

STATUSES: tuple[TransactionStatus, ...] = get_args(TransactionStatus)
ALLOWED = {
    ("pending", "processing"),
    ("pending", "cancelled"),
    ("pending", "expired"),
    ("processing", "completed"),
    ("processing", "failed"),
    ("processing", "cancelled"),
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("to", STATUSES)
def test_a_transaction_goes_from_state_to_state_as_the_contract_says(
    status: TransactionStatus, to: TransactionStatus
) -> None:
    if (status, to) in ALLOWED:
        check_move(status, to)
    else:
        with pytest.raises(WrongState):
            check_move(status, to)


def ms(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0
) -> int:
    when = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return round(when.timestamp() * 1_000)


@pytest.mark.parametrize(
    ("country", "midnight"),
    [
        ("TH", ms(2027, 1, 31, 17)),
        ("ID", ms(2027, 1, 31, 17)),
        ("VN", ms(2027, 1, 31, 17)),
        ("MY", ms(2027, 1, 31, 16)),
        ("SG", ms(2027, 1, 31, 16)),
        ("PH", ms(2027, 1, 31, 16)),
        ("??", ms(2027, 2, 1)),
    ],
)
def test_day_and_month_begin_at_midnight_where_the_owner_is(
    country: str, midnight: int
) -> None:
    zone_ms = zone_of(country)

    assert day_of(midnight, zone_ms) == day_of(midnight - 1, zone_ms) + 1
    assert day_of(midnight, zone_ms) == day_of(midnight + DAY_MS - 1, zone_ms)
    assert month_of(midnight, zone_ms) == 2027 * 12 + 1
    assert month_of(midnight - 1, zone_ms) == 2027 * 12


def test_months_go_on_over_the_year() -> None:
    december, january = ms(2027, 12, 31, 23, 59, 59), ms(2028, 1, 1)
    assert month_of(january, 0) == month_of(december, 0) + 1


def test_a_spending_counts_in_the_day_and_month_of_its_time() -> None:
    spending = spending_of(5, Limits(10, 50, 100), zone_of("TH"), ms(2027, 1, 31, 17))

    assert (spending.day, spending.month) == (
        day_of(ms(2027, 2, 1), 0),
        2027 * 12 + 1,
    )
    assert (spending.day_minor_max, spending.month_minor_max) == (10, 50)
    assert (spending.amount_minor, spending.day_count_max) == (5, 100)


# Source: FACTS, KYC: the full tier's days; tier 1 a hundredth, tier 3 five times; a
# month five days. In minor units.
@pytest.mark.parametrize(
    ("currency", "full"),
    [
        (Currency.THB, 100_000_00),
        (Currency.SGD, 5_000_00),
        (Currency.IDR, 15_000_000_00),
        (Currency.MYR, 20_000_00),
        (Currency.PHP, 250_000_00),
        (Currency.VND, 230_000_000),
        (Currency.USD, 3_000_00),
    ],
)
def test_the_limits_are_those_of_the_facts(currency: Currency, full: int) -> None:
    table = LimitTable(LIMITS)

    for tier, daily in ((1, full // 100), (2, full), (3, 5 * full)):
        assert table.of(tier, currency) == Limits(daily, 5 * daily, 100)


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["THB 1"], "SGD"),
        (["EUR 1"], "begins with no currency"),
        ([*LIMITS.daily_tier_1, "THB 2"], "twice"),
    ],
)
def test_limits_that_are_not_complete_are_refused(texts: list[str], why: str) -> None:
    limits = msgspec.structs.replace(LIMITS, daily_tier_1=texts)
    with pytest.raises(ValueError, match=why):
        LimitTable(limits)
    [(key, sentence)] = broken_relations(limits, ChargeSettings(send=[]))
    assert key == "payment.limits.daily_tier_1"
    assert why in sentence


# 0.25 % of 199 is 0.4975, of 200 0.5, of 600 1.5.
@pytest.mark.parametrize(
    ("text", "amount", "fee"),
    [
        ("THB 25 0 0 0", 199, 0),
        ("THB 25 0 0 0", 200, 1),
        ("THB 25 0 0 0", 599, 1),
        ("THB 25 0 0 0", 600, 2),
        ("THB 25 100 0 0", 600, 102),
        ("THB 25 0 500 0", 600, 500),
        ("THB 25 0 500 0", 1_000_000, 2_500),
        ("THB 25 0 0 2000", 1_000_000, 2_000),
        ("THB 0 0 0 0", AMOUNT_MAX, 0),
    ],
)
def test_a_fee_is_a_share_and_a_fixed_part_within_bounds(
    text: str, amount: int, fee: int
) -> None:
    table = ChargeTable(ChargeSettings(send=[text]))

    assert table.fee("send", amount, Currency.THB) == fee
    assert table.fee("send", amount, Currency.SGD) == 0
    assert table.fee("receive", amount, Currency.THB) == 0


@pytest.mark.parametrize(
    "text", ["EUR 1 1 1 1", "THB 10001 0 0 0", "THB 1 1 500 400", f"THB 1 {10**16} 0 0"]
)
def test_a_charge_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text[:3]):
        charge_of(text)


def test_a_currency_is_charged_once() -> None:
    charges = ChargeSettings(send=["THB 1 0 0 0", "THB 2 0 0 0"])
    with pytest.raises(ValueError, match="twice"):
        ChargeTable(charges)
    assert [key for key, _ in broken_relations(LIMITS, charges)] == [
        "payment.fees.send"
    ]


@given(st.integers(0, AMOUNT_MAX), st.integers(1, 100))
def test_shares_sum_to_the_amount_and_differ_by_one_at_most(
    amount: int, count: int
) -> None:
    shares = shares_of(amount, count)

    assert sum(shares) == amount
    assert len(shares) == count
    assert shares == sorted(shares, reverse=True)
    assert shares[0] - shares[-1] <= 1
