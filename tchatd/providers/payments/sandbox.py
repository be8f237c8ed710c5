"""Owns payments that move no money: a page where a developer pays takes the place of a
bank. Refused in production.

It is a provider like any other: it makes a charge once for its key, expires it, tells
of what became of it by a signed webhook, refunds and pays out. What it has is in its
store, so that it outlives the daemon. An account number of zeros cannot be paid to.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

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
)
from tchatd.domains.payment.sandbox import (
    EntryState,
    SandboxEntry,
    SandboxStore,
)
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.money import AMOUNT_MAX, Currency
from tchatd.observe.logging import get_logger
from tchatd.providers.payments.calls import CallMetrics, decoded
from tchatd.providers.payments.signatures import (
    check_timed_header,
    header_of,
    timed_header,
)

NAME: Final = "sandbox"
SIGNATURE: Final = "sandbox-signature"
SAME_KEY_S: Final = 10 * 365 * 86_400
COUNTRIES: Final = ("TH", "SG", "MY", "ID", "PH", "VN")
_log = get_logger("sandbox")
OnEvent = Callable[[Mapping[str, str], bytes], Awaitable[None]]


class _Told(msgspec.Struct, frozen=True):
    """The body of its webhook."""

    id: str
    type: str
    created_at_ms: int
    charge: str


async def nobody(headers: Mapping[str, str], body: bytes) -> None:
    """Is told, and does nothing."""


def capabilities() -> Capabilities:
    """All of it, in every country and currency."""
    topups = tuple(
        Offer(country, method, currency, 1, AMOUNT_MAX)
        for country in COUNTRIES
        for method in Method
        for currency in Currency
    )
    payouts = tuple(o for o in topups if o.method is Method.BANK_TRANSFER)
    return Capabilities(
        topups=topups, payouts=payouts, refunds=True, same_key_s=SAME_KEY_S
    )


class SandboxConnector:
    """A `PaymentConnector` and a `SandboxDesk`.

    page_url: of the page, without the charge's id. on_event: takes what a provider
    would post to our webhook; if it raises, the event is lost, as a webhook can be.
    random: makes ids, which open the page.
    """

    name = NAME
    settle_s = 0

    def __init__(
        self,
        store: SandboxStore,
        clock: Clock,
        metrics: CallMetrics,
        *,
        webhook_secret: bytes,
        page_url: str = "/sandbox/pay/",
        random: Callable[[int], str] = secrets.token_urlsafe,
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._secret = webhook_secret
        self._page_url = page_url
        self._random = random
        self._capabilities = capabilities()
        self.on_event: OnEvent = nobody

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def health(self) -> Health:
        return Health()

    async def start_topup(self, charge: Charge) -> ChargeStarted:
        now_ms = self._clock.now_ms()
        asked = SandboxEntry(
            id=f"sbx_{self._random(16)}",
            kind="charge",
            key=charge.key,
            amount_minor=charge.amount_minor,
            currency=charge.currency,
            country=charge.country,
            method=charge.method,
            state="pending",
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            expires_at_ms=charge.expires_at_ms,
            description=charge.description,
            return_url=charge.return_url,
        )
        made = await self._made("start_topup", self._store.add(asked))
        assert made is not None
        _same(asked, made)
        return ChargeStarted(
            reference=made.id,
            state=ChargeState(made.state),
            expires_at_ms=made.expires_at_ms,
            payment_url=self._page_url + made.id,
        )

    async def find(self, charge: Charge, until_ms: int) -> ProviderState | None:
        found = await self._made("find", self._store.by_key("charge", charge.key))
        return None if found is None else await self._state(found)

    async def status(self, reference: str) -> ProviderState:
        found = await self._made("status", self._shown(reference))
        if found is None:
            raise Declined(NAME, DeclineReason.NOT_FOUND)
        return await self._state(found)

    async def cancel(self, reference: str) -> ProviderState:
        await self._made("cancel", self._settle(reference, "cancelled"))
        return await self.status(reference)

    async def refund(self, refund: Refund) -> Move:
        now_ms = self._clock.now_ms()
        asked = SandboxEntry(
            id=f"sbr_{self._random(16)}",
            kind="refund",
            key=refund.key,
            amount_minor=refund.amount_minor,
            currency=refund.currency,
            country="",
            method=Method.BANK_TRANSFER,
            state="paid",
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            of=refund.reference,
        )
        made = await self._made("refund", self._store.add_refund(asked))
        if made is None:
            raise Declined(NAME, DeclineReason.WRONG_STATE)
        _same(asked, made)
        return _move(made)

    async def find_refund(self, refund: Refund) -> Move | None:
        found = await self._made(
            "find_refund", self._store.by_key("refund", refund.key)
        )
        return None if found is None else _move(found)

    async def payout(self, payout: Payout) -> Move:
        now_ms = self._clock.now_ms()
        is_refused = not payout.destination.account_number.strip("0")
        asked = SandboxEntry(
            id=f"sbp_{self._random(16)}",
            kind="payout",
            key=payout.key,
            amount_minor=payout.amount_minor,
            currency=payout.currency,
            country=payout.country,
            method=Method.BANK_TRANSFER,
            state="failed" if is_refused else "paid",
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            description=payout.description,
        )
        made = await self._made("payout", self._store.add(asked))
        assert made is not None
        _same(asked, made)
        return _move(made)

    async def find_payout(self, payout: Payout) -> Move | None:
        found = await self._made(
            "find_payout", self._store.by_key("payout", payout.key)
        )
        return None if found is None else _move(found)

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
        check_timed_header(header, body, [self._secret], now_ms)
        try:
            told = decoded(body, _Told)
        except ValueError:
            raise BadSignature("it is signed and is no event") from None
        return ProviderEvent(
            id=told.id,
            kind=told.type,
            about=EventAbout.CHARGE,
            created_at_ms=told.created_at_ms,
            reference=told.charge,
        )

    async def aclose(self) -> None:
        """Nothing is open."""

    # The page.

    async def shown(self, id: str) -> SandboxEntry | None:
        found = await self._shown(id)
        return found if found is not None and found.kind == "charge" else None

    async def decide(self, id: str, state: EntryState) -> SandboxEntry | None:
        """Tells the webhook only of what it changed."""
        await self._settle(id, state)
        return await self.shown(id)

    async def _shown(self, id: str) -> SandboxEntry | None:
        """Expires it first, if its time is over: nobody has to watch it."""
        found = await self._store.entry(id)
        if found is None or found.state != "pending":
            return found
        if found.expires_at_ms > self._clock.now_ms():
            return found
        await self._settle(id, "expired")
        return await self._store.entry(id)

    async def _settle(self, id: str, state: EntryState) -> SandboxEntry | None:
        now_ms = self._clock.now_ms()
        found = await self._store.entry(id)
        if found is not None and state != "expired" and found.expires_at_ms <= now_ms:
            state = "expired"
        settled = await self._store.settle(id, state, now_ms)
        if settled is not None:
            await self._tell(settled, now_ms)
        return settled

    async def _tell(self, entry: SandboxEntry, now_ms: int) -> None:
        told = _Told(
            id=f"evt_{entry.id}_{entry.state}",
            type=f"charge.{entry.state}",
            created_at_ms=now_ms,
            charge=entry.id,
        )
        body = msgspec.json.encode(told)
        header = timed_header(self._secret, body, now_ms // 1000)
        try:
            await self.on_event({SIGNATURE: header}, body)
        except Unavailable:
            _log.warning("a webhook of the sandbox was lost", type=told.type)

    async def _made(
        self, call: str, work: Awaitable[SandboxEntry | None]
    ) -> SandboxEntry | None:
        """A store that is away leaves it in doubt, as a lost answer does."""
        try:
            found = await work
        except Unavailable:
            self._metrics.calls.labels(NAME, call, "server_error").add()
            raise InDoubt(NAME, DoubtReason.SERVER_ERROR) from None
        self._metrics.calls.labels(NAME, call, "ok").add()
        return found

    async def _state(self, entry: SandboxEntry) -> ProviderState:
        refunded = 0
        if entry.state == "paid":
            try:
                refunded = await self._store.refunded_minor(entry.id)
            except Unavailable:
                raise InDoubt(NAME, DoubtReason.SERVER_ERROR) from None
        return ProviderState(
            reference=entry.id,
            state=ChargeState(entry.state),
            amount_minor=entry.amount_minor,
            currency=entry.currency,
            refunded_minor=refunded,
            failure=DeclineReason.OTHER if entry.state == "failed" else None,
        )


def _same(asked: SandboxEntry, made: SandboxEntry) -> None:
    """Raises: InDoubt, if the key was used for something else."""
    if (asked.amount_minor, asked.currency, asked.of) != (
        made.amount_minor,
        made.currency,
        made.of,
    ):
        raise InDoubt(NAME, DoubtReason.MISMATCH)


def _move(entry: SandboxEntry) -> Move:
    is_failed = entry.state == "failed"
    return Move(
        reference=entry.id,
        state=MoveState.FAILED if is_failed else MoveState.DONE,
        amount_minor=entry.amount_minor,
        currency=entry.currency,
        failure=DeclineReason.INVALID_DETAILS if is_failed else None,
    )
