"""Owns how each scheme says who is paid: reading and writing its account templates.

A template (fields 26 to 51) begins with the name of its scheme, a GUID. One of a scheme
that is known here must be in a field that this scheme uses; so that nobody who goes by
the field and not by the GUID reads another payee. Exactly one payee has to come of all
templates; those of other schemes are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Final, NamedTuple, TypeAlias

from tchatd.domains.payment.qr import tlv
from tchatd.domains.payment.qr.errors import (
    QrContradictory,
    QrMalformed,
    QrNotExpressible,
    QrUnsupported,
)
from tchatd.domains.payment.qr.models import (
    Criteria,
    DuitNow,
    Payee,
    PayNow,
    PromptPay,
    Qris,
    QrPhMerchant,
    QrPhPerson,
    ThaiBill,
    VietQr,
)

Fields: TypeAlias = Mapping[str, str]
Pairs: TypeAlias = list[tuple[str, str]]

TEMPLATE_TAGS: Final = tuple(f"{tag:02d}" for tag in range(26, 52))
PERSON_CATEGORY: Final = "0000"
"""DuitNow's, of a payee who is a person."""

_PROMPTPAY: Final = "A000000677010111"
_PROMPTPAY_SHOWN_BY_PAYER: Final = "A000000677010114"
"""Sources disagree about it: read, never written."""
_THAI_BILL: Final = "A000000677010112"
_THAI_BILL_CROSS_BORDER: Final = "A000000677012006"
_PAYNOW: Final = "SG.PAYNOW"
_QRIS: Final = "ID.CO.QRIS.WWW"
_DUITNOW: Final = "A0000006150001"
_QRPH_PERSON: Final = "com.p2pqrpay"
_QRPH_PERSON_TYPE: Final = "99964403"
_QRPH_MERCHANT: Final = "ph.ppmi.p2m"
_VIETQR: Final = "A000000727"

ADDITIONAL_GUID: Final[Mapping[type[Payee], str]] = {
    QrPhPerson: _QRPH_PERSON,
    QrPhMerchant: "ph.ppmi.qrph",
}
"""What field 62 begins with where the scheme says so."""

SINGAPORE: Final = timezone(timedelta(hours=8))
_DAY_CHARS: Final = 8
_TIME_FORM: Final = "%Y%m%d%H%M%S"
_LAST_SECOND: Final = "235959"

_QRIS_ACQUIRER: Final = re.compile(r"ID\.CO\.[A-Z0-9-]{1,20}\.WWW")
_QRIS_ACQUIRER_BESIDE_CENTRAL: Final = re.compile(r"[A-Z0-9.-]{1,28}\.WWW")
"""Beside QRIS's own template acquirers use domains of other forms, too."""
_QRIS_ACQUIRER_TAGS: Final = TEMPLATE_TAGS[:20]
_QRIS_TAG: Final = "51"
_CRITERIA: Final[tuple[Criteria, ...]] = ("UMI", "UME", "UKE", "URE")


def payee_of(root: Fields) -> Payee:
    """Who is paid, of the fields of a whole payload.

    Raises: QrMalformed, QrContradictory, QrUnsupported.
    """
    templates = {tag: tlv.read(root[tag]) for tag in TEMPLATE_TAGS if tag in root}
    found = [
        known.read(template, root)
        for tag, template in templates.items()
        if (known := _known(tag, template)) is not None
    ]
    if (qris := _qris_of(templates)) is not None:
        found.append(qris)
    if not found:
        raise QrUnsupported
    if len(found) > 1:
        raise QrContradictory("It names more than one payee.")
    return found[0]


def templates_of(payee: Payee) -> Pairs:
    """The account templates of a payload, by field. Raises: QrNotExpressible."""
    write: Callable[[Payee], Pairs] = _WRITERS[type(payee)]
    return write(payee)


def _guid_of(template: Fields) -> str:
    # Domain names do not differ by case, and AIDs are hexadecimal.
    return template.get("00", "").upper()


def _known(tag: str, template: Fields) -> _Known | None:
    known = _BY_GUID.get(_guid_of(template))
    if known is not None and tag not in known.tags:
        raise QrContradictory(f"Field {tag} is not that of its scheme.")
    return known


def _matching(pattern: str, value: str, what: str) -> str:
    if not re.fullmatch(pattern, value):
        raise QrMalformed(f"The {what} is not of its scheme's form.")
    return value


