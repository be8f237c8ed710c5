"""Owns writing a payment QR code, in the form that its scheme commonly has.

Fields go by their numbers. What is written is read again before it is given away: a
code that would say anything else than what was asked for is refused, not made.
"""

from __future__ import annotations

from msgspec.structs import replace

from tchatd.domains.payment.qr import parsing, tlv
from tchatd.domains.payment.qr.amounts import write_amount, write_percentage
from tchatd.domains.payment.qr.crc import checksum
from tchatd.domains.payment.qr.errors import QrNotExpressible, QrRefused
from tchatd.domains.payment.qr.models import RULES, QrPayment
from tchatd.domains.payment.qr.templates import ADDITIONAL_GUID, Pairs, templates_of
from tchatd.kernel.money import NUMERIC

_WITHOUT_VALUE = ("mobile", "loyalty", "customer")
"""Only asked for, of the parts of field 62."""


def generate(payment: QrPayment) -> str:
    """A payload of which `parse` makes the same payment.

    Raises: QrNotExpressible, also of what no code of the scheme can say.
    """
    fields = _fields(payment)
    body = tlv.write(fields) + parsing.CHECKSUM_HEAD
    payload = body + _checksum(body)
    try:
        read = parsing.parse(payload)
    except QrRefused as refused:
        raise QrNotExpressible(refused.detail) from None
    if set(read.asks) != set(payment.asks) or read != replace(payment, asks=read.asks):
        raise QrNotExpressible
    return payload


def _checksum(body: str) -> str:
    try:
        return checksum(body)
    except UnicodeEncodeError:
        raise QrNotExpressible("It has characters that cannot be shown.") from None


def _fields(payment: QrPayment) -> Pairs:
    rules = RULES[type(payment.payee)]
    currency = payment.currency
    fields: Pairs = [
        ("00", rules.version),
        ("01", parsing.DYNAMIC if payment.is_dynamic else parsing.STATIC),
        *templates_of(payment.payee),
    ]

    def add(tag: str, value: str | None) -> None:
        if value is not None:
            fields.append((tag, value))

    add("52", payment.category)
    add("53", f"{NUMERIC[currency]:03d}")
    if payment.amount_minor is not None:
        add("54", write_amount(payment.amount_minor, currency))
    fields += _tip(payment)
    add("58", payment.country)
    add("59", payment.merchant_name)
    add("60", payment.merchant_city)
    add("61", payment.postal_code)
    additional = _additional(payment)
    if additional:
        add("62", tlv.write(additional))
    return fields


def _tip(payment: QrPayment) -> Pairs:
    fee, points = payment.fee_minor, payment.fee_basis_points
    if (fee is not None) + (points is not None) + payment.asks_tip > 1:
        raise QrNotExpressible("It is either a fee, or a percentage, or a tip.")
    if fee is not None:
        return [("55", "02"), ("56", write_amount(fee, payment.currency))]
    if points is not None:
        return [("55", "03"), ("57", write_percentage(points))]
    return [("55", "01")] if payment.asks_tip else []


def _additional(payment: QrPayment) -> Pairs:
    fields: Pairs = []
    for tag, name in sorted(parsing.additional_names(type(payment.payee)).items()):
        value = None if name in _WITHOUT_VALUE else getattr(payment, name)
        if name in payment.asks:
            if value is not None:
                raise QrNotExpressible("What is said is not asked for.")
            value = parsing.ASKED_OF_PAYER
        if value is not None:
            fields.append((tag, value))
    guid = ADDITIONAL_GUID.get(type(payment.payee))
    return [("00", guid), *fields] if guid and fields else fields
