"""What a code says is read exactly, and what could mean two things is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.domains.payment.qr import tlv
from tchatd.domains.payment.qr.errors import (
    QrAmountRefused,
    QrChecksumWrong,
    QrContradictory,
    QrMalformed,
    QrRefused,
    QrUnsupported,
)
from tchatd.domains.payment.qr.generating import generate
from tchatd.domains.payment.qr.models import PromptPay, QrPayment
from tchatd.domains.payment.qr.parsing import parse
from tests.support.qr import VECTORS, field, payments, scheme_of, sealed

HEAD = "000201" + "010211"
PHONE = field("29", field("00", "A000000677010111") + field("01", "0066812345678"))
BAHT = field("53", "764")
THAILAND = field("58", "TH")
PLAIN = HEAD + PHONE + BAHT + THAILAND


def test_the_own_example_is_one() -> None:
    assert parse(sealed(PLAIN)).payee == PromptPay(kind="phone", value="+66812345678")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["payload"][-4:])
def test_the_vectors_say_what_they_mean(vector: dict[str, Any]) -> None:
    payment, expected = parse(vector["payload"]), vector["expect"]
    assert scheme_of(payment.payee) == vector["scheme"]
    assert payment.amount_minor == expected["amount_minor"]
    assert payment.currency.value == expected["currency"]
    if "proxy" in expected:
        assert payment.payee.value == expected["proxy"]
    if "merchant" in expected:
        assert payment.merchant_name == expected["merchant"]


@given(payments(), st.randoms())
def test_the_order_of_fields_means_nothing(payment: QrPayment, random: Any) -> None:
    payload = generate(payment)
    first, *others, _ = tlv.read(payload).items()
    random.shuffle(others)
    assert parse(sealed(tlv.write([first, *others]))) == parse(payload)


@given(payments())
def test_fields_and_schemes_that_are_not_known_are_passed_over(
    payment: QrPayment,
) -> None:
    payload = generate(payment)
    strange = (
        field("02", "4111111111111111"),
        field("40", field("00", "ORG.EXAMPLE") + field("01", "somebody")),
        field("41", field("01", "no name of a scheme")),
        field("64", field("00", "TH") + field("01", "ชื่อ")),
        field("99", "anything"),
    )
    longer = payload[:-8] + "".join(strange)
    if len(longer) + 8 <= tlv.PAYLOAD_CHARS_MAX:
        assert parse(sealed(longer)) == parse(payload)


def test_a_code_may_leave_out_what_only_decorates_it() -> None:
    payment = parse(sealed("000201" + PHONE + BAHT))
    assert (payment.is_dynamic, payment.country) == (False, "TH")
    assert payment.merchant_name is None


@pytest.mark.parametrize("version", ["01", "02"])
def test_either_version_of_the_format_is_taken(version: str) -> None:
    parse(sealed("0002" + version + PHONE + BAHT))


@pytest.mark.parametrize(
    "body",
    [
        "000203" + PHONE + BAHT,
        "0001" + "1" + PHONE + BAHT,
        PHONE + BAHT,
        PHONE + BAHT + "000201",
        PLAIN + "00",  # not fields
        PLAIN + field("27", "no fields"),
        HEAD + PHONE + THAILAND,  # no currency
        HEAD[:6] + "010213" + PHONE + BAHT,
        HEAD[:6] + "01011" + PHONE + BAHT,
        PLAIN + field("52", "12a4"),
        PLAIN + field("52", "123"),
        PLAIN + field("59", "x" * 26),
        PLAIN + field("60", "x" * 16),
        PLAIN + field("61", "x" * 11),
        PLAIN + field("62", "no fields"),
        PLAIN + field("59", "a\tb"),
        PLAIN + field("59", "evil\u202eeman"),
        PLAIN + field("59", "in\u200bvisible"),
        PLAIN + field("59", "\ud800"),
        PLAIN + "".join(field(str(tag), "x" * 99) for tag in range(80, 85)),
    ],
)
def test_what_is_not_of_the_format_is_refused(body: str) -> None:
    with pytest.raises(QrMalformed):
        parse(sealed(body))


@pytest.mark.parametrize(
    "text", ["", "0", "6304", "63041D0F", "https://a.example/", "00020163", "สวัสดี"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(QrMalformed):
        parse(text)


def test_the_checksum_comes_last_and_is_a_field() -> None:
    inside = field("62", field("08", "x" * 3))
    # The text ends as if with a checksum, but those characters belong to a note.
    whole = sealed(PLAIN + "62" + "16" + "08" + "12" + "note")
    with pytest.raises(QrMalformed):
        parse(whole)
    with pytest.raises(QrMalformed):
        parse(sealed(PLAIN + inside) + field("64", "x"))


@pytest.mark.parametrize(
    "change",
    [
        lambda payload: payload[:-1] + ("0" if payload[-1] != "0" else "1"),
        lambda payload: payload.replace("0066812345678", "0066812345679"),
        lambda payload: payload[:-4] + payload[-4:].lower(),
        lambda payload: payload[:-4] + "FFFF",
    ],
)
def test_a_wrong_checksum_is_refused(change: Any) -> None:
    payload = sealed(PLAIN + field("54", "1.00"))
    assert any(letter.isalpha() for letter in payload[-4:])
    with pytest.raises(QrChecksumWrong):
        parse(change(payload))


@pytest.mark.parametrize(
    "body",
    [
        HEAD + PHONE + field("53", "702") + THAILAND,
        HEAD + PHONE + field("53", "840"),
        HEAD + PHONE + field("53", "THB"),
        HEAD + PHONE + BAHT + field("58", "SG"),
        HEAD + PHONE + BAHT + field("58", "th"),
        PLAIN + BAHT,
        PLAIN + field("54", "1.00") + field("54", "2.00"),
        PLAIN + field("59", "A") + field("59", "A"),
        PLAIN + field("62", field("08", "a") + field("08", "b")),
    ],
)
def test_what_contradicts_itself_is_refused(body: str) -> None:
    with pytest.raises(QrContradictory):
        parse(sealed(body))


@pytest.mark.parametrize("text", ["0", "0.00", "1.005", "1,5", "-1", "9" * 13])
def test_an_amount_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(QrAmountRefused):
        parse(sealed(PLAIN + field("54", text)))


def test_dongs_have_no_decimals() -> None:
    payload = VECTORS[6]["payload"]
    with pytest.raises(QrAmountRefused):
        parse(sealed(payload[:-8].replace("540550000", "540850000.00")))


def test_fees_and_tips_are_told_beside_the_amount() -> None:
    amount = field("54", "100.00")
    asks = parse(sealed(PLAIN + amount + field("55", "01")))
    assert (asks.amount_minor, asks.asks_tip, asks.fee_minor) == (10_000, True, None)
    fixed = parse(sealed(PLAIN + amount + field("55", "02") + field("56", "2.50")))
    assert (fixed.amount_minor, fixed.fee_minor) == (10_000, 250)
    part = parse(sealed(PLAIN + amount + field("55", "03") + field("57", "2.5")))
    assert (part.amount_minor, part.fee_basis_points) == (10_000, 250)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (field("55", "04"), QrMalformed),
        (field("55", "02"), QrAmountRefused),
        (field("56", "1.00"), QrAmountRefused),
        (field("55", "01") + field("56", "1.00"), QrAmountRefused),
        (field("55", "02") + field("57", "1"), QrAmountRefused),
        (field("55", "03") + field("57", "100"), QrAmountRefused),
        (field("55", "02") + field("56", "0"), QrAmountRefused),
    ],
)
def test_a_fee_that_is_not_as_announced_is_refused(
    more: str, error: type[QrRefused]
) -> None:
    with pytest.raises(error):
        parse(sealed(PLAIN + more))


def test_stars_ask_the_payer_and_are_no_value() -> None:
    more = field("08", "***") + field("02", "***") + field("05", "R1")
    payment = parse(sealed(PLAIN + field("62", more)))
    assert payment.asks == ("mobile", "note")
    assert (payment.note, payment.reference) == (None, "R1")


def test_paynow_has_its_reference_where_others_have_the_bill() -> None:
    payment = parse(VECTORS[2]["payload"])
    assert (payment.reference, payment.bill_number) == ("INV0001", None)


def test_two_schemes_in_one_code_are_refused() -> None:
    other = field(
        "30", field("00", "A000000677010112") + field("01", "123456789012345")
    )
    with pytest.raises(QrContradictory):
        parse(sealed(PLAIN + other))
    paynow = field(
        "26", field("00", "SG.PAYNOW") + field("01", "2") + field("02", "1" * 9)
    )
    with pytest.raises(QrContradictory):
        parse(sealed(PLAIN + paynow))


def test_a_scheme_that_is_not_known_is_told_apart_from_a_broken_code() -> None:
    pix = field("26", field("00", "br.gov.bcb.pix") + field("01", "a@example.org"))
    with pytest.raises(QrUnsupported):
        parse(sealed(HEAD + pix + field("53", "986") + field("58", "BR")))


def test_no_refusal_repeats_what_the_code_says() -> None:
    bodies = [
        HEAD + field("29", field("00", "A000000677010111") + field("01", "0812345678")),
        PLAIN + field("54", "0812345678.123"),
        PLAIN + field("59", "0812345678" * 3),
    ]
    for body in bodies:
        with pytest.raises(QrRefused) as refused:
            parse(sealed(body + BAHT if BAHT not in body else body))
        assert "0812345678" not in refused.value.detail


@given(st.text(max_size=600) | st.text(alphabet="0123456789", max_size=600))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, sealed("000201" + text)):
        try:
            payment = parse(candidate)
        except QrRefused:
            continue
        assert parse(generate(payment)) == payment
