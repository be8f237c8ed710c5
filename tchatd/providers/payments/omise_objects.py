"""Owns the shape of what Omise answers and sends, and what its states and codes mean.

Only what is used is read. Sources: https://docs.omise.co/charges-api, /sources-api,
/refunds-api, /events-api, /api-errors, /promptpay (version 2019-05-29).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from tchatd.domains.payment.providers import (
    ChargeStarted,
    ChargeState,
    DeclineReason,
    Move,
    MoveState,
    ProviderState,
    code_of,
)
from tchatd.kernel.clock import moment_ms
from tchatd.kernel.money import Currency
from tchatd.providers.payments.amounts import ProviderAmounts

Id = Annotated[str, Meta(min_length=1, max_length=255)]
Amount = Annotated[int, Meta(ge=0, le=10**15)]
Url = Annotated[str, Meta(max_length=4_096)]
Moment = Annotated[datetime, Meta(tz=True)]


class Document(Struct, frozen=True):
    download_uri: Url | None = None


class ScannableCode(Struct, frozen=True):
    image: Document | None = None


class Source(Struct, frozen=True):
    type: str = ""
    scannable_code: ScannableCode | None = None


class Charge(Struct, frozen=True, kw_only=True):
    """refunded_amount is `refunded` in older versions."""

    id: Id
    status: str
    amount: Amount
    currency: str
    paid: bool = False
    expired: bool = False
    reversed: bool = False
    refunded_amount: Amount = 0
    metadata: dict[str, Any] = {}
    source: Source | None = None
    authorize_uri: Url | None = None
    failure_code: str | None = None
    expires_at: Moment | None = None


class Charges(Struct, frozen=True):
    data: list[Charge]
    total: Annotated[int, Meta(ge=0)]


class Refund(Struct, frozen=True, kw_only=True):
    id: Id
    amount: Amount
    currency: str
    status: str = "closed"
    metadata: dict[str, Any] = {}


class Refunds(Struct, frozen=True):
    data: list[Refund]
    total: Annotated[int, Meta(ge=0)]


class Failure(Struct, frozen=True):
    """Its message is not read: it may say what was sent."""

    object: str
    code: str


class EventData(Struct, frozen=True):
    """Of a charge its own id; of a refund or a dispute the charge's in `charge`."""

    object: str
    id: Id
    charge: str | dict[str, Any] | None = None


class Event(Struct, frozen=True):
    object: str
    id: Id
    key: Annotated[str, Meta(min_length=1, max_length=128)]
    created_at: Moment
    data: EventData


_REASONS: Final[Mapping[str, DeclineReason]] = {
    "insufficient_fund": DeclineReason.INSUFFICIENT_FUNDS,
    "insufficient_balance": DeclineReason.INSUFFICIENT_FUNDS,
    "limit_exceeded": DeclineReason.LIMIT_EXCEEDED,
    "stolen_or_lost_card": DeclineReason.SUSPECTED_FRAUD,
    "failed_fraud_check": DeclineReason.SUSPECTED_FRAUD,
    "invalid_security_code": DeclineReason.INVALID_DETAILS,
    "invalid_account": DeclineReason.INVALID_DETAILS,
    "invalid_account_number": DeclineReason.INVALID_DETAILS,
    "invalid_card": DeclineReason.INVALID_DETAILS,
    "invalid_card_token": DeclineReason.INVALID_DETAILS,
    "missing_card": DeclineReason.INVALID_DETAILS,
    "invalid_charge": DeclineReason.INVALID_DETAILS,
    "bad_request": DeclineReason.INVALID_DETAILS,
    "used_token": DeclineReason.WRONG_STATE,
    "failed_expire": DeclineReason.WRONG_STATE,
    "failed_capture": DeclineReason.WRONG_STATE,
    "failed_refund": DeclineReason.WRONG_STATE,
    "failed_void": DeclineReason.WRONG_STATE,
    "expired_charge": DeclineReason.WRONG_STATE,
    "brand_not_supported": DeclineReason.NOT_SUPPORTED,
    "currency_not_supported": DeclineReason.NOT_SUPPORTED,
    "not_supported": DeclineReason.NOT_SUPPORTED,
    "not_found": DeclineReason.NOT_FOUND,
    "payment_cancelled": DeclineReason.AUTHENTICATION_FAILED,
    "payment_rejected": DeclineReason.AUTHENTICATION_FAILED,
}


def decline_reason(code: str | None) -> DeclineReason:
    return _REASONS.get(code or "", DeclineReason.OTHER)


def state_of(charge: Charge, amounts: ProviderAmounts) -> ProviderState:
    """Raises: ValueError, for a state or a currency that we do not know."""
    currency = Currency(charge.currency.upper())
    failure, code = None, ""
    state = _state(charge)
    if state is ChargeState.FAILED:
        failure = decline_reason(charge.failure_code)
        code = code_of(charge.failure_code)
    return ProviderState(
        reference=charge.id,
        state=state,
        amount_minor=amounts.to_minor(charge.amount, currency),
        currency=currency,
        refunded_minor=amounts.to_minor(charge.refunded_amount, currency),
        failure=failure,
        code=code,
    )


def _state(charge: Charge) -> ChargeState:
    """Money that came in goes before all else that is said of a charge. `successful`
    without `paid` is an authorisation that we did not ask for."""
    if charge.status == "successful":
        return ChargeState.PAID if charge.paid else ChargeState.PROCESSING
    if charge.status == "expired" or charge.expired:
        return ChargeState.EXPIRED
    if charge.status == "reversed" or charge.reversed:
        return ChargeState.CANCELLED
    if charge.status == "failed":
        return ChargeState.FAILED
    if charge.status == "pending":
        return ChargeState.PENDING
    raise ValueError("an unknown state")


def started(charge: Charge, state: ChargeState, expires_at_ms: int) -> ChargeStarted:
    """The QR code is a picture; Omise gives no text of it. expires_at_ms: what was
    asked, unless Omise says."""
    code = charge.source.scannable_code if charge.source is not None else None
    image = code.image.download_uri if code and code.image else None
    if charge.expires_at is not None:
        expires_at_ms = moment_ms(charge.expires_at.astimezone(UTC))
    return ChargeStarted(
        reference=charge.id,
        state=state,
        expires_at_ms=expires_at_ms,
        payment_url=charge.authorize_uri or image,
        qr_image_url=image,
    )


def move_of(refund: Refund, amounts: ProviderAmounts) -> Move:
    """Raises: ValueError, for a currency that we do not know."""
    currency = Currency(refund.currency.upper())
    state = MoveState.PENDING
    if refund.status == "closed":
        state = MoveState.DONE
    elif refund.status in ("failed", "rejected"):
        state = MoveState.FAILED
    return Move(
        reference=refund.id,
        state=state,
        amount_minor=amounts.to_minor(refund.amount, currency),
        currency=currency,
        failure=DeclineReason.OTHER if state is MoveState.FAILED else None,
    )
