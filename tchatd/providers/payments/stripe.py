"""Owns top-ups and refunds by Stripe: PaymentIntents with promptpay, paynow and cards.

Sources: https://docs.stripe.com/api/payment_intents, /api/refunds, /api/errors,
/api/idempotent_requests, /error-low-level, /webhooks/signature, /currencies.

A PaymentIntent is made and confirmed in one call. Its idempotency key is the charge's;
Stripe keeps the answer for at least 24 hours, also a 500, so what a 500 left behind is
found by listing (`find`), never by another key. The key is in the metadata for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from tchatd.domains.payment.providers import (
    BadSignature,
    Capabilities,
    Charge,
    ChargeStarted,
    ChargeState,
    Declined,
    DeclineReason,
    DoubtReason,
    EventAbout,
    Health,
    InDoubt,
    Method,
    Move,
    MoveState,
    Offer,
    Payout,
    ProviderEvent,
    ProviderState,
    Refund,
    code_of,
)
from tchatd.kernel.money import Currency
from tchatd.providers.payments import stripe_objects as objects
from tchatd.providers.payments.amounts import ProviderAmounts
from tchatd.providers.payments.calls import (
    Answer,
    CallMetrics,
    CallSettings,
    ProviderCalls,
    decoded,
    read,
    refuse_by_status,
    refuse_ended,
    refuse_mismatch,
    refuse_unfit,
)
from tchatd.providers.payments.signatures import check_timed_header, header_of

NAME: Final = "stripe"
API_VERSION: Final = "2024-06-20"
SAME_KEY_S: Final = 23 * 3_600
"""Stripe keeps keys for at least 24 hours; an hour is for clocks and slow calls."""
SETTLE_S: Final = 600
PAGE: Final = 100
PAGES_MAX: Final = 20
CLOCKS_S: Final = 300
"""How far Stripe's clock may be from ours in a search by time."""
SIGNATURE: Final = "stripe-signature"
AMOUNTS: Final = ProviderAmounts(
    {currency: 0 if currency is Currency.VND else 2 for currency in Currency}
)
"""Stripe's zero-decimal currencies have VND among them, not IDR."""
_MINIMA: Final = {
    Currency.THB: 1_000,
    Currency.SGD: 50,
    Currency.MYR: 200,
    Currency.USD: 50,
    Currency.IDR: 1_000_000,
    Currency.PHP: 3_000,
    Currency.VND: 13_000,
}
"""Stripe's own where it names one; else about 0.50 USD, which it asks for at least."""
_MAXIMUM: Final = 99_999_999
"""Eight digits, of any currency."""
_CURRENCIES: Final[Mapping[str, Currency]] = {
    "TH": Currency.THB,
    "SG": Currency.SGD,
    "MY": Currency.MYR,
    "ID": Currency.IDR,
    "PH": Currency.PHP,
    "VN": Currency.VND,
}
_QR_TYPES: Final[Mapping[str, str]] = {"TH": "promptpay", "SG": "paynow"}


def capabilities(country: str) -> Capabilities:
    """Of an account registered in a country: QR codes of that country only, cards of
    all of them, in their own currency or in USD."""
    offers = [
        Offer(payer, Method.CREDIT_CARD, currency, _MINIMA[currency], _MAXIMUM)
        for payer, own in _CURRENCIES.items()
        for currency in (own, Currency.USD)
    ]
    if country == "TH":
        least = _MINIMA[Currency.THB]
        offers += [
            Offer("TH", method, Currency.THB, least, 15_000_000)
            for method in (Method.PROMPTPAY, Method.QR_PAYMENT)
        ]
    if country == "SG":
        offers.append(Offer("SG", Method.QR_PAYMENT, Currency.SGD, 50, 20_000_000))
    return Capabilities(topups=tuple(offers), refunds=True, same_key_s=SAME_KEY_S)


