"""Owns payment QR codes for tests: vectors, any payment, readers that are not ours."""

from __future__ import annotations

import re
import struct
import zlib
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import cemacqr
import msgspec
from hypothesis import strategies as st

from tchatd.domains.payment.qr.amounts import BASIS_POINTS_MAX, MINOR_MAX
from tchatd.domains.payment.qr.models import (
    RULES,
    DuitNow,
    Payee,
    PayNow,
    PromptPay,
    Qris,
    QrPayment,
    QrPhMerchant,
    QrPhPerson,
    ThaiBill,
    VietQr,
)
from tchatd.domains.payment.qr.templates import SINGAPORE
from tchatd.kernel.money import EXPONENT, NUMERIC, Currency

VECTORS: Final[list[dict[str, Any]]] = msgspec.json.decode(
    (Path(__file__).parents[1] / "vectors" / "qr.json").read_bytes()
)


def _shifted(register: int, bits: int) -> int:
    """CRC-16/CCITT-FALSE as it is defined: a bit at a time, the highest first."""
    for _ in range(bits):
        carry = register & 0x8000
        register = (register << 1) & 0xFFFF
        if carry:
            register ^= 0x1021
    return register


@cache
def _words() -> tuple[int, ...]:
    """What becomes of a register by 16 bits: a million texts take seconds, then."""
    return tuple(_shifted(word, 16) for word in range(1 << 16))


def independent_checksum(text: str) -> str:
    encoded = text.encode("utf-8", "surrogatepass")
    words, register = _words(), 0xFFFF
    for word in struct.unpack_from(f">{len(encoded) // 2}H", encoded):
        register = words[register ^ word]
    if len(encoded) % 2:
        register = _shifted(register ^ encoded[-1] << 8, 8)
    return f"{register:04X}"


def sealed(body: str) -> str:
    """body: all fields but 63."""
    return body + "6304" + independent_checksum(body + "6304")


def checksum_is_right(payload: str) -> bool:
    return payload[-8:-4] == "6304" and payload[-4:] == independent_checksum(
        payload[:-4]
    )


def field(tag: str, value: str) -> str:
    return f"{tag}{len(value):02d}{value}"


def scheme_of(payee: Payee) -> str:
    tag = type(payee).__struct_config__.tag
    assert isinstance(tag, str)
    return tag


# Any payment that a code can say, by scheme. Parts of field 62 are short enough for all
# of them to be there at once.

_DIGITS = "0123456789"
_UPPER = _DIGITS + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ALPHANUMERIC = _UPPER + "abcdefghijklmnopqrstuvwxyz"
_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
_SHOWN = st.characters(exclude_categories=("C", "Z"), include_characters=" ")


def _of(alphabet: str, least: int, most: int | None = None) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=least, max_size=most or least)


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def _said(most: int) -> st.SearchStrategy[str | None]:
    return _maybe(
        st.text(_SHOWN, min_size=1, max_size=most).filter(lambda t: t != "***")
    )


def _thai_phone() -> st.SearchStrategy[str]:
    return st.integers(100_000_000, 999_999_999).map("+66{}".format)


def _ph_phone() -> st.SearchStrategy[str]:
    return st.integers(0, 999_999_999).map("+639{:09d}".format)


def _bic() -> st.SearchStrategy[str]:
    return _of(_UPPER, 8) | _of(_UPPER, 11)


def _instant() -> st.SearchStrategy[datetime]:
    instants = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
    return instants.map(lambda at: at.replace(microsecond=0, tzinfo=SINGAPORE))


def _promptpay() -> st.SearchStrategy[Payee]:
    def made(kind: Any, value: st.SearchStrategy[str]) -> st.SearchStrategy[Payee]:
        return value.map(lambda text: PromptPay(kind=kind, value=text))

    return st.one_of(
        made("phone", _thai_phone()),
        made("national_id", _of(_DIGITS, 13)),
        made("ewallet", _of(_DIGITS, 15)),
        made("bank_account", _of(_DIGITS, 1, 43)),
    )


def _thai_bill() -> st.SearchStrategy[Payee]:
    return st.builds(
        ThaiBill,
        kind=st.just("biller"),
        value=_of(_ALPHANUMERIC, 1, 15),
        reference_1=_maybe(_of(_VISIBLE, 1, 25)),
        reference_2=_maybe(_of(_VISIBLE, 1, 25)),
        cross_border=st.booleans(),
    )