def _required(template: Fields, tag: str, pattern: str, what: str) -> str:
    if tag not in template:
        raise QrMalformed(f"The {what} is missing.")
    return _matching(pattern, template[tag], what)


def _optional(template: Fields, tag: str, pattern: str, what: str) -> str | None:
    return _required(template, tag, pattern, what) if tag in template else None


def _given(*pairs: tuple[str, str | None]) -> Pairs:
    return [(tag, value) for tag, value in pairs if value is not None]


def _in(tag: str, *pairs: tuple[str, str | None]) -> tuple[str, str]:
    return tag, tlv.write(_given(*pairs))


_PROMPTPAY_PROXIES: Final = {
    "01": ("phone", "0066[1-9][0-9]{8}"),
    "02": ("national_id", "[0-9]{13}"),
    "03": ("ewallet", "[0-9]{15}"),
    "04": ("bank_account", "[0-9]{1,43}"),
}
_PROMPTPAY_TAGS: Final = {kind: tag for tag, (kind, _) in _PROMPTPAY_PROXIES.items()}


def _read_promptpay(template: Fields, root: Fields) -> PromptPay:
    named = [tag for tag in _PROMPTPAY_PROXIES if tag in template]
    if not named:
        raise QrUnsupported("It names no payee of a kind that is known.")
    if len(named) > 1:
        raise QrContradictory("It names more than one payee.")
    kind, pattern = _PROMPTPAY_PROXIES[named[0]]
    value = _required(template, named[0], pattern, "payee")
    if kind == "phone":
        return PromptPay(kind="phone", value="+" + value[2:])
    if kind == "national_id":
        return PromptPay(kind="national_id", value=value)
    if kind == "ewallet":
        return PromptPay(kind="ewallet", value=value)
    return PromptPay(kind="bank_account", value=value)


def _write_promptpay(payee: PromptPay) -> Pairs:
    value = payee.value
    if payee.kind == "phone":
        value = "00" + value.removeprefix("+")
    return [_in("29", ("00", _PROMPTPAY), (_PROMPTPAY_TAGS[payee.kind], value))]


_BILL_REFERENCE: Final = r"[!-~](?:[ -~]{0,23}[!-~])?"


def _read_thai_bill(template: Fields, root: Fields) -> ThaiBill:
    return ThaiBill(
        kind="biller",
        value=_required(template, "01", "[0-9A-Za-z]{1,15}", "biller"),
        reference_1=_optional(template, "02", _BILL_REFERENCE, "first reference"),
        reference_2=_optional(template, "03", _BILL_REFERENCE, "second reference"),
        cross_border=_guid_of(template) == _THAI_BILL_CROSS_BORDER,
    )


def _write_thai_bill(payee: ThaiBill) -> Pairs:
    guid = _THAI_BILL_CROSS_BORDER if payee.cross_border else _THAI_BILL
    return [
        _in(
            "30",
            ("00", guid),
            ("01", payee.value),
            ("02", payee.reference_1),
            ("03", payee.reference_2),
        )
    ]


def _read_paynow(template: Fields, root: Fields) -> PayNow:
    kind = template.get("01")
    if kind not in ("0", "2"):
        raise QrUnsupported("It names a payee by something else than phone or UEN.")
    editable = _optional(template, "03", "[01]", "indicator of an editable amount")
    # Where it is not said, an amount that is given is the one to pay.
    amount_editable = editable == "1" if editable else "54" not in root
    expires_at = _read_expiry(template["04"]) if "04" in template else None
    if kind == "0":
        return PayNow(
            kind="phone",
            value=_required(template, "02", r"\+[1-9][0-9]{7,14}", "payee"),
            amount_editable=amount_editable,
            expires_at=expires_at,
        )
    return PayNow(
        kind="uen",
        value=_required(template, "02", "[0-9A-Z]{8,16}", "payee"),
        amount_editable=amount_editable,
        expires_at=expires_at,
    )


def _read_expiry(text: str) -> datetime:
    _matching("[0-9]{8}(?:[0-9]{6})?", text, "expiry")
    if len(text) == _DAY_CHARS:
        text += _LAST_SECOND
    try:
        return datetime.strptime(text, _TIME_FORM).replace(tzinfo=SINGAPORE)
    except ValueError:
        raise QrMalformed("The expiry is no time.") from None


def _written_expiry(expires_at: datetime) -> str:
    try:
        local = expires_at.astimezone(SINGAPORE)
    except OverflowError:
        raise QrNotExpressible("The expiry is no time.") from None
    # strftime() does not pad years before 1000.
    text = f"{local.year:04d}{local:%m%d%H%M%S}"
    return text[:_DAY_CHARS] if text.endswith(_LAST_SECOND) else text