class StripeConnector:
    """A `PaymentConnector`. Close it with `aclose`.

    webhook_secrets: each as Stripe shows it (`whsec_…`); several while one is rotated.
    billing_email: where Stripe asks how to refund a QR payment; ours, so that it gets
    nobody's.
    """

    name = NAME
    settle_s = SETTLE_S

    def __init__(
        self,
        *,
        key: str,
        webhook_secrets: Sequence[str],
        country: str,
        billing_email: str,
        settings: CallSettings,
        metrics: CallMetrics,
        origin: str = "https://api.stripe.com",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capabilities = capabilities(country)
        self._secrets = [secret.encode() for secret in webhook_secrets]
        self._billing_email = billing_email
        self._metrics = metrics
        headers = {"stripe-version": API_VERSION, "authorization": f"Bearer {key}"}
        self._calls = ProviderCalls(
            NAME, origin, headers, settings, metrics, judge, now=now
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def health(self) -> Health:
        return self._calls.health()

    async def start_topup(self, charge: Charge) -> ChargeStarted:
        refuse_unfit(NAME, self._capabilities, charge)
        form = {
            "amount": str(AMOUNTS.to_provider(charge.amount_minor, charge.currency)),
            "currency": charge.currency.value.lower(),
            "confirm": "true",
            "metadata[tchatd_key]": charge.key,
            **self._method(charge),
        }
        if charge.description:
            form["description"] = charge.description
        answer = await self._calls.call(
            "start_topup",
            "POST",
            "/v1/payment_intents",
            form=form,
            headers={"idempotency-key": charge.key},
        )
        intent = read(NAME, answer, objects.PaymentIntent)
        state = _state(intent)
        refuse_mismatch(NAME, charge, state)
        refuse_ended(NAME, state)
        return objects.started(intent, state.state, charge.expires_at_ms)

    def _method(self, charge: Charge) -> dict[str, str]:
        """Raises: Declined, for a card without a token."""
        if charge.method is Method.CREDIT_CARD:
            if not charge.token:
                raise Declined(NAME, DeclineReason.INVALID_DETAILS, "no_token")
            form = {
                "payment_method": charge.token,
                "payment_method_types[0]": "card",
            }
            if charge.return_url:
                form["return_url"] = charge.return_url
            return form
        kind = _QR_TYPES[charge.country]
        form = {
            "payment_method_types[0]": kind,
            "payment_method_data[type]": kind,
        }
        if self._billing_email:
            form["payment_method_data[billing_details][email]"] = self._billing_email
        return form

    async def find(self, charge: Charge, until_ms: int) -> ProviderState | None:
        """By listing, which is exact; Stripe's search is late by up to a minute."""
        query = {
            "limit": str(PAGE),
            "created[gte]": str(charge.created_at_ms // 1000 - CLOCKS_S),
            "created[lte]": str(until_ms // 1000 + SETTLE_S),
        }
        for _ in range(PAGES_MAX):
            answer = await self._calls.call(
                "find", "GET", "/v1/payment_intents", query=query
            )
            page = read(NAME, answer, objects.PaymentIntents)
            for intent in page.data:
                if intent.metadata.get("tchatd_key") == charge.key:
                    return _state(intent)
            if not page.has_more or not page.data:
                return None
            query["starting_after"] = page.data[-1].id
        raise InDoubt(NAME, DoubtReason.TOO_LARGE)

    async def status(self, reference: str) -> ProviderState:
        answer = await self._calls.call(
            "status",
            "GET",
            f"/v1/payment_intents/{quote(reference, safe='')}",
            query={"expand[]": "latest_charge"},
        )
        return _state(read(NAME, answer, objects.PaymentIntent))

    async def cancel(self, reference: str) -> ProviderState:
        path = f"/v1/payment_intents/{quote(reference, safe='')}/cancel"
        try:
            answer = await self._calls.call("cancel", "POST", path, form={})
        except Declined as refusal:
            if refusal.reason is DeclineReason.WRONG_STATE:
                return await self.status(reference)
            raise
        return _state(read(NAME, answer, objects.PaymentIntent))

    async def refund(self, refund: Refund) -> Move:
        amount = AMOUNTS.to_provider(refund.amount_minor, refund.currency)
        answer = await self._calls.call(
            "refund",
            "POST",
            "/v1/refunds",
            form={
                "payment_intent": refund.reference,
                "amount": str(amount),
                "metadata[tchatd_key]": refund.key,
            },
            headers={"idempotency-key": refund.key},
        )
        found = _move(read(NAME, answer, objects.Refund))
        refuse_mismatch(NAME, refund, found)
        return found

    async def find_refund(self, refund: Refund) -> Move | None:
        query = {"limit": str(PAGE), "payment_intent": refund.reference}
        answer = await self._calls.call(
            "find_refund", "GET", "/v1/refunds", query=query
        )
        page = read(NAME, answer, objects.Refunds)
        for found in page.data:
            if found.metadata.get("tchatd_key") == refund.key:
                return _move(found)
        if page.has_more:
            raise InDoubt(NAME, DoubtReason.TOO_LARGE)
        return None

    async def payout(self, payout: Payout) -> Move:
        """Stripe pays out to our own account only."""
        raise Declined(NAME, DeclineReason.NOT_SUPPORTED)

    async def find_payout(self, payout: Payout) -> Move | None:
        return None

    def verify_webhook(
        self, headers: Mapping[str, str], body: bytes, now_ms: int
    ) -> tuple[ProviderEvent, ...]:
        return self._metrics.counted(
            NAME, lambda: (self._event(headers, body, now_ms),)
        )

    def _event(
        self, headers: Mapping[str, str], body: bytes, now_ms: int
    ) -> ProviderEvent:
        header = header_of(headers, SIGNATURE)
        check_timed_header(header, body, self._secrets, now_ms)
        try:
            return _event_of(decoded(body, objects.Event))
        except (msgspec.ValidationError, ValueError):
            raise BadSignature("it is signed and is no event") from None

    async def aclose(self) -> None:
        await self._calls.aclose()


def judge(answer: Answer) -> None:
    """Raises: Declined, NotProcessed, InDoubt: what an answer that is no 2xx means."""
    if 200 <= answer.status < 300:
        return
    try:
        error = decoded(answer.body, objects.Failure).error
    except ValueError:
        error = None
    code = code_of((error.decline_code or error.code) if error else "")
    refuse_by_status(NAME, answer, code)
    if error is None:
        # From something in between: whether Stripe has it, nobody says.
        raise InDoubt(NAME, DoubtReason.MALFORMED, f"status_{answer.status}")
    if answer.status == 409 or error.code == "idempotency_key_in_use":
        raise InDoubt(NAME, DoubtReason.IN_PROGRESS, code)
    if error.type == "idempotency_error":
        # Something was asked with this key before: that is what has to be found.
        raise InDoubt(NAME, DoubtReason.MISMATCH, code)
    if error.type == "api_error" or answer.status == 424:
        raise InDoubt(NAME, DoubtReason.SERVER_ERROR, code)
    reference = error.payment_intent.id if error.payment_intent else ""
    reason = objects.decline_reason(error.type, error.code, error.decline_code)
    if answer.status == 404:
        reason = DeclineReason.NOT_FOUND
    raise Declined(NAME, reason, code, reference)


def _state(intent: objects.PaymentIntent) -> ProviderState:
    """Raises: InDoubt, if it is in a state or a currency that we do not know."""
    try:
        return objects.state_of(intent, AMOUNTS)
    except ValueError:
        raise InDoubt(NAME, DoubtReason.MALFORMED) from None


def _move(refund: objects.Refund) -> Move:
    try:
        currency = Currency(refund.currency.upper())
        amount = AMOUNTS.to_minor(refund.amount, currency)
    except ValueError:
        raise InDoubt(NAME, DoubtReason.MALFORMED) from None
    state = MoveState.PENDING
    if refund.status == "succeeded":
        state = MoveState.DONE
    elif refund.status in ("failed", "canceled"):
        state = MoveState.FAILED
    return Move(
        reference=refund.id,
        state=state,
        amount_minor=amount,
        currency=currency,
        failure=DeclineReason.OTHER if state is MoveState.FAILED else None,
        code=code_of(refund.failure_reason),
    )


def _event_of(event: objects.Event) -> ProviderEvent:
    """Raises: ValueError, msgspec.ValidationError."""
    about, reference, state = EventAbout.OTHER, "", None
    kind = event.type
    if kind.startswith("payment_intent."):
        intent = msgspec.convert(event.data.object, objects.PaymentIntent)
        about, reference = EventAbout.CHARGE, intent.id
        if intent.currency.upper() in Currency.__members__:
            state = objects.state_of(intent, AMOUNTS)
    elif kind.startswith("charge.dispute."):
        about = EventAbout.DISPUTE
    elif kind.startswith(("refund.", "charge.refund")):
        about = EventAbout.REFUND
    if about in (EventAbout.DISPUTE, EventAbout.REFUND):
        reference = (
            msgspec.convert(event.data.object, objects.OfIntent).payment_intent or ""
        )
    is_end = state is not None and state.state in (
        ChargeState.PAID,
        ChargeState.CANCELLED,
    )
    return ProviderEvent(
        id=event.id,
        kind=kind,
        about=about,
        created_at_ms=event.created * 1000,
        reference=reference,
        state=state,
        needs_refetch=not is_end,
    )