def _paynow() -> st.SearchStrategy[Payee]:
    proxies = st.tuples(st.just("uen"), _of(_UPPER, 9, 13)) | st.tuples(
        st.just("phone"), st.integers(80_000_000, 99_999_999).map("+65{}".format)
    )
    return st.builds(
        lambda proxy, editable, expires_at: PayNow(
            kind=proxy[0],
            value=proxy[1],
            amount_editable=editable,
            expires_at=expires_at,
        ),
        proxies,
        st.booleans(),
        _maybe(_instant()),
    )


def _qris() -> st.SearchStrategy[Payee]:
    criteria = st.sampled_from([None, "UMI", "UME", "UKE", "URE"])
    domain = _of(_UPPER, 1, 20).filter(lambda name: name != "QRIS")
    with_pan = st.builds(
        Qris,
        kind=st.just("merchant_pan"),
        value=_of(_DIGITS, 4, 15).map("9360{}".format),
        acquirer=domain.map("ID.CO.{}.WWW".format),
        merchant_id=_maybe(_of(_VISIBLE, 1, 15)),
        national_merchant_id=_maybe(_of(_UPPER, 15)),
        criteria=criteria,
    )
    return with_pan | st.builds(
        Qris,
        kind=st.just("national_merchant_id"),
        value=_of(_UPPER, 15),
        criteria=criteria,
    )


def _duitnow() -> st.SearchStrategy[Payee]:
    return st.builds(
        DuitNow,
        kind=st.sampled_from(["person", "merchant"]),
        value=_of(_VISIBLE, 1, 28),
        bank=_of(_UPPER, 1, 6),
    )


def _qrph_person() -> st.SearchStrategy[Payee]:
    with_account = st.builds(
        QrPhPerson,
        kind=st.just("bank_account"),
        value=_of(_ALPHANUMERIC, 1, 34),
        bank=_bic(),
        phone=_maybe(_ph_phone()),
    )
    return with_account | st.builds(
        QrPhPerson, kind=st.just("phone"), value=_ph_phone(), bank=_bic()
    )


def _qrph_merchant() -> st.SearchStrategy[Payee]:
    return st.builds(
        QrPhMerchant,
        kind=st.just("merchant"),
        value=_of(_VISIBLE, 1, 25),
        bank=_bic(),
        payment_code=_maybe(_of(_ALPHANUMERIC, 1, 10)),
    )


def _vietqr() -> st.SearchStrategy[Payee]:
    account = st.builds(
        VietQr,
        kind=st.just("bank_account"),
        value=_of(_ALPHANUMERIC, 1, 19),
        bank=_of(_DIGITS, 6),
    )
    return account | st.builds(
        VietQr, kind=st.just("card"), value=_of(_DIGITS, 12, 19), bank=_of(_DIGITS, 6)
    )


PAYEES: Final[dict[type[Payee], st.SearchStrategy[Payee]]] = {
    PromptPay: _promptpay(),
    ThaiBill: _thai_bill(),
    PayNow: _paynow(),
    Qris: _qris(),
    DuitNow: _duitnow(),
    QrPhPerson: _qrph_person(),
    QrPhMerchant: _qrph_merchant(),
    VietQr: _vietqr(),
}
assert set(PAYEES) == set(RULES)


def category_of(payee: Payee) -> st.SearchStrategy[str | None]:
    if isinstance(payee, QrPhPerson):
        return st.sampled_from([None, "6016"])
    if isinstance(payee, DuitNow) and payee.kind == "person":
        return st.just("0000")
    most_of = _maybe(_of(_DIGITS, 4))
    return most_of.filter(lambda text: not isinstance(payee, DuitNow) or text != "0000")


