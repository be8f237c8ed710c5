"""Owns what is asked of payment providers, and what can come of asking; sends nothing.

Theory of operation
    A call to a provider ends in one of four ways, and who called may do only what its
    way allows:

    * an answer;
    * `Declined`: the provider understood and refused. Nothing moved. Asking another
      one would be shopping around after a refusal, so nobody is asked;
    * `NotProcessed`: it certainly has not begun (never reached, or said so). Another
      provider may be asked;
    * `InDoubt`: it may have happened. No other provider is asked before it is known.
      The same call with the same key may be repeated at the same provider for as long
      as `Capabilities.same_key_s` says; after that only `find…` tells.

    Reading (`status`, `find…`) changes nothing and may be repeated whatever came of it.

    An adapter that cannot tell says `InDoubt`: to wait is dear, to pay twice is dearer.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Final, Literal, Protocol

import msgspec

from tchatd.kernel.money import AMOUNT_MAX, Currency

KEY_MAX: Final = 255
"""Characters of an idempotency key; the shortest limit of our providers (Stripe)."""
DESCRIPTION_MAX: Final = 200
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")


class Method(enum.Enum):
    """How somebody pays in; the values are the contract's. QR_PAYMENT: by the scheme
    of the country."""

    BANK_TRANSFER = "bank_transfer"
    CREDIT_CARD = "credit_card"
    PROMPTPAY = "promptpay"
    QR_PAYMENT = "qr_payment"


class Offer(msgspec.Struct, frozen=True):
    """What a provider can do. Amounts in minor units, both ends included."""

    country: str
    method: Method
    currency: Currency
    amount_min: int
    amount_max: int

    def __post_init__(self) -> None:
        assert _COUNTRY.fullmatch(self.country)
        assert 1 <= self.amount_min <= self.amount_max <= AMOUNT_MAX


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """topups, payouts: a payout's method is BANK_TRANSFER.

    same_key_s: how long the same call with the same key is answered and not done
    again; 0 where the provider promises nothing.
    """

    topups: tuple[Offer, ...] = ()
    payouts: tuple[Offer, ...] = ()
    refunds: bool = False
    same_key_s: int = 0

    def refusal(self, charge: Charge) -> DeclineReason | None:
        """Why a top-up is none of what is offered; None if it is."""
        wanted = (charge.country, charge.method, charge.currency)
        offers = [
            offer
            for offer in self.topups
            if (offer.country, offer.method, offer.currency) == wanted
        ]
        if not offers:
            return DeclineReason.NOT_SUPPORTED
        amount = charge.amount_minor
        if not any(offer.amount_min <= amount <= offer.amount_max for offer in offers):
            return DeclineReason.LIMIT_EXCEEDED
        return None


class ChargeState(enum.Enum):
    """PENDING: waits for the payer. PROCESSING: the payer did their part. The others
    are ends; only PAID may come after one (a payer who was quicker than we thought)."""

    PENDING = "pending"
    PROCESSING = "processing"
    PAID = "paid"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class MoveState(enum.Enum):
    """Of a refund or a payout. PENDING: accepted, not known to have arrived."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class DeclineReason(enum.Enum):
    """What the payer, or we, could do about a refusal."""

    INSUFFICIENT_FUNDS = "insufficient_funds"
    LIMIT_EXCEEDED = "limit_exceeded"
    EXPIRED_METHOD = "expired_method"
    AUTHENTICATION_FAILED = "authentication_failed"
    SUSPECTED_FRAUD = "suspected_fraud"
    INVALID_DETAILS = "invalid_details"
    NOT_SUPPORTED = "not_supported"
    NOT_FOUND = "not_found"
    WRONG_STATE = "wrong_state"
    OTHER = "other"


class NotProcessedReason(enum.Enum):
    """NOT_AUTHORISED: our key is not good there; an operator has to look."""

    UNREACHABLE = "unreachable"
    BREAKER_OPEN = "breaker_open"
    BUSY = "busy"
    NOT_AUTHORISED = "not_authorised"


class DoubtReason(enum.Enum):
    """MISMATCH: the answer is of something else than what was asked."""

    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection_lost"
    SERVER_ERROR = "server_error"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    MISMATCH = "mismatch"
    IN_PROGRESS = "in_progress"


class ProviderFailure(Exception):
    """provider: its name. code: the provider's own word for it, "" if it has none; of
    a form that holds no personal data (`code_of`)."""

    def __init__(self, provider: str, reason: enum.Enum, code: str = "") -> None:
        super().__init__(f"{provider}: {reason.value}{f' ({code})' if code else ''}")
        self.provider = provider
        self.code = code


class Declined(ProviderFailure):
    """reference: of the charge that was made and refused; "" if none was."""

    def __init__(
        self, provider: str, reason: DeclineReason, code: str = "", reference: str = ""
    ) -> None:
        super().__init__(provider, reason, code)
        self.reason = reason
        self.reference = reference


class NotProcessed(ProviderFailure):
    """retry_after_s: whole seconds until it is worth asking the same one again."""

    def __init__(
        self,
        provider: str,
        reason: NotProcessedReason,
        code: str = "",
        *,
        retry_after_s: int = 1,
    ) -> None:
        assert retry_after_s >= 1
        super().__init__(provider, reason, code)
        self.reason = reason
        self.retry_after_s = retry_after_s


class InDoubt(ProviderFailure):
    def __init__(self, provider: str, reason: DoubtReason, code: str = "") -> None:
        super().__init__(provider, reason, code)
        self.reason = reason


