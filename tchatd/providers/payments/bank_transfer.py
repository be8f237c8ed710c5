"""Owns top-ups and withdrawals by bank transfer, at any bank that speaks our interface.

The interface (docs/payments-bank-connector.md) is spoken by a small program of the
bank or of the operator. It tells of money that came in by a signed callback, answers
what came in for a reference, and takes payouts, which are idempotent by key for good.

A top-up asks nobody: the payer is told our account and a reference. What came in may
be more or less than was asked and may come twice, so `ProviderState.amount_minor` is
what came in, and an event only says that it has to be looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
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
from tchatd.domains.payment.transfer_references import read_reference, reference_of
from tchatd.kernel.clock import moment_ms
from tchatd.kernel.money import AMOUNT_MAX, Currency
from tchatd.providers.payments import bank_objects as objects
from tchatd.providers.payments.calls import (
    Answer,
    CallMetrics,
    CallSettings,
    ProviderCalls,
    decoded,
    read,
    refuse_by_status,
    refuse_mismatch,
    refuse_unfit,
)
from tchatd.providers.payments.signatures import check_timed_header, header_of

NAME: Final = "bank_transfer"
SETTLE_S: Final = 600
SAME_KEY_S: Final = 30 * 86_400
SIGNATURE: Final = "tchat-bank-signature"
_REASONS: Final[Mapping[str, DeclineReason]] = {
    "insufficient_funds": DeclineReason.INSUFFICIENT_FUNDS,
    "limit_exceeded": DeclineReason.LIMIT_EXCEEDED,
    "invalid_account": DeclineReason.INVALID_DETAILS,
    "account_closed": DeclineReason.INVALID_DETAILS,
    "name_mismatch": DeclineReason.INVALID_DETAILS,
    "suspected_fraud": DeclineReason.SUSPECTED_FRAUD,
    "not_supported": DeclineReason.NOT_SUPPORTED,
}
_STATES: Final[Mapping[str, MoveState]] = {
    "accepted": MoveState.PENDING,
    "sent": MoveState.DONE,
    "rejected": MoveState.FAILED,
    "returned": MoveState.FAILED,
}


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Ours, at a bank: where people of a country transfer to, and we pay from."""

    country: str
    currency: Currency
    bank: str
    number: str
    name: str


def account_of(text: str) -> Account:
    """`TH THB KBANK 0123456789 Tchat Company Limited`, as the settings have it.

    Raises: ValueError, with a sentence.
    """
    parts = text.split(maxsplit=4)
    if len(parts) != 5:
        raise ValueError(f"{text!r} is no COUNTRY CURRENCY BANK NUMBER NAME")
    country, code, bank, number, name = parts
    if not (len(country) == 2 and country.isalpha() and country.isupper()):
        raise ValueError(f"{text!r} begins with no country")
    if code not in Currency.__members__:
        raise ValueError(f"{text!r} has no currency of ours")
    return Account(
        country=country, currency=Currency(code), bank=bank, number=number, name=name
    )


