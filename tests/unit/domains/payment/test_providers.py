"""What is asked of providers: shapes that hold, failures that tell nothing private."""

from __future__ import annotations

from typing import Any

import pytest

from tchatd.domains.payment.providers import (
    Capabilities,
    Declined,
    DeclineReason,
    DoubtReason,
    InDoubt,
    Method,
    NotProcessed,
    NotProcessedReason,
    Offer,
    code_of,
)
from tchatd.kernel.money import Currency
from tests.support.payments import NOW_MS, charge, payout, refund


@pytest.mark.parametrize(
    "changes",
    [
        {"key": ""},
        {"key": "a b"},
        {"key": "x" * 256},
        {"key": "ключ"},
        {"amount_minor": 0},
        {"amount_minor": -1},
        {"amount_minor": 10**15 + 1},
        {"country": "tha"},
        {"description": "x" * 201},
        {"expires_at_ms": NOW_MS},
    ],
)
def test_a_charge_that_nobody_may_ask_for_is_a_mistake_of_ours(
    changes: dict[str, Any],
) -> None:
    with pytest.raises(AssertionError):
        charge(**changes)


@pytest.mark.parametrize("changes", [{"amount_minor": 0}, {"key": ""}])
def test_so_is_a_refund_and_a_payout(changes: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        refund("x", **changes)
    with pytest.raises(AssertionError):
        payout(**changes)


def test_an_offer_has_ends_in_order() -> None:
    with pytest.raises(AssertionError):
        Offer("TH", Method.PROMPTPAY, Currency.THB, 200, 100)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"amount_minor": 100}, None),
        ({"amount_minor": 20_000}, None),
        ({"amount_minor": 99}, DeclineReason.LIMIT_EXCEEDED),
        ({"amount_minor": 20_001}, DeclineReason.LIMIT_EXCEEDED),
        ({"country": "SG"}, DeclineReason.NOT_SUPPORTED),
        ({"currency": Currency.USD}, DeclineReason.NOT_SUPPORTED),
        ({"method": Method.CREDIT_CARD}, DeclineReason.NOT_SUPPORTED),
    ],
)
def test_what_is_not_offered_is_refused_before_it_is_sent(
    changes: dict[str, Any], reason: DeclineReason | None
) -> None:
    offer = Offer("TH", Method.PROMPTPAY, Currency.THB, 100, 20_000)
    assert Capabilities(topups=(offer,)).refusal(charge(**changes)) is reason


def test_failures_and_shapes_show_nothing_private() -> None:
    of = charge(token="tokn_private", description="for Somchai")
    for text in ("tokn_private", "Somchai"):
        assert text not in repr(of)
    for text in ("9876543210", "Somchai"):
        assert text not in repr(payout())
    assert str(Declined("omise", DeclineReason.OTHER, "card_x")) == (
        "omise: other (card_x)"
    )
    assert str(InDoubt("omise", DoubtReason.TIMEOUT)) == "omise: timeout"
    assert (
        str(NotProcessed("omise", NotProcessedReason.BUSY, retry_after_s=3))
        == "omise: busy"
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("card_declined", "card_declined"),
        (None, ""),
        (7, ""),
        ("Somchai P.", ""),
        ("4242424242424242", ""),
        ("x" * 65, ""),
        ("a@b.example", ""),
    ],
)
def test_a_code_is_a_code_or_nothing(text: object, code: str) -> None:
    assert code_of(text) == code
