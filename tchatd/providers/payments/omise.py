"""Owns top-ups and refunds by Omise: charges of a source (PromptPay, PayNow, DuitNow)
or of a card's token.

Sources: https://docs.omise.co/charges-api, /promptpay, /refunds-api, /events-api,
/api-errors, /api-rate-limiting, /currency-and-amount, /api-webhooks.

Omise's reference promises no idempotency of its API (a draft of its next documentation
does, for 24 hours). So the key is sent, and nothing relies on it: `same_key_s` is 0,
and a charge that is in doubt is found by listing, by the key in its metadata. For the
same reason an event is a hint: the charge is fetched before it is believed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from tchatd.domains.payment.providers import (
    BadSignature,
    Capabilities,
    Charge,
    ChargeStarted,
    Declined,
    DeclineReason,
    DoubtReason,
    EventAbout,
    Health,
    InDoubt,
    Method,
    Move,
    Offer,
    Payout,
    ProviderEvent,
    ProviderState,
    Refund,
    code_of,
)
from tchatd.kernel.clock import moment_ms
from tchatd.kernel.money import Currency
from tchatd.providers.payments import omise_objects as objects
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
from tchatd.providers.payments.signatures import check_listed_header, header_of

NAME: Final = "omise"
API_VERSION: Final = "2019-05-29"
SETTLE_S: Final = 900
PAGE: Final = 100
PAGES_MAX: Final = 20
CLOCKS_S: Final = 300
SIGNATURE: Final = "omise-signature"
TIMESTAMP: Final = "omise-signature-timestamp"
AMOUNTS: Final = ProviderAmounts(dict.fromkeys(Currency, 2))
"""Yen is the only currency without decimals at Omise; a dong would have two."""
_QR_TYPES: Final[Mapping[str, tuple[str, Currency]]] = {
    "TH": ("promptpay", Currency.THB),
    "SG": ("paynow", Currency.SGD),
    "MY": ("duitnow_qr", Currency.MYR),
}
_QR_LIMITS: Final[Mapping[str, tuple[int, int]]] = {
    "TH": (2_000, 15_000_000),
    "SG": (100, 20_000_000),
    "MY": (100, 3_000_000),
}
_CARD_LIMITS: Final[Mapping[Currency, tuple[int, int]]] = {
    Currency.THB: (2_000, 15_000_000),
    Currency.SGD: (100, 2_000_000),
    Currency.MYR: (100, 3_000_000),
    Currency.USD: (100, 500_000),
}
"""What an account has unless it was agreed otherwise. Rupiah, pesos and dong are not
charged by Omise."""
_PAYERS: Final = ("TH", "SG", "MY", "ID", "PH", "VN")
# Answered with 400, and the bank behind Omise may have the request.
_AMBIGUOUS_CODES: Final = frozenset({"backend_error", "internal_error"})


def capabilities(country: str) -> Capabilities:
    """Of an account registered in a country: its QR scheme there; cards of anybody, in
    the currencies that Omise charges."""
    offers = [
        Offer(payer, Method.CREDIT_CARD, currency, *limits)
        for payer in _PAYERS
        for currency, limits in _CARD_LIMITS.items()
    ]
    if country in _QR_TYPES:
        _, currency = _QR_TYPES[country]
        offers.append(Offer(country, Method.QR_PAYMENT, currency, *_QR_LIMITS[country]))
    if country == "TH":
        offers.append(Offer("TH", Method.PROMPTPAY, Currency.THB, *_QR_LIMITS["TH"]))
    return Capabilities(topups=tuple(offers), refunds=True, same_key_s=0)


class OmiseConnector:
    """A `PaymentConnector`. Close it with `aclose`.

    key: the secret one (`skey_…`). webhook_secrets: decoded from base64; several while
    one is rotated.
    """

    name = NAME
    settle_s = SETTLE_S

    def __init__(
        self,
        *,
        key: str,
        webhook_secrets: Sequence[bytes],
        country: str,
        settings: CallSettings,
        metrics: CallMetrics,
        origin: str = "https://api.omise.co",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capabilities = capabilities(country)
        self._secrets = list(webhook_secrets)
        self._metrics = metrics
        self._calls = ProviderCalls(
            NAME,
            origin,
            {"omise-version": API_VERSION},
            settings,
            metrics,
            judge,
            auth=(key, ""),
            now=now,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def health(self) -> Health:
        return self._calls.health()

    async def start_topup(self, charge: Charge) -> ChargeStarted:
        """Source and charge in one call, so that there is one thing to be in doubt."""
        refuse_unfit(NAME, self._capabilities, charge)
        form = {
            "amount": str(AMOUNTS.to_provider(charge.amount_minor, charge.currency)),
            "currency": charge.currency.value,
            "metadata[tchatd_key]": charge.key,
            "expires_at": _moment(charge.expires_at_ms),
            **_method(charge),
        }
        if charge.description:
            form["description"] = charge.description
        answer = await self._calls.call(
            "start_topup",
            "POST",
            "/charges",
            form=form,
            headers={"idempotency-key": charge.key},
        )
        made = read(NAME, answer, objects.Charge)
        state = _state(made)
        refuse_mismatch(NAME, charge, state)
        refuse_ended(NAME, state)
        return objects.started(made, state.state, charge.expires_at_ms)

    async def find(self, charge: Charge, until_ms: int) -> ProviderState | None:
        """By listing those of the time in which it was attempted."""
        query = {
            "from": _moment(charge.created_at_ms - CLOCKS_S * 1000),
            "to": _moment(until_ms + SETTLE_S * 1000),
            "order": "chronological",
            "limit": str(PAGE),
        }
        for page_index in range(PAGES_MAX):
            offset = page_index * PAGE
            query["offset"] = str(offset)
            answer = await self._calls.call("find", "GET", "/charges", query=query)
            page = read(NAME, answer, objects.Charges)
            for found in page.data:
                if found.metadata.get("tchatd_key") == charge.key:
                    return _state(found)
            if not page.data or offset + len(page.data) >= page.total:
                return None
        raise InDoubt(NAME, DoubtReason.TOO_LARGE)

    async def status(self, reference: str) -> ProviderState:
        answer = await self._calls.call("status", "GET", _path(reference))
        return _state(read(NAME, answer, objects.Charge))

    async def cancel(self, reference: str) -> ProviderState:
        """Omise has no cancelling of what waits for its payer: it expires it."""
        path = f"{_path(reference)}/expire"
        try:
            answer = await self._calls.call("cancel", "POST", path, form={})
        except Declined as refusal:
            if refusal.reason is DeclineReason.WRONG_STATE:
                return await self.status(reference)
            raise
        return _state(read(NAME, answer, objects.Charge))

    async def refund(self, refund: Refund) -> Move:
        answer = await self._calls.call(
            "refund",
            "POST",
            f"{_path(refund.reference)}/refunds",
            form={
                "amount": str(
                    AMOUNTS.to_provider(refund.amount_minor, refund.currency)
                ),
                "metadata[tchatd_key]": refund.key,
            },
            headers={"idempotency-key": refund.key},
        )
        found = _move(read(NAME, answer, objects.Refund))
        refuse_mismatch(NAME, refund, found)
        return found

    async def find_refund(self, refund: Refund) -> Move | None:
        """A charge has at most 15 of them, so they are on one page."""
        path = f"{_path(refund.reference)}/refunds"
        query = {"limit": str(PAGE)}
        answer = await self._calls.call("find_refund", "GET", path, query=query)
        page = read(NAME, answer, objects.Refunds)
        for found in page.data:
            if found.metadata.get("tchatd_key") == refund.key:
                return _move(found)
        if page.total > len(page.data):
            raise InDoubt(NAME, DoubtReason.TOO_LARGE)
        return None

    async def payout(self, payout: Payout) -> Move:
        """Transfers to recipients have to be verified by Omise first, by hand."""
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
        signatures = header_of(headers, SIGNATURE)
        at = header_of(headers, TIMESTAMP)
        check_listed_header(signatures, at, body, self._secrets, now_ms)
        try:
            event = decoded(body, objects.Event)
        except ValueError:
            raise BadSignature("it is signed and is no event") from None
        about, reference = _about(event)
        return ProviderEvent(
            id=event.id,
            kind=event.key,
            about=about,
            created_at_ms=moment_ms(event.created_at.astimezone(UTC)),
            reference=reference,
        )

    async def aclose(self) -> None:
        await self._calls.aclose()


def judge(answer: Answer) -> None:
    """Raises: Declined, NotProcessed, InDoubt: what an answer that is no 2xx means."""
    if 200 <= answer.status < 300:
        return
    try:
        error = decoded(answer.body, objects.Failure)
    except ValueError:
        error = None
    code = code_of(error.code) if error else ""
    refuse_by_status(NAME, answer, code)
    if error is None or error.object != "error":
        raise InDoubt(NAME, DoubtReason.MALFORMED, f"status_{answer.status}")
    if answer.status == 409 or error.code in _AMBIGUOUS_CODES:
        is_running = answer.status == 409
        doubt = DoubtReason.IN_PROGRESS if is_running else DoubtReason.SERVER_ERROR
        raise InDoubt(NAME, doubt, code)
    reason = objects.decline_reason(error.code)
    if answer.status == 404:
        reason = DeclineReason.NOT_FOUND
    raise Declined(NAME, reason, code)


def _method(charge: Charge) -> dict[str, str]:
    """Raises: Declined, for a card without a token."""
    if charge.method is Method.CREDIT_CARD:
        if not charge.token:
            raise Declined(NAME, DeclineReason.INVALID_DETAILS, "no_token")
        form = {"card": charge.token}
    else:
        kind, _ = _QR_TYPES[charge.country]
        form = {"source[type]": kind}
    if charge.return_url:
        form["return_uri"] = charge.return_url
    return form


def _path(reference: str) -> str:
    return f"/charges/{quote(reference, safe='')}"


def _moment(at_ms: int) -> str:
    """Whole seconds, as Omise writes them."""
    moment = datetime.fromtimestamp(max(0, at_ms) // 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _state(charge: objects.Charge) -> ProviderState:
    """Raises: InDoubt, if it is in a state or a currency that we do not know."""
    try:
        return objects.state_of(charge, AMOUNTS)
    except ValueError:
        raise InDoubt(NAME, DoubtReason.MALFORMED) from None


def _move(refund: objects.Refund) -> Move:
    try:
        return objects.move_of(refund, AMOUNTS)
    except ValueError:
        raise InDoubt(NAME, DoubtReason.MALFORMED) from None


def _about(event: objects.Event) -> tuple[EventAbout, str]:
    data = event.data
    charge = data.charge if isinstance(data.charge, str) else ""
    if data.object == "charge":
        return EventAbout.CHARGE, data.id
    if data.object == "refund":
        return EventAbout.REFUND, charge
    if data.object == "dispute":
        return EventAbout.DISPUTE, charge
    return EventAbout.OTHER, ""