class BankTransferConnector:
    """A `PaymentConnector`. Close it with `aclose`.

    origin: of the program that speaks for the bank.
    """

    name = NAME
    settle_s = SETTLE_S

    def __init__(
        self,
        *,
        origin: str,
        key: str,
        webhook_secrets: Sequence[str],
        accounts: Sequence[Account],
        settings: CallSettings,
        metrics: CallMetrics,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._accounts = {(of.country, of.currency): of for of in accounts}
        offers = tuple(
            Offer(of.country, Method.BANK_TRANSFER, of.currency, 1, AMOUNT_MAX)
            for of in self._accounts.values()
        )
        self._capabilities = Capabilities(
            topups=offers, payouts=offers, refunds=False, same_key_s=SAME_KEY_S
        )
        self._secrets = [secret.encode() for secret in webhook_secrets]
        self._metrics = metrics
        headers = {"authorization": f"Bearer {key}"}
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
        account = self._accounts[charge.country, charge.currency]
        reference = reference_of(charge.key)
        return ChargeStarted(
            reference=reference,
            state=ChargeState.PENDING,
            expires_at_ms=charge.expires_at_ms,
            instructions={
                "bank": account.bank,
                "account_number": account.number,
                "account_name": account.name,
                "reference": reference,
            },
        )

    async def find(self, charge: Charge, until_ms: int) -> ProviderState | None:
        return await self.status(reference_of(charge.key))

    async def status(self, reference: str) -> ProviderState:
        """PAID once anything came in: `amount_minor` says how much. Without anything
        the currency is that of the first account."""
        path = f"/v1/credits/{quote(reference, safe='')}"
        answer = await self._calls.call("status", "GET", path)
        credits = read(NAME, answer, objects.Credits).credits
        currencies = {credit.currency for credit in credits}
        if len(currencies) > 1:
            raise InDoubt(NAME, DoubtReason.MISMATCH)
        nothing = next(iter(self._accounts.values())).currency
        return ProviderState(
            reference=reference,
            state=ChargeState.PAID if credits else ChargeState.PENDING,
            amount_minor=sum(credit.amount_minor for credit in credits),
            currency=currencies.pop() if currencies else nothing,
        )

    async def cancel(self, reference: str) -> ProviderState:
        """Nobody can be kept from transferring; what comes later is looked into."""
        state = await self.status(reference)
        if state.state is ChargeState.PENDING:
            return msgspec.structs.replace(state, state=ChargeState.CANCELLED)
        return state

    async def refund(self, refund: Refund) -> Move:
        """Who transferred is not known by account; a payout is how it goes back."""
        raise Declined(NAME, DeclineReason.NOT_SUPPORTED)

    async def find_refund(self, refund: Refund) -> Move | None:
        return None

    async def payout(self, payout: Payout) -> Move:
        account = self._accounts.get((payout.country, payout.currency))
        if account is None:
            raise Declined(NAME, DeclineReason.NOT_SUPPORTED)
        asked = objects.NewPayout(
            key=payout.key,
            amount_minor=payout.amount_minor,
            currency=payout.currency,
            from_account=account.number,
            bank=payout.destination.bank,
            account_number=payout.destination.account_number,
            account_name=payout.destination.account_name,
            description=payout.description,
        )
        answer = await self._calls.call(
            "payout",
            "POST",
            "/v1/payouts",
            json=msgspec.json.encode(asked),
            headers={
                "idempotency-key": payout.key,
                "content-type": "application/json",
            },
        )
        return _move(read(NAME, answer, objects.Payout), payout)

    async def find_payout(self, payout: Payout) -> Move | None:
        path = f"/v1/payouts/{quote(payout.key, safe='')}"
        try:
            answer = await self._calls.call("find_payout", "GET", path)
        except Declined as refusal:
            if refusal.reason is DeclineReason.NOT_FOUND:
                return None
            raise
        return _move(read(NAME, answer, objects.Payout), payout)

    def verify_webhook(
        self, headers: Mapping[str, str], body: bytes, now_ms: int
    ) -> tuple[ProviderEvent, ...]:
        return self._metrics.counted(NAME, lambda: self._events(headers, body, now_ms))

    def _events(
        self, headers: Mapping[str, str], body: bytes, now_ms: int
    ) -> tuple[ProviderEvent, ...]:
        header = header_of(headers, SIGNATURE)
        check_timed_header(header, body, self._secrets, now_ms)
        try:
            told = decoded(body, objects.Callback).events
        except ValueError:
            raise BadSignature("it is signed and is no callback") from None
        return tuple(_event_of(event) for event in told)

    async def aclose(self) -> None:
        await self._calls.aclose()


def judge(answer: Answer) -> None:
    """Raises: Declined, NotProcessed, InDoubt. 503 with `not_processed` is the one
    server error after which the interface promises that nothing was done."""
    if 200 <= answer.status < 300:
        return
    try:
        error = decoded(answer.body, objects.Failure).error
    except ValueError:
        error = None
    code = code_of(error.code) if error else ""
    if answer.status == 503 and code == "not_processed":
        refuse_by_status(NAME, msgspec.structs.replace(answer, status=429), code)
    refuse_by_status(NAME, answer, code)
    if error is None:
        raise InDoubt(NAME, DoubtReason.MALFORMED, f"status_{answer.status}")
    if answer.status == 409:
        is_reused = code == "key_reused"
        reason = DoubtReason.MISMATCH if is_reused else DoubtReason.IN_PROGRESS
        raise InDoubt(NAME, reason, code)
    if answer.status == 404:
        raise Declined(NAME, DeclineReason.NOT_FOUND, code)
    raise Declined(NAME, _REASONS.get(code, DeclineReason.OTHER), code)


def _move(found: objects.Payout, asked: Payout) -> Move:
    refuse_mismatch(NAME, asked, found)
    if found.key != asked.key:
        raise InDoubt(NAME, DoubtReason.MISMATCH)
    state = _STATES[found.state]
    code = code_of(found.reason)
    failure = _REASONS.get(code, DeclineReason.OTHER)
    return Move(
        reference=found.id,
        state=state,
        amount_minor=found.amount_minor,
        currency=found.currency,
        failure=failure if state is MoveState.FAILED else None,
        code=code,
    )


def _event_of(event: objects.Event) -> ProviderEvent:
    """A credit whose reference is none is OTHER: money that nobody asked for."""
    reference, about = event.reference, EventAbout.PAYOUT
    if event.type == "credit":
        reference = read_reference(event.reference) or ""
        about = EventAbout.CHARGE if reference else EventAbout.OTHER
    return ProviderEvent(
        id=event.id,
        kind=event.type,
        about=about,
        created_at_ms=moment_ms(event.created_at.astimezone(UTC)),
        reference=reference,
    )
