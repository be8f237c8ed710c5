"""Which payment providers there are, and which one is asked."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest

from tchatd.app.configuration import load
from tchatd.app.payments import Payments
from tchatd.app.secrets import PaymentSecrets
from tchatd.domains.payment.providers import Method, NotProcessed
from tchatd.domains.payment.routing import Wanted
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.money import Currency
from tchatd.observe import logging
from tchatd.observe.metrics import Metrics
from tchatd.stores.memory.sandbox import MemorySandboxStore
from tests.support.payments import charge
from tests.support.provider_faults import a_port_that_refuses

SECRETS = PaymentSecrets(
    stripe_key="sk_private",
    stripe_webhook=("whsec_private_0123",),
    omise_key="skey_private",
    omise_webhook=(base64.b64encode(b"0123456789abcdef").decode(),),
    bank_key="bank_private",
    bank_webhook=("bank_webhook_private",),
)
ALL = {
    "STRIPE_ENABLED": "true",
    "STRIPE_BILLING_EMAIL": "payments@tchat.example",
    "OMISE_ENABLED": "true",
    "BANK_TRANSFER_ENABLED": "true",
    "BANK_TRANSFER_ORIGIN": "http://127.0.0.1:9100",
    "BANK_TRANSFER_ACCOUNTS": "TH THB KBANK 0123456789 Tchat Company Limited",
}


def payments(**environment: str) -> Payments:
    prefix = "TCHATD_PROVIDERS_PAYMENTS_"
    settings = load(None, {f"{prefix}{key}": v for key, v in environment.items()})
    return Payments(
        settings.providers.payments,
        SECRETS,
        MemorySandboxStore(),
        ManualClock(),
        Metrics(process=False),
        sandbox_secret=b"s" * 32,
    )


def wanted(country: str = "TH", **changes: Any) -> Wanted:
    values: dict[str, Any] = {
        "kind": "topup",
        "country": country,
        "method": Method.CREDIT_CARD,
        "currency": Currency.USD,
        "amount_minor": 10_000,
    }
    return Wanted(**(values | changes))


async def test_only_what_is_enabled_is_there() -> None:
    sandbox = payments()
    assert set(sandbox.connectors) == {"sandbox"}
    assert sandbox.sandbox is sandbox.connectors["sandbox"]
    everything = payments(**ALL, SANDBOX_ENABLED="false")
    assert set(everything.connectors) == {"stripe", "omise", "bank_transfer"}
    assert everything.sandbox is None
    assert {c.name for c in everything.connectors.values()} == set(
        everything.connectors
    )
    await everything.aclose()
    await sandbox.aclose()


@pytest.mark.parametrize(
    ("country", "currency", "method", "order"),
    [
        ("TH", Currency.USD, Method.CREDIT_CARD, ("omise", "stripe", "sandbox")),
        ("SG", Currency.SGD, Method.CREDIT_CARD, ("stripe", "omise", "sandbox")),
        ("MY", Currency.MYR, Method.CREDIT_CARD, ("stripe", "omise", "sandbox")),
        ("VN", Currency.USD, Method.CREDIT_CARD, ("stripe", "omise", "sandbox")),
        ("ID", Currency.IDR, Method.CREDIT_CARD, ("stripe", "sandbox")),
        ("PH", Currency.PHP, Method.CREDIT_CARD, ("stripe", "sandbox")),
        ("TH", Currency.THB, Method.PROMPTPAY, ("omise", "sandbox")),
        ("SG", Currency.SGD, Method.QR_PAYMENT, ("stripe", "sandbox")),
        ("TH", Currency.THB, Method.BANK_TRANSFER, ("bank_transfer", "sandbox")),
        ("VN", Currency.VND, Method.QR_PAYMENT, ("sandbox",)),
    ],
)
async def test_the_defaults_choose_as_the_facts_say(
    country: str, currency: Currency, method: Method, order: tuple[str, ...]
) -> None:
    made = payments(**ALL)
    amount = 1_000_000
    choice = made.choose(
        wanted(country, currency=currency, method=method, amount_minor=amount)
        if currency is not Currency.USD
        else wanted(country, method=method)
    )
    assert choice.order == order
    await made.aclose()


async def test_a_choice_is_logged_with_its_reasons_and_nothing_private() -> None:
    made = payments(**ALL)
    written = io.StringIO()
    logging.configure(format="json", stream=written)
    try:
        made.choose(wanted("SG", currency=Currency.SGD))
    finally:
        logging.configure()
    said = written.getvalue()
    assert '"chosen":"stripe"' in said.replace(" ", "")
    assert "preferred, fee 320" in said
    assert "not bank_transfer: country" in said
    assert "private" not in said
    await made.aclose()


async def test_who_is_away_is_asked_no_more_and_the_other_one_is() -> None:
    made = payments(
        **ALL,
        OMISE_ORIGIN=await a_port_that_refuses(),
        BREAKER_CALLS_MIN="2",
        SANDBOX_ENABLED="false",
    )
    card = charge(method=Method.CREDIT_CARD, token="tokn_1", currency=Currency.USD)
    assert made.choose(wanted()).chosen == "omise"
    for _ in range(2):
        with pytest.raises(NotProcessed):
            await made.connectors["omise"].start_topup(card)
    assert made.choose(wanted(), frozenset({"omise"})).chosen == "stripe"
    assert made.choose(wanted()).chosen == "stripe"
    assert made.connectors["omise"].health().breaker == "open"
    await made.aclose()