class BadSignature(Exception):
    """A webhook that the provider did not send, or not now. why: without content."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def code_of(text: object) -> str:
    """A provider's error code if it is one (small letters, digits, `_`), else ""."""
    if isinstance(text, str) and re.fullmatch(r"[a-z][a-z0-9_.]{0,63}", text):
        return text
    return ""


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """A top-up as one provider is asked for it. A repetition is the same in all fields.

    key: idempotency key, visible ASCII, one for each attempt at a provider.
    country: of the user, ISO 3166. description: what the payer may see of it.
    token: of a card, as the provider's own form made it for the client; never a number.
    return_url: where a page of the provider leads back to.
    """

    key: str
    amount_minor: int
    currency: Currency
    country: str
    method: Method
    created_at_ms: int
    expires_at_ms: int
    description: str = ""
    token: str = ""
    return_url: str = ""

    def __post_init__(self) -> None:
        assert _KEY.fullmatch(self.key)
        assert 1 <= self.amount_minor <= AMOUNT_MAX
        assert _COUNTRY.fullmatch(self.country)
        assert len(self.description) <= DESCRIPTION_MAX
        assert self.created_at_ms < self.expires_at_ms

    def __repr__(self) -> str:
        return f"<Charge {self.amount_minor} {self.currency.value}>"


class ChargeStarted(msgspec.Struct, frozen=True, kw_only=True):
    """reference: the provider's. expires_at_ms: when the payer is too late.

    payment_url: a page for the payer. qr_payload: EMVCo text. qr_image_url: a picture
    of it, where the provider gives no text. instructions: of a bank transfer, by what
    they are (`bank`, `account_number`, `account_name`, `reference`).
    """

    reference: str
    state: ChargeState
    expires_at_ms: int
    payment_url: str | None = None
    qr_payload: str | None = None
    qr_image_url: str | None = None
    instructions: Mapping[str, str] | None = None


class ProviderState(msgspec.Struct, frozen=True, kw_only=True):
    """A charge as the provider has it now. amount_minor: what it is of, by ISO; what
    has come in, of a bank transfer. failure: why it failed."""

    reference: str
    state: ChargeState
    amount_minor: int
    currency: Currency
    refunded_minor: int = 0
    failure: DeclineReason | None = None
    code: str = ""


class Refund(msgspec.Struct, frozen=True, kw_only=True):
    """reference: of the charge. Part of it or all; key as in `Charge`."""

    key: str
    reference: str
    amount_minor: int
    currency: Currency
    created_at_ms: int

    def __post_init__(self) -> None:
        assert _KEY.fullmatch(self.key)
        assert 1 <= self.amount_minor <= AMOUNT_MAX


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """A bank account. Personal: shown in no log. bank: BIC, or the country's code."""

    bank: str
    account_number: str
    account_name: str

    def __repr__(self) -> str:
        return "<Destination>"


class Payout(msgspec.Struct, frozen=True, kw_only=True):
    """A withdrawal."""

    key: str
    amount_minor: int
    currency: Currency
    country: str
    destination: Destination
    created_at_ms: int
    description: str = ""

    def __post_init__(self) -> None:
        assert _KEY.fullmatch(self.key)
        assert 1 <= self.amount_minor <= AMOUNT_MAX
        assert len(self.description) <= DESCRIPTION_MAX


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A refund or a payout as the provider has it. reference: its own."""

    reference: str
    state: MoveState
    amount_minor: int
    currency: Currency
    failure: DeclineReason | None = None
    code: str = ""


class EventAbout(enum.Enum):
    CHARGE = "charge"
    REFUND = "refund"
    PAYOUT = "payout"
    DISPUTE = "dispute"
    OTHER = "other"


class ProviderEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook said, once it is known who did.

    id: the provider's; the same event comes again with the same one. reference: of the
    charge it is about ("" of OTHER); of the payout, of PAYOUT. state: of the charge as
    of the event, which may be old by now. needs_refetch: `status` is to be believed,
    not this.
    """

    id: str
    kind: str
    about: EventAbout
    created_at_ms: int
    reference: str = ""
    state: ProviderState | None = None
    needs_refetch: bool = True


class Health(msgspec.Struct, frozen=True):
    """breaker: open refuses at once; half-open lets a few calls try.
    failure_percent: of the calls of the last while, 0 to 100."""

    breaker: Literal["closed", "open", "half_open"] = "closed"
    failure_percent: int = 0


class PaymentConnector(Protocol):
    """One provider. Calls raise `Declined`, `NotProcessed` or `InDoubt`; reading ones
    too, and then nothing is known that was not before. A cancelled call is in
    doubt."""

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def health(self) -> Health: ...

    async def start_topup(self, charge: Charge) -> ChargeStarted: ...

    async def find(self, charge: Charge, until_ms: int) -> ProviderState | None:
        """The charge that was made for a key. None: there is none, which holds for
        good once the last attempt, at until_ms, is `settle_s` ago.

        until_ms: when it was last attempted, by our clock.
        """
        ...

    @property
    def settle_s(self) -> int:
        """Seconds after which an attempt that is not to be found will not be."""
        ...

    async def status(self, reference: str) -> ProviderState: ...

    async def cancel(self, reference: str) -> ProviderState:
        """The state afterwards: PAID if the payer was quicker."""
        ...

    async def refund(self, refund: Refund) -> Move: ...

    async def find_refund(self, refund: Refund) -> Move | None:
        """As it is now, by its key; None as in `find`."""
        ...

    async def payout(self, payout: Payout) -> Move: ...

    async def find_payout(self, payout: Payout) -> Move | None: ...

    def verify_webhook(
        self, headers: Mapping[str, str], body: bytes, now_ms: int
    ) -> tuple[ProviderEvent, ...]:
        """What the provider says. headers: names in small letters. body: as it came.

        Raises: BadSignature. A signed body that cannot be read is one, too.
        """
        ...

    async def aclose(self) -> None: ...
