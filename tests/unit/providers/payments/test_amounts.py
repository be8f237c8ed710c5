"""A provider's own table of decimals: a factor of a hundred must not happen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.kernel.money import AMOUNT_MAX, Currency
from tchatd.providers.payments.amounts import ProviderAmounts

# Rupiah without decimals, dong with two: the opposite of ISO, to see the table used.
ODD = ProviderAmounts({Currency.IDR: 0, Currency.VND: 2, Currency.THB: 2})


def test_amounts_follow_the_table_and_not_iso() -> None:
    assert ODD.to_provider(1_000_000, Currency.IDR) == 10_000
    assert ODD.to_provider(10_000, Currency.VND) == 1_000_000
    assert ODD.to_provider(10_000, Currency.THB) == 10_000


@given(st.integers(1, AMOUNT_MAX // 100), st.sampled_from(list(Currency)[:1]))
def test_there_and_back_is_the_same(amount: int, currency: Currency) -> None:
    assert ODD.to_minor(ODD.to_provider(amount, currency), currency) == amount


@given(st.integers(1, AMOUNT_MAX // 100))
def test_what_is_not_whole_there_is_refused(amount: int) -> None:
    if amount % 100:
        with pytest.raises(ValueError, match="not whole"):
            ODD.to_provider(amount, Currency.IDR)
    else:
        assert ODD.to_minor(ODD.to_provider(amount, Currency.IDR), Currency.IDR) == (
            amount
        )


def test_a_currency_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="USD is not taken"):
        ODD.to_provider(100, Currency.USD)
    with pytest.raises(ValueError, match="USD is not taken"):
        ODD.to_minor(100, Currency.USD)
