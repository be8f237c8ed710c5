"""Owns the shape of what Stripe answers and sends, and what its states and codes mean.

Only what is used is read. Sources: https://docs.stripe.com/api/payment_intents/object,
/api/refunds/object, /api/errors, /api/events, /error-codes, /declines/codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from tchatd.domains.payment.providers import (
    ChargeStarted,
    ChargeState,
    DeclineReason,
    ProviderState,
    code_of,
)
from tchatd.kernel.money import Currency
from tchatd.providers.payments.amounts import ProviderAmounts

Id = Annotated[str, Meta(min_length=1, max_length=255)]
Amount = Annotated[int, Meta(ge=0, le=10**15)]
Url = Annotated[str, Meta(max_length=4_096)]


class QrCode(Struct, frozen=True):
    data: Annotated[str, Meta(max_length=1_024)] = ""
    hosted_instructions_url: Url | None = None
    image_url_png: Url | None = None
    image_url_svg: Url | None = None


class Redirect(Struct, frozen=True):
    url: Url | None = None


class NextAction(Struct, frozen=True):
    type: str = ""
    promptpay_display_qr_code: QrCode | None = None
    paynow_display_qr_code: QrCode | None = None
    redirect_to_url: Redirect | None = None


class PaymentError(Struct, frozen=True):
    type: str | None = None
    code: str | None = None
    decline_code: str | None = None


class LatestCharge(Struct, frozen=True):
    amount_refunded: Amount = 0


class PaymentIntent(Struct, frozen=True, kw_only=True):
    id: Id
    status: str
    amount: Amount
    currency: str
    amount_received: Amount = 0
    metadata: dict[str, str] = {}
    next_action: NextAction | None = None
    last_payment_error: PaymentError | None = None
    latest_charge: str | LatestCharge | None = None


class PaymentIntents(Struct, frozen=True):
    data: list[PaymentIntent]
    has_more: bool


class Refund(Struct, frozen=True, kw_only=True):
    id: Id
    amount: Amount
    currency: str
    status: str | None = None
    failure_reason: str | None = None
    metadata: dict[str, str] = {}


class Refunds(Struct, frozen=True):
    data: list[Refund]
    has_more: bool


class Named(Struct, frozen=True):
    id: Id


class ApiError(Struct, frozen=True):
    """Its message is not read: it may say what was sent."""

    type: str
    code: str | None = None
    decline_code: str | None = None
    payment_intent: Named | None = None


class Failure(Struct, frozen=True):
    error: ApiError


class OfIntent(Struct, frozen=True):
    payment_intent: str | None = None


class EventData(Struct, frozen=True):
    object: dict[str, Any]


class Event(Struct, frozen=True):
    id: Id
    type: Annotated[str, Meta(min_length=1, max_length=128)]
    created: Annotated[int, Meta(ge=0, le=10**11)]
    data: EventData


_STATES: Final[Mapping[str, ChargeState]] = {
    "requires_payment_method": ChargeState.PENDING,
    "requires_confirmation": ChargeState.PENDING,
    "requires_action": ChargeState.PENDING,
    "processing": ChargeState.PROCESSING,
    "requires_capture": ChargeState.PROCESSING,
    "succeeded": ChargeState.PAID,
    "canceled": ChargeState.CANCELLED,
}
_EXPIRED: Final = "payment_intent_payment_attempt_expired"
_REASONS: Final[Mapping[str, DeclineReason]] = {
    "insufficient_funds": DeclineReason.INSUFFICIENT_FUNDS,
    "card_velocity_exceeded": DeclineReason.LIMIT_EXCEEDED,
    "withdrawal_count_limit_exceeded": DeclineReason.LIMIT_EXCEEDED,
    "amount_too_large": DeclineReason.LIMIT_EXCEEDED,
    "amount_too_small": DeclineReason.LIMIT_EXCEEDED,
    "expired_card": DeclineReason.EXPIRED_METHOD,
    "authentication_required": DeclineReason.AUTHENTICATION_FAILED,
    "payment_intent_authentication_failure": DeclineReason.AUTHENTICATION_FAILED,
    "fraudulent": DeclineReason.SUSPECTED_FRAUD,
    "stolen_card": DeclineReason.SUSPECTED_FRAUD,
    "lost_card": DeclineReason.SUSPECTED_FRAUD,
    "merchant_blacklist": DeclineReason.SUSPECTED_FRAUD,
    "pickup_card": DeclineReason.SUSPECTED_FRAUD,
    "incorrect_number": DeclineReason.INVALID_DETAILS,
    "incorrect_cvc": DeclineReason.INVALID_DETAILS,
    "invalid_cvc": DeclineReason.INVALID_DETAILS,
    "invalid_expiry_month": DeclineReason.INVALID_DETAILS,
    "invalid_expiry_year": DeclineReason.INVALID_DETAILS,
    "invalid_number": DeclineReason.INVALID_DETAILS,
    "currency_not_supported": DeclineReason.NOT_SUPPORTED,
    "card_not_supported": DeclineReason.NOT_SUPPORTED,
    "resource_missing": DeclineReason.NOT_FOUND,
    "payment_intent_unexpected_state": DeclineReason.WRONG_STATE,
    "charge_already_refunded": DeclineReason.WRONG_STATE,
    "charge_disputed": DeclineReason.WRONG_STATE,
}


def decline_reason(
    type: str | None, code: str | None, decline_code: str | None
) -> DeclineReason:
    """The issuer's word before Stripe's."""
    for word in (decline_code, code):
        if word is not None and word in _REASONS:
            return _REASONS[word]
    if type == "invalid_request_error":
        return DeclineReason.INVALID_DETAILS
    return DeclineReason.OTHER


def state_of(intent: PaymentIntent, amounts: ProviderAmounts) -> ProviderState:
    """A failed attempt goes back to requires_payment_method, with its error; nobody
    but us could try another way, and we do not.

    Raises: ValueError, for a state or a currency that we do not know.
    """
    state = _STATES.get(intent.status)
    if state is None:
        raise ValueError("an unknown state")
    currency = Currency(intent.currency.upper())
    failure, code = None, ""
    error = intent.last_payment_error
    if intent.status == "requires_payment_method" and error is not None:
        is_late = error.code == _EXPIRED
        state = ChargeState.EXPIRED if is_late else ChargeState.FAILED
        code = code_of(error.decline_code or error.code)
        failure = decline_reason(error.type, error.code, error.decline_code)
    is_paid = state is ChargeState.PAID
    amount = intent.amount_received if is_paid else intent.amount
    latest = intent.latest_charge
    refunded = latest.amount_refunded if isinstance(latest, LatestCharge) else 0
    return ProviderState(
        reference=intent.id,
        state=state,
        amount_minor=amounts.to_minor(amount, currency),
        currency=currency,
        refunded_minor=amounts.to_minor(refunded, currency),
        failure=failure,
        code=code,
    )


def started(
    intent: PaymentIntent, state: ChargeState, expires_at_ms: int
) -> ChargeStarted:
    action = intent.next_action or NextAction()
    qr = action.promptpay_display_qr_code or action.paynow_display_qr_code
    if qr is not None:
        return ChargeStarted(
            reference=intent.id,
            state=state,
            expires_at_ms=expires_at_ms,
            payment_url=qr.hosted_instructions_url,
            qr_payload=qr.data or None,
            qr_image_url=qr.image_url_svg or qr.image_url_png,
        )
    redirect = action.redirect_to_url
    return ChargeStarted(
        reference=intent.id,
        state=state,
        expires_at_ms=expires_at_ms,
        payment_url=redirect.url if redirect is not None else None,
    )
