"""The settings of payment providers: what is at odds, and what production refuses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tchatd.app.configuration import keys, load
from tchatd.app.payment_settings import (
    PaymentProviders,
    accounts,
    broken_relations,
    call_settings,
    enabled,
    fee_schedule,
    unsafe_in_production,
)
from tchatd.kernel.money import Currency

ACCOUNT = "TH THB KBANK 0123456789 Tchat Company Limited"


@pytest.fixture(scope="module")
def defaults() -> PaymentProviders:
    return load(None, {}).providers.payments


def changed(of: PaymentProviders, **values: Any) -> PaymentProviders:
    """`stripe__enabled=True` for stripe.enabled, unchecked."""
    plain = msgspec.to_builtins(of)
    for name, value in values.items():
        *sections, last = name.split("__")
        inner = plain
        for section in sections:
            inner = inner[section]
        inner[last] = value
    return msgspec.convert(plain, PaymentProviders)


def test_by_default_there_is_the_sandbox_and_all_of_it_holds(
    defaults: PaymentProviders,
) -> None:
    assert enabled(defaults) == ["sandbox"]
    assert list(broken_relations(defaults)) == []
    assert call_settings(defaults).total_s == 30
    assert call_settings(defaults).breaker.failure_percent == 50


def test_the_fees_are_those_that_are_published(defaults: PaymentProviders) -> None:
    stripe, omise = fee_schedule(defaults.stripe), fee_schedule(defaults.omise)
    assert stripe.fee(10_000, Currency.THB) == 320
    assert omise.fee(10_000, Currency.THB) == 300
    assert stripe.fee(100_000, Currency.VND) == 2_900
    assert fee_schedule(defaults.bank_transfer).fee(10_000, Currency.THB) == 0


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"prefer": ["TH nobody"]}, "prefer"),
        ({"prefer": ["TH"]}, "prefer"),
        ({"total_s": 24.9}, "total_s"),
        ({"stripe__fee_fixed_minor": ["THB 0.30"]}, "stripe.fee_fixed_minor"),
        ({"omise__enabled": True, "omise__origin": "api.omise.co"}, "omise.origin"),
        (
            {"omise__enabled": True, "omise__origin": "https://a@omise.co"},
            "omise.origin",
        ),
        (
            {"omise__enabled": True, "omise__origin": "https://omise.co/v1"},
            "omise.origin",
        ),
        (
            {"omise__enabled": True, "omise__origin": "https://omise.co:99999"},
            "omise.origin",
        ),
        ({"stripe__enabled": True}, "stripe.billing_email"),
        (
            {
                "bank_transfer__enabled": True,
                "bank_transfer__origin": "http://127.0.0.1:9",
            },
            "bank_transfer.accounts",
        ),
        ({"bank_transfer__accounts": ["TH"]}, "bank_transfer.accounts"),
        ({"bank_transfer__accounts": [ACCOUNT] * 2}, "bank_transfer.accounts"),
    ],
)
def test_what_is_at_odds_is_named(
    defaults: PaymentProviders, values: dict[str, Any], key: str
) -> None:
    broken = [name for name, _ in broken_relations(changed(defaults, **values))]
    assert broken == [f"providers.payments.{key}"]
    assert set(broken) <= set(keys())


def test_an_account_is_read(defaults: PaymentProviders) -> None:
    of = changed(defaults, bank_transfer__accounts=[ACCOUNT])
    [account] = accounts(of.bank_transfer)
    assert (account.country, account.currency) == ("TH", Currency.THB)
    assert account.name == "Tchat Company Limited"


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({}, "sandbox.enabled"),
        (
            {
                "sandbox__enabled": False,
                "omise__enabled": True,
                "omise__origin": "http://api.omise.co",
            },
            "omise.origin",
        ),
    ],
)
def test_production_refuses_the_sandbox_and_plain_http_to_others(
    defaults: PaymentProviders, values: dict[str, Any], key: str
) -> None:
    unsafe = [name for name, _ in unsafe_in_production(changed(defaults, **values))]
    assert unsafe == [f"providers.payments.{key}"]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_a_program_on_this_machine_may_speak_plain_http(
    defaults: PaymentProviders, host: str
) -> None:
    of = changed(
        defaults,
        sandbox__enabled=False,
        bank_transfer__enabled=True,
        bank_transfer__origin=f"http://{host}:9100",
        bank_transfer__accounts=[ACCOUNT],
    )
    assert list(unsafe_in_production(of)) == []
    assert list(broken_relations(of)) == []
