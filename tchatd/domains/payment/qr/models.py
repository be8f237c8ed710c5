"""Owns what a payment QR code says: one type of payee a scheme, and what is around it.

Every payee has `kind` and `value`, so that a client can show one of a scheme that it
does not know; the scheme tells currency and country (`RULES`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal, NamedTuple, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from tchatd.domains.payment.qr.tlv import PAYLOAD_CHARS_MAX
from tchatd.kernel.money import Currency

SCALE_MAX: Final = 16

_Time: TypeAlias = Annotated[datetime, Meta(tz=True)]
Criteria: TypeAlias = Literal["UMI", "UME", "UKE", "URE"]


class _Payee(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="scheme"):
    pass


class PromptPay(_Payee, frozen=True, kw_only=True, tag="promptpay"):
    """A Thai transfer. value: a phone as `+66812345678`, 13 digits of a national or tax
    id, 15 of an e-wallet, or an account as the code has it."""

    kind: Literal["phone", "national_id", "ewallet", "bank_account"]
    value: str


class ThaiBill(_Payee, frozen=True, kw_only=True, tag="promptpay-bill"):
    """A Thai bill. value: the biller's id."""

    kind: Literal["biller"]
    value: str
    reference_1: str | None = None
    reference_2: str | None = None
    cross_border: bool = False


class PayNow(_Payee, frozen=True, kw_only=True, tag="paynow"):
    """value: a phone as `+6591234567`, or a UEN. expires_at: in Singapore's time; a day
    ends with its last second."""

    kind: Literal["phone", "uen"]
    value: str
    amount_editable: bool
    expires_at: _Time | None = None


class Qris(_Payee, frozen=True, kw_only=True, tag="qris"):
    """value: the merchant's PAN, or their national id where the code has no PAN.

    acquirer: the domain by which its template is known, as `ID.CO.<acquirer>.WWW`.
    national_merchant_id: beside a PAN.
    """

    kind: Literal["merchant_pan", "national_merchant_id"]
    value: str
    acquirer: str | None = None
    merchant_id: str | None = None
    national_merchant_id: str | None = None
    criteria: Criteria | None = None


class DuitNow(_Payee, frozen=True, kw_only=True, tag="duitnow"):
    """kind: a person where the category is 0000. value: the id of the QR code.
    bank: the acquirer's number."""

    kind: Literal["person", "merchant"]
    value: str
    bank: str


class QrPhPerson(_Payee, frozen=True, kw_only=True, tag="qrph-p2p"):
    """bank: BIC. phone: beside an account."""

    kind: Literal["bank_account", "phone"]
    value: str
    bank: str
    phone: str | None = None


class QrPhMerchant(_Payee, frozen=True, kw_only=True, tag="qrph-p2m"):
    """bank: BIC. payment_code: what the scheme calls the code of the payment's type."""

    kind: Literal["merchant"]
    value: str
    bank: str
    payment_code: str | None = None


class VietQr(_Payee, frozen=True, kw_only=True, tag="vietqr"):
    """bank: BIN, six digits."""

    kind: Literal["bank_account", "card"]
    value: str
    bank: str


Payee: TypeAlias = (
    PromptPay | ThaiBill | PayNow | Qris | DuitNow | QrPhPerson | QrPhMerchant | VietQr
)


class SchemeRules(NamedTuple):
    """version: of the format, as the scheme emits it (field 00).

    categories: the only ones that a code of it may have; empty for any.
    """

    currency: Currency
    country: str
    version: str = "01"
    categories: frozenset[str] = frozenset()


RULES: Final[Mapping[type[Payee], SchemeRules]] = {
    PromptPay: SchemeRules(Currency.THB, "TH"),
    ThaiBill: SchemeRules(Currency.THB, "TH"),
    PayNow: SchemeRules(Currency.SGD, "SG"),
    Qris: SchemeRules(Currency.IDR, "ID"),
    DuitNow: SchemeRules(Currency.MYR, "MY", version="02"),
    QrPhPerson: SchemeRules(Currency.PHP, "PH", categories=frozenset({"6016"})),
    QrPhMerchant: SchemeRules(Currency.PHP, "PH"),
    VietQr: SchemeRules(Currency.VND, "VN"),
}

Asked: TypeAlias = Literal[
    "bill_number",
    "mobile",
    "store",
    "loyalty",
    "reference",
    "customer",
    "terminal",
    "note",
]


class QrPayment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one payment QR code says. Absent is what it does not say.

    is_dynamic: made for one payment (field 01 is 12), as far as the code says.
    amount: in the minor unit of the currency, without fee and tip; absent: the payer
        chooses.
    fee: to be added by the payer, in the minor unit; or fee_basis_points of the amount
        (250 is 2.5 %). asks_tip: the payer may add one.
    category: the merchant's, ISO 18245.
    asks: what the payer has to supply (`***` in the code).
    """

    payee: Payee
    is_dynamic: bool
    currency: Currency
    country: str
    amount_minor: int | None = field(default=None, name="amount")
    fee_minor: int | None = field(default=None, name="fee")
    fee_basis_points: int | None = None
    asks_tip: bool = False
    merchant_name: str | None = None
    merchant_city: str | None = None
    postal_code: str | None = None
    category: str | None = None
    reference: str | None = None
    bill_number: str | None = None
    store: str | None = None
    terminal: str | None = None
    note: str | None = None
    asks: tuple[Asked, ...] = ()


_Payload: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=PAYLOAD_CHARS_MAX,
        description="what a scanner read from the QR code",
    ),
]


class ParseQr(Struct, frozen=True):
    payload: _Payload


ImageFormat: TypeAlias = Literal["svg", "png"]


class GetQrImage(Struct, frozen=True):
    """scale: pixels of a module, the smallest square of the code."""

    payload: _Payload
    format: ImageFormat = "svg"
    scale: Annotated[int, Meta(ge=1, le=SCALE_MAX)] = 4


class QrImage(Struct, frozen=True, kw_only=True):
    """The picture, in the member that its format names. png: base64.

    side_px: of the square, the quiet zone of four modules around included.
    """

    format: ImageFormat
    side_px: int
    svg: str | UnsetType = UNSET
    png: bytes | UnsetType = UNSET


class QrSettings(Struct, frozen=True, kw_only=True):
    """What the operator sets; each key is explained in tchatd.toml."""

    parses_per_user_minute: Annotated[int, Meta(ge=1, le=1 << 31)] = 120
    images_per_user_minute: Annotated[int, Meta(ge=1, le=1 << 31)] = 30
    drawing_max: Annotated[int, Meta(ge=1, le=10_000)] = 32