def _write_paynow(payee: PayNow) -> Pairs:
    expires_at = payee.expires_at
    return [
        _in(
            "26",
            ("00", _PAYNOW),
            ("01", "0" if payee.kind == "phone" else "2"),
            ("02", payee.value),
            ("03", "1" if payee.amount_editable else "0"),
            ("04", None if expires_at is None else _written_expiry(expires_at)),
        )
    ]


def _qris_of(templates: Mapping[str, Fields]) -> Qris | None:
    """QRIS has two templates: the acquirer's, and its own with the national id."""
    for tag, template in templates.items():
        if _guid_of(template) == _QRIS and tag != _QRIS_TAG:
            raise QrContradictory(f"Field {tag} is not that of its scheme.")
    central = templates.get(_QRIS_TAG)
    if central is not None and _guid_of(central) != _QRIS:
        central = None
    acquirer_form = _QRIS_ACQUIRER if central is None else _QRIS_ACQUIRER_BESIDE_CENTRAL
    acquirers = [
        templates[tag]
        for tag in _QRIS_ACQUIRER_TAGS
        if tag in templates and acquirer_form.fullmatch(_guid_of(templates[tag]))
    ]
    if len(acquirers) > 1:
        raise QrContradictory("It names more than one payee.")
    if not acquirers:
        return None if central is None else _read_qris_central(central)
    return _read_qris(acquirers[0], central or {})


def _read_qris(acquirer: Fields, central: Fields) -> Qris:
    criteria = {
        given
        for template in (acquirer, central)
        if (given := template.get("03")) is not None
    }
    if len(criteria) > 1:
        raise QrContradictory("It names more than one class of merchant.")
    return Qris(
        kind="merchant_pan",
        value=_required(acquirer, "01", "9360[0-9]{4,15}", "PAN"),
        acquirer=_guid_of(acquirer),
        merchant_id=_optional(acquirer, "02", "[!-~]{1,15}", "merchant's id"),
        national_merchant_id=_optional(central, "02", "[0-9A-Z]{15}", "national id"),
        criteria=_criteria(criteria.pop()) if criteria else None,
    )


def _read_qris_central(central: Fields) -> Qris:
    criteria = central.get("03")
    return Qris(
        kind="national_merchant_id",
        value=_required(central, "02", "[0-9A-Z]{15}", "national id"),
        criteria=None if criteria is None else _criteria(criteria),
    )


def _criteria(text: str) -> Criteria:
    for known in _CRITERIA:
        if known == text:
            return known
    raise QrMalformed("The class of merchant is not of its scheme's form.")


def _write_qris(payee: Qris) -> Pairs:
    if payee.kind == "national_merchant_id":
        central = (("00", _QRIS), ("02", payee.value), ("03", payee.criteria))
        return [_in(_QRIS_TAG, *central)]
    if payee.acquirer is None:
        raise QrNotExpressible("A PAN goes with the domain of its acquirer.")
    acquirer = _in(
        "26",
        ("00", payee.acquirer),
        ("01", payee.value),
        ("02", payee.merchant_id),
        ("03", payee.criteria),
    )
    if payee.national_merchant_id is None:
        return [acquirer]
    number = payee.national_merchant_id
    central = (("00", _QRIS), ("02", number), ("03", payee.criteria))
    return [acquirer, _in(_QRIS_TAG, *central)]


def _read_duitnow(template: Fields, root: Fields) -> DuitNow:
    return DuitNow(
        kind="person" if root.get("52") == PERSON_CATEGORY else "merchant",
        value=_required(template, "02", "[!-~]{1,28}", "id of the QR code"),
        bank=_required(template, "01", "[0-9A-Z]{1,6}", "acquirer"),
    )


def _write_duitnow(payee: DuitNow) -> Pairs:
    return [_in("26", ("00", _DUITNOW), ("01", payee.bank), ("02", payee.value))]


_BIC: Final = "[A-Z0-9]{8}(?:[A-Z0-9]{3})?"
_PH_ACCOUNT: Final = "[0-9A-Za-z-]{1,34}"
_PH_MOBILE: Final = r"\+?63-?9[0-9]{9}"


