"""A code that is made says what it was asked to, also to somebody else's reader."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from tchatd.domains.payment.qr import tlv
from tchatd.domains.payment.qr.errors import QrNotExpressible
from tchatd.domains.payment.qr.generating import generate
from tchatd.domains.payment.qr.models import (
    RULES,
    DuitNow,
    Payee,
    PayNow,
    PromptPay,
    Qris,
    QrPayment,
    QrPhPerson,
    ThaiBill,
    VietQr,
)
from tchatd.domains.payment.qr.parsing import parse
from tchatd.kernel.money import Currency
from tests.support.qr import (
    VECTORS,
    assert_second_reading_agrees,
    checksum_is_right,
    payments,
)

PHONE = PromptPay(kind="phone", value="+66812345678")
BILL = ThaiBill(kind="biller", value="123456789012300", reference_1="INV1")
UEN = PayNow(kind="uen", value="201912345K", amount_editable=False)
ACCOUNT = VietQr(kind="bank_account", value="0810912900", bank="970432")


def made(payee: Payee, **more: Any) -> QrPayment:
    rules = RULES[type(payee)]
    start: dict[str, Any] = {
        "is_dynamic": False,
        "currency": rules.currency,
        "country": rules.country,
    }
    return QrPayment(payee=payee, **(start | more))


@given(payments())
def test_what_is_made_says_the_same(payment: QrPayment) -> None:
    payload = generate(payment)
    assert len(payload) <= tlv.PAYLOAD_CHARS_MAX
    assert checksum_is_right(payload)
    read = parse(payload)
    assert set(read.asks) == set(payment.asks)
    assert replace(read, asks=payment.asks) == payment


@given(payments())
def test_a_second_reader_agrees_about_what_is_made(payment: QrPayment) -> None:
    assert_second_reading_agrees(generate(payment), payment)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["payload"][-4:])
def test_a_second_reader_agrees_about_the_vectors(vector: dict[str, Any]) -> None:
    assert_second_reading_agrees(vector["payload"], parse(vector["payload"]))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["payload"][-4:])
def test_what_a_vector_says_can_be_made(vector: dict[str, Any]) -> None:
    payment = parse(vector["payload"])
    assert parse(generate(payment)) == payment


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_common_form_is_that_of_the_vectors(index: int) -> None:
    """The others have 02 for the version of the format, which only DuitNow asks for."""
    payload = VECTORS[index]["payload"]
    assert generate(parse(payload)) == payload


@pytest.mark.parametrize(
    "payment",
    [
        made(PHONE, currency=Currency.SGD),
        made(PHONE, country="SG"),
        made(PHONE, amount_minor=0),
        made(PHONE, amount_minor=-5),
        made(PHONE, amount_minor=10**12),
        made(PHONE, merchant_name="x" * 26),
        made(PHONE, merchant_name=""),
        made(PHONE, merchant_name="a\nb"),
        made(PHONE, merchant_name="a\u202eb"),
        made(PHONE, merchant_name="\ud800"),
        made(PHONE, merchant_city="x" * 16),
        made(PHONE, category="12"),
        made(PHONE, note="***"),
        made(PHONE, note="x", asks=("note",)),
        made(PHONE, note="x" * 96),
        made(PHONE, fee_minor=1, asks_tip=True),
        made(PHONE, fee_minor=1, fee_basis_points=1),
        made(PHONE, fee_basis_points=0),
        made(replace(PHONE, value="0812345678")),
        made(replace(PHONE, value="+6681234567")),
        made(replace(PHONE, kind="ewallet")),
        made(replace(BILL, reference_1="x" * 26)),
        made(replace(BILL, reference_1="")),
        made(replace(UEN, value="not a uen")),
        made(replace(UEN, expires_at=datetime(2030, 1, 1))),
        made(UEN, bill_number="B1"),
        made(replace(ACCOUNT, kind="card")),
        made(replace(ACCOUNT, bank="97043")),
        made(ACCOUNT, amount_minor=10**13),
        made(DuitNow(kind="person", value="1", bank="501664")),
        made(DuitNow(kind="merchant", value="1", bank="501664"), category="0000"),
        made(Qris(kind="merchant_pan", value="93600915300000000")),
        made(Qris(kind="merchant_pan", value="1", acquirer="ID.CO.X.WWW")),
        made(
            Qris(kind="merchant_pan", value="936009153", acquirer="ID.CO.QRIS.WWW"),
        ),
        made(
            QrPhPerson(kind="phone", value="+639123456789", bank="AAAAPHM1"),
            category="1",
        ),
        made(
            QrPhPerson(kind="phone", value="+639123456789", bank="AAAAPHM1"),
            category="5411",
        ),
        made(
            QrPhPerson(
                kind="phone",
                value="+639123456789",
                bank="AAAAPHM1",
                phone="+639123456789",
            ),
        ),
    ],
)
def test_what_a_code_cannot_say_is_not_made(payment: QrPayment) -> None:
    with pytest.raises(QrNotExpressible):
        generate(payment)


def test_a_day_of_expiry_ends_with_its_last_second() -> None:
    vector = VECTORS[2]["payload"]
    payee = parse(vector).payee
    assert isinstance(payee, PayNow)
    assert payee.expires_at is not None
    assert payee.expires_at.isoformat() == "2030-12-31T23:59:59+08:00"
    later = replace(payee, expires_at=payee.expires_at.replace(second=58))
    assert "041420301231235958" in generate(replace(parse(vector), payee=later))


def test_what_the_payer_has_to_supply_is_asked_for_in_any_order() -> None:
    payment = made(PHONE, asks=("note", "bill_number"))
    assert "62140103***0803***" in generate(payment)


def test_qr_ph_says_its_scheme_in_the_additional_data() -> None:
    payee = QrPhPerson(kind="bank_account", value="1", bank="AAAAPHM1")
    payload = generate(made(payee, reference="R1", category="6016"))
    assert "62220012com.p2pqrpay0502R1" in payload
