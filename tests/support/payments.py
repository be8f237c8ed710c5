"""Owns what tests of payment providers share: charges, quick settings, a clock."""

from __future__ import annotations

from typing import Any

from tchatd.domains.payment.providers import Charge, Destination, Method, Payout, Refund
from tchatd.kernel.money import Currency
from tchatd.observe.metrics import Metrics
from tchatd.providers.breaker import BreakerSettings
from tchatd.providers.payments.calls import CallMetrics, CallSettings

NOW_MS = 1_800_000_000_000
NOW_S = NOW_MS // 1000
NEVER_OPENS = BreakerSettings(calls_min=1_000_000)
# Of calls that are to be answered: never waited for. Of calls that are not: waited out.
PATIENT = CallSettings(connect_s=60, read_s=60, total_s=120, breaker=NEVER_OPENS)
IMPATIENT = CallSettings(connect_s=60, read_s=0.1, total_s=120, breaker=NEVER_OPENS)


def call_metrics() -> CallMetrics:
    return CallMetrics(Metrics(process=False))


def charge(**changes: Any) -> Charge:
    values: dict[str, Any] = {
        "key": "topup-1",
        "amount_minor": 10_050,
        "currency": Currency.THB,
        "country": "TH",
        "method": Method.PROMPTPAY,
        "created_at_ms": NOW_MS,
        "expires_at_ms": NOW_MS + 900_000,
        "description": "Top-up",
    }
    return Charge(**(values | changes))


def refund(reference: str, **changes: Any) -> Refund:
    values: dict[str, Any] = {
        "key": "refund-1",
        "reference": reference,
        "amount_minor": 10_050,
        "currency": Currency.THB,
        "created_at_ms": NOW_MS,
    }
    return Refund(**(values | changes))


def payout(**changes: Any) -> Payout:
    values: dict[str, Any] = {
        "key": "payout-1",
        "amount_minor": 50_000,
        "currency": Currency.THB,
        "country": "TH",
        "destination": Destination(
            bank="KBANK", account_number="9876543210", account_name="Somchai P."
        ),
        "created_at_ms": NOW_MS,
    }
    return Payout(**(values | changes))