@st.composite
def payments(draw: st.DrawFn) -> QrPayment:
    """Any payment that a code can say."""
    payee = draw(st.one_of(*PAYEES.values()))
    rules = RULES[type(payee)]
    amount = st.integers(1, MINOR_MAX[rules.currency])
    tip: dict[str, Any] = draw(
        st.one_of(
            st.just({}),
            st.just({"asks_tip": True}),
            st.fixed_dictionaries({"fee_minor": amount}),
            st.fixed_dictionaries(
                {"fee_basis_points": st.integers(1, BASIS_POINTS_MAX)}
            ),
        )
    )
    names = ["reference", "bill_number", "store", "terminal", "note"]
    if isinstance(payee, PayNow):
        names.remove("bill_number")
    said: dict[str, Any] = {name: draw(_said(8)) for name in names}
    may_ask = ["mobile", "loyalty", "customer"]
    may_ask += [name for name, value in said.items() if value is None]
    return QrPayment(
        payee=payee,
        is_dynamic=draw(st.booleans()),
        currency=rules.currency,
        country=rules.country,
        amount_minor=draw(_maybe(amount)),
        merchant_name=draw(_said(25)),
        merchant_city=draw(_said(15)),
        postal_code=draw(_said(10)),
        category=draw(category_of(payee)),
        asks=tuple(draw(st.sets(st.sampled_from(may_ask)))),
        **tip,
        **said,
    )


def pixels_of_png(png: bytes) -> tuple[int, bytes]:
    """The side of a square picture of one bit a pixel, and its pixels, a byte each:
    0 (black) or 255, row after row."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, parts = 8, {b"IDAT": b""}
    while at < len(png):
        size, name = struct.unpack_from(">I4s", png, at)
        parts[name] = parts.get(name, b"") + png[at + 8 : at + 8 + size]
        at += size + 12
    width, height, depth, color = struct.unpack_from(">IIBB", parts[b"IHDR"])
    assert (width, depth) == (height, 1)
    assert color in (0, 3)
    first_is_dark = color == 0 or parts[b"PLTE"][0] == 0
    rows = zlib.decompress(parts[b"IDAT"])
    stride = (width + 7) // 8
    above, pixels = bytes(stride), bytearray()
    for at in range(0, len(rows), stride + 1):
        kind, row = rows[at], rows[at + 1 : at + 1 + stride]
        assert kind in (0, 2), "a row as it is, or as it differs from the one above"
        if kind == 2:
            row = bytes((a + b) & 0xFF for a, b in zip(row, above, strict=True))
        above = row
        bits = f"{int.from_bytes(row):0{8 * stride}b}"[:width]
        pixels += bytes(255 if (bit == "1") == first_is_dark else 0 for bit in bits)
    return width, bytes(pixels)


class SecondReading(NamedTuple):
    """What a reader that is not ours (cemacqr) finds: money, and what templates hold.

    parts: of all account templates, two levels deep.
    """

    checksum_is_right: bool
    amount_minor: int | None
    currency: Currency
    merchant_name: str | None
    merchant_city: str | None
    is_static: bool | None
    parts: frozenset[str]


def second_reading(payload: str) -> SecondReading:
    code = cemacqr.parse_payload(payload)
    [currency] = [
        of for of, number in NUMERIC.items() if f"{number:03d}" == code.currency
    ]
    amount = code.amount_decimal
    minor = None if amount is None else amount.scaleb(EXPONENT[currency])
    if minor is not None:
        assert minor == int(minor)
    parts = set()
    for template in code.merchant_accounts.values():
        for value in template.values():
            parts.add(value)
            parts |= {child.value for child in cemacqr.Tlv("", value).children()}
    return SecondReading(
        checksum_is_right=code.crc_ok,
        amount_minor=None if minor is None else int(minor),
        currency=currency,
        merchant_name=code.merchant_name,
        merchant_city=code.merchant_city,
        is_static=code.is_static,
        parts=frozenset(parts),
    )


def assert_second_reading_agrees(payload: str, payment: QrPayment) -> None:
    """A second reader finds the same amount, currency, payee and names."""
    read = second_reading(payload)
    assert read.checksum_is_right
    assert read.amount_minor == payment.amount_minor
    assert read.currency is payment.currency
    assert read.merchant_name == payment.merchant_name
    assert read.merchant_city == payment.merchant_city
    assert bool(read.is_static) != payment.is_dynamic or read.is_static is None
    value = payment.payee.value
    if payment.payee.kind == "phone":
        # Each scheme has its own spelling: 0066…, +65…, +63-….
        parts = {re.sub(r"\D", "", part).removeprefix("00") for part in read.parts}
        assert value.removeprefix("+") in parts
    else:
        assert value in read.parts
