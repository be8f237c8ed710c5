"""Owns reading a payment QR code: what it says, or why it is not believed.

Strict where money could go astray: checksum, lengths, the forms of payee and amount,
the currency and country of the scheme, no field twice, one payee. Lenient where it
could not: the order of fields (but 00 first and 63 last), fields and schemes that are
not known here, the version of the format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tchatd.domains.payment.qr import tlv
from tchatd.domains.payment.qr.amounts import read_amount, read_percentage
from tchatd.domains.payment.qr.crc import checksum
from tchatd.domains.payment.qr.errors import (
    QrAmountRefused,
    QrChecksumWrong,
    QrContradictory,
    QrMalformed,
)
from tchatd.domains.payment.qr.models import (
    RULES,
    Asked,
    Payee,
    PayNow,
    QrPayment,
    SchemeRules,
)
from tchatd.domains.payment.qr.templates import payee_of
from tchatd.kernel.money import NUMERIC

CHECKSUM_HEAD: Final = "6304"
_CHECKSUM_CHARS: Final = 4
VERSIONS: Final = ("01", "02")
"""Of the format (field 00): EMVCo's is 01, DuitNow's specification says 02."""
STATIC: Final = "11"
DYNAMIC: Final = "12"
NAME_CHARS_MAX: Final = 25
CITY_CHARS_MAX: Final = 15
POSTAL_CODE_CHARS_MAX: Final = 10
ASKED_OF_PAYER: Final = "***"

_ADDITIONAL: Final[Mapping[str, Asked]] = {
    "01": "bill_number",
    "02": "mobile",
    "03": "store",
    "04": "loyalty",
    "05": "reference",
    "06": "customer",
    "07": "terminal",
    "08": "note",
}
"""The parts of field 62, EMVCo QRCPS 1.1, table 3.7."""
_ADDITIONAL_PAYNOW: Final[Mapping[str, Asked]] = {
    tag: "reference" if tag == "01" else name
    for tag, name in _ADDITIONAL.items()
    if tag != "05"
}
"""PayNow's reference is where others have the bill's number."""


def additional_names(payee: type[Payee]) -> Mapping[str, Asked]:
    """What the parts of field 62 are called, by their tags."""
    return _ADDITIONAL_PAYNOW if payee is PayNow else _ADDITIONAL


def parse(payload: str) -> QrPayment:
    """What the code says. payload: as a scanner read it, nothing added.

    Raises: QrMalformed, QrChecksumWrong, QrUnsupported, QrContradictory,
        QrAmountRefused.
    """
    _check(payload)
    root = tlv.read(payload)
    tags = tuple(root)
    if tags[0] != "00" or tags[-1] != "63" or root["00"] not in VERSIONS:
        raise QrMalformed("It is not of a version of EMVCo's format that is known.")
    payee = payee_of(root)
    rules = RULES[type(payee)]
    _check_scheme(root, rules)
    amount = root.get("54")
    fee, points, asks_tip = _tip(root, rules)
    additional = _additional(root, type(payee))
    return QrPayment(
        payee=payee,
        is_dynamic=_formed(root, "01", f"{STATIC}|{DYNAMIC}", STATIC) == DYNAMIC,
        currency=rules.currency,
        country=rules.country,
        amount_minor=None if amount is None else read_amount(amount, rules.currency),
        fee_minor=fee,
        fee_basis_points=points,
        asks_tip=asks_tip,
        merchant_name=_text(root, "59", NAME_CHARS_MAX),
        merchant_city=_text(root, "60", CITY_CHARS_MAX),
        postal_code=_text(root, "61", POSTAL_CODE_CHARS_MAX),
        category=root.get("52"),
        reference=_said(additional, "reference"),
        bill_number=_said(additional, "bill_number"),
        store=_said(additional, "store"),
        terminal=_said(additional, "terminal"),
        note=_said(additional, "note"),
        asks=tuple(name for name, said in additional.items() if said == ASKED_OF_PAYER),
    )


def _check(payload: str) -> None:
    if len(payload) > tlv.PAYLOAD_CHARS_MAX:
        raise QrMalformed(f"It is longer than {tlv.PAYLOAD_CHARS_MAX} characters.")
    # Controls, marks of direction and other letters that do not show would let a name
    # look like another one.
    if not payload.isprintable():
        raise QrMalformed("It has characters that cannot be shown.")
    at = len(payload) - _CHECKSUM_CHARS
    head_at = max(0, at - len(CHECKSUM_HEAD))
    if not (payload.startswith("00") and payload.startswith(CHECKSUM_HEAD, head_at)):
        raise QrMalformed("It does not begin or end as a payment QR code does.")
    if payload[at:] != checksum(payload[:at]):
        raise QrChecksumWrong


def _check_scheme(root: Mapping[str, str], rules: SchemeRules) -> None:
    currency = root.get("53")
    if currency is None:
        raise QrMalformed("The currency is missing.")
    if currency != f"{NUMERIC[rules.currency]:03d}":
        raise QrContradictory("The currency is not that of its scheme.")
    if root.get("58", rules.country) != rules.country:
        raise QrContradictory("The country is not that of its scheme.")
    category = _formed(root, "52", "[0-9]{4}", "")
    if category and rules.categories and category not in rules.categories:
        raise QrContradictory("The category is not one of its scheme.")


def _formed(root: Mapping[str, str], tag: str, pattern: str, default: str) -> str:
    """The value of a field, which has this form wherever it is there."""
    if tag not in root:
        return default
    if not re.fullmatch(pattern, root[tag]):
        raise QrMalformed(f"Field {tag} is not of its form.")
    return root[tag]


def _text(root: Mapping[str, str], tag: str, chars_max: int) -> str | None:
    text = root.get(tag)
    if text is not None and len(text) > chars_max:
        raise QrMalformed(f"Field {tag} has more than {chars_max} characters.")
    return text


def _tip(
    root: Mapping[str, str], rules: SchemeRules
) -> tuple[int | None, int | None, bool]:
    """A fixed fee, one in basis points, and whether the payer is asked for a tip.

    Field 55 says which; 56 and 57 are there exactly where it says so (EMVCo QRCPS 1.1,
    4.7.8).
    """
    kind = _formed(root, "55", "0[123]", "")
    if ("56" in root) != (kind == "02") or ("57" in root) != (kind == "03"):
        raise QrAmountRefused("A fee is announced and not there, or the other way.")
    fee = read_amount(root["56"], rules.currency) if "56" in root else None
    points = read_percentage(root["57"]) if "57" in root else None
    return fee, points, kind == "01"


def _additional(root: Mapping[str, str], payee: type[Payee]) -> dict[Asked, str]:
    if "62" not in root:
        return {}
    names = additional_names(payee)
    given = sorted(tlv.read(root["62"]).items())
    return {names[tag]: value for tag, value in given if tag in names}


def _said(additional: Mapping[Asked, str], name: Asked) -> str | None:
    value = additional.get(name)
    return None if value == ASKED_OF_PAYER else value