def _read_qrph_person(template: Fields, root: Fields) -> QrPhPerson:
    accounts = {
        _required(template, tag, _PH_ACCOUNT, "account")
        for tag in ("03", "04")
        if tag in template
    }
    if len(accounts) > 1:
        raise QrContradictory("It names more than one account.")
    mobile = _optional(template, "05", _PH_MOBILE, "phone")
    phone = None if mobile is None else f"+63{mobile[-10:]}"
    bank = _required(template, "01", _BIC, "bank")
    if accounts:
        return QrPhPerson(
            kind="bank_account", value=accounts.pop(), bank=bank, phone=phone
        )
    if phone is None:
        raise QrMalformed("The account is missing.")
    return QrPhPerson(kind="phone", value=phone, bank=bank)


def _write_qrph_person(payee: QrPhPerson) -> Pairs:
    account = payee.value if payee.kind == "bank_account" else None
    phone = payee.phone if payee.kind == "bank_account" else payee.value
    mobile = None if phone is None else f"+63-{phone.removeprefix('+63')}"
    return [
        _in(
            "27",
            ("00", _QRPH_PERSON),
            ("01", payee.bank),
            ("02", _QRPH_PERSON_TYPE),
            ("04", account),
            ("05", mobile),
        )
    ]


def _read_qrph_merchant(template: Fields, root: Fields) -> QrPhMerchant:
    return QrPhMerchant(
        kind="merchant",
        value=_required(template, "03", "[!-~]{1,25}", "merchant"),
        bank=_required(template, "01", _BIC, "bank"),
        payment_code=_optional(template, "05", "[0-9A-Za-z]{1,10}", "payment code"),
    )


def _write_qrph_merchant(payee: QrPhMerchant) -> Pairs:
    return [
        _in(
            "28",
            ("00", _QRPH_MERCHANT),
            ("01", payee.bank),
            ("03", payee.value),
            ("05", payee.payment_code),
        )
    ]


def _read_vietqr(template: Fields, root: Fields) -> VietQr:
    beneficiary = tlv.read(_required(template, "01", ".+", "beneficiary"))
    bank = _required(beneficiary, "00", "[0-9]{6}", "bank")
    service = template.get("02")
    # Not guessed: the same digits are an account of one and a card of another.
    if service == "QRIBFTTA":
        value = _required(beneficiary, "01", "[0-9A-Za-z]{1,19}", "account")
        return VietQr(kind="bank_account", value=value, bank=bank)
    if service == "QRIBFTTC":
        value = _required(beneficiary, "01", "[0-9]{12,19}", "card")
        return VietQr(kind="card", value=value, bank=bank)
    raise QrUnsupported("It asks for something else than a transfer.")


def _write_vietqr(payee: VietQr) -> Pairs:
    beneficiary = tlv.write((("00", payee.bank), ("01", payee.value)))
    service = "QRIBFTTA" if payee.kind == "bank_account" else "QRIBFTTC"
    return [_in("38", ("00", _VIETQR), ("01", beneficiary), ("02", service))]


class _Known(NamedTuple):
    """tags: of the fields where the scheme puts its template."""

    tags: frozenset[str]
    read: Callable[[Fields, Fields], Payee]


_BY_GUID: Final[Mapping[str, _Known]] = {
    _PROMPTPAY: _Known(frozenset({"29"}), _read_promptpay),
    _PROMPTPAY_SHOWN_BY_PAYER: _Known(frozenset({"29"}), _read_promptpay),
    _THAI_BILL: _Known(frozenset({"30"}), _read_thai_bill),
    _THAI_BILL_CROSS_BORDER: _Known(frozenset({"30"}), _read_thai_bill),
    # SGQR puts PayNow among other schemes, in whichever field is free.
    _PAYNOW: _Known(frozenset(TEMPLATE_TAGS), _read_paynow),
    _DUITNOW: _Known(frozenset({"26"}), _read_duitnow),
    _QRPH_PERSON.upper(): _Known(frozenset({"27"}), _read_qrph_person),
    _QRPH_MERCHANT.upper(): _Known(frozenset({"28"}), _read_qrph_merchant),
    _VIETQR: _Known(frozenset({"38"}), _read_vietqr),
}

_WRITERS: Final[Mapping[type[Payee], Callable[..., Pairs]]] = {
    PromptPay: _write_promptpay,
    ThaiBill: _write_thai_bill,
    PayNow: _write_paynow,
    Qris: _write_qris,
    DuitNow: _write_duitnow,
    QrPhPerson: _write_qrph_person,
    QrPhMerchant: _write_qrph_merchant,
    VietQr: _write_vietqr,
}
