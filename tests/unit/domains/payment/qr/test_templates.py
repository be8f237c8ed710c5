"""Who is paid, of each scheme: what its table allows, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from tchatd.domains.payment.qr import tlv
from tchatd.domains.payment.qr.errors import (
    QrContradictory,
    QrMalformed,
    QrRefused,
    QrUnsupported,
)
from tchatd.domains.payment.qr.models import (
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
from tchatd.domains.payment.qr.templates import payee_of

PROMPTPAY, BY_PAYER = "A000000677010111", "A000000677010114"
BILL, BILL_ABROAD = "A000000677010112", "A000000677012006"


def read(tag: str, guid: str, more: dict[str, Any], **root: str) -> Payee:
    named = {f"{name[-2:]}": value for name, value in root.items()}
    return payee_of({tag: tlv.write({"00": guid} | more)} | named)


@pytest.mark.parametrize(
    ("guid", "more", "payee"),
    [
        (
            PROMPTPAY,
            {"01": "0066812345678"},
            PromptPay(kind="phone", value="+66812345678"),
        ),
        (
            PROMPTPAY,
            {"02": "1234567890123"},
            PromptPay(kind="national_id", value="1234567890123"),
        ),
        (
            PROMPTPAY,
            {"03": "123456789012345"},
            PromptPay(kind="ewallet", value="123456789012345"),
        ),
        (
            PROMPTPAY,
            {"04": "0040123456789"},
            PromptPay(kind="bank_account", value="0040123456789"),
        ),
        (
            BY_PAYER,
            {"01": "0066812345678", "05": "1234567890"},
            PromptPay(kind="phone", value="+66812345678"),
        ),
        (
            PROMPTPAY.lower(),
            {"03": "123456789012345"},
            PromptPay(kind="ewallet", value="123456789012345"),
        ),
    ],
)
def test_promptpay(guid: str, more: dict[str, str], payee: Payee) -> None:
    assert read("29", guid, more) == payee


def test_thai_bills_at_home_and_across_the_border() -> None:
    more = {"01": "123456789012345", "02": "REF 1", "03": "REF2"}
    home = ThaiBill(
        kind="biller", value="123456789012345", reference_1="REF 1", reference_2="REF2"
    )
    assert read("30", BILL, more) == home
    abroad = read("30", BILL_ABROAD, {"01": "123456789012345"})
    assert abroad == ThaiBill(kind="biller", value="123456789012345", cross_border=True)


@pytest.mark.parametrize("tag", ["26", "31", "51"])
def test_paynow_is_found_wherever_sgqr_put_it(tag: str) -> None:
    more = {"01": "0", "02": "+6591234567", "03": "1"}
    expected = PayNow(kind="phone", value="+6591234567", amount_editable=True)
    assert read(tag, "SG.PAYNOW", more) == expected


def test_an_amount_of_paynow_is_fixed_where_nothing_else_is_said() -> None:
    more = {"01": "2", "02": "201912345K"}
    without = read("26", "SG.PAYNOW", more)
    fixed = read("26", "SG.PAYNOW", more, tag_54="1.00")
    assert isinstance(without, PayNow)
    assert isinstance(fixed, PayNow)
    assert (without.amount_editable, fixed.amount_editable) == (True, False)


def test_an_expiry_of_paynow_is_a_day_or_a_second() -> None:
    more = {"01": "2", "02": "201912345K", "03": "0"}
    day = read("26", "SG.PAYNOW", more | {"04": "20300131"})
    second = read("26", "SG.PAYNOW", more | {"04": "20300131123005"})
    assert isinstance(day, PayNow)
    assert isinstance(second, PayNow)
    assert str(day.expires_at) == "2030-01-31 23:59:59+08:00"
    assert str(second.expires_at) == "2030-01-31 12:30:05+08:00"


QRIS_26 = {
    "00": "ID.CO.CONTOH.WWW",
    "01": "936009153000000001",
    "02": "M1",
    "03": "UMI",
}
QRIS_51 = {"00": "ID.CO.QRIS.WWW", "02": "ID1020000000001", "03": "UMI"}


def qris(**templates: dict[str, str]) -> Payee:
    return payee_of({name[-2:]: tlv.write(of) for name, of in templates.items()})


def test_qris_has_two_templates_of_one_merchant() -> None:
    assert qris(tag_26=QRIS_26, tag_51=QRIS_51) == Qris(
        kind="merchant_pan",
        value="936009153000000001",
        acquirer="ID.CO.CONTOH.WWW",
        merchant_id="M1",
        national_merchant_id="ID1020000000001",
        criteria="UMI",
    )
    alone = qris(tag_26=QRIS_26)
    assert (alone.kind, alone.value) == ("merchant_pan", "936009153000000001")
    central = qris(tag_51=QRIS_51)
    assert (central.kind, central.value) == ("national_merchant_id", "ID1020000000001")


def test_beside_its_own_template_qris_takes_other_domains_of_acquirers() -> None:
    other = QRIS_26 | {"00": "COM.CONTOH.WWW"}
    payee = qris(tag_26=other, tag_51=QRIS_51)
    assert isinstance(payee, Qris)
    assert payee.acquirer == "COM.CONTOH.WWW"
    with pytest.raises(QrUnsupported):
        qris(tag_26=other)


@pytest.mark.parametrize(
    "templates",
    [
        {"tag_26": QRIS_26, "tag_51": QRIS_51 | {"03": "UME"}},
        {"tag_26": QRIS_26, "tag_27": QRIS_26},
        {"tag_26": QRIS_51},
        {"tag_26": QRIS_26, "tag_45": QRIS_26 | {"01": "936009153000000002"}},
        {"tag_26": QRIS_26, "tag_29": {"00": PROMPTPAY, "02": "1" * 13}},
    ],
)
def test_qris_that_disagrees_is_refused(templates: dict[str, dict[str, str]]) -> None:
    with pytest.raises(QrContradictory):
        qris(**templates)


def test_duitnow_of_a_merchant_and_of_a_person() -> None:
    more = {"01": "501664", "02": "123456789"}
    merchant = read("26", "A0000006150001", more, tag_52="5499")
    assert merchant == DuitNow(kind="merchant", value="123456789", bank="501664")
    person = read("26", "A0000006150001", more, tag_52="0000")
    assert person == DuitNow(kind="person", value="123456789", bank="501664")


def test_qr_ph_of_people() -> None:
    bank = {"01": "AAAAPHM1XXX", "02": "99964403"}
    by_account = QrPhPerson(kind="bank_account", value="1234", bank="AAAAPHM1XXX")
    assert read("27", "com.p2pqrpay", bank | {"04": "1234"}) == by_account
    assert read("27", "com.p2pqrpay", bank | {"03": "1234"}) == by_account
    assert read("27", "com.p2pqrpay", bank | {"03": "1234", "04": "1234"}) == by_account
    for mobile in ("+63-9123456789", "+639123456789", "639123456789"):
        assert read("27", "com.p2pqrpay", bank | {"05": mobile}) == QrPhPerson(
            kind="phone", value="+639123456789", bank="AAAAPHM1XXX"
        )
    both = read("27", "com.p2pqrpay", bank | {"04": "1234", "05": "+63-9123456789"})
    assert isinstance(both, QrPhPerson)
    assert (both.value, both.phone) == ("1234", "+639123456789")


def test_qr_ph_of_merchants() -> None:
    more = {"01": "PAPHPHM1XXX", "03": "123456789", "05": "001"}
    assert read("28", "ph.ppmi.p2m", more) == QrPhMerchant(
        kind="merchant", value="123456789", bank="PAPHPHM1XXX", payment_code="001"
    )


def test_vietqr_to_an_account_and_to_a_card() -> None:
    account = {"01": tlv.write({"00": "970432", "01": "0810912900"}), "02": "QRIBFTTA"}
    assert read("38", "A000000727", account) == VietQr(
        kind="bank_account", value="0810912900", bank="970432"
    )
    card = {"01": tlv.write({"00": "970432", "01": "9704320000000001"})}
    assert read("38", "A000000727", card | {"02": "QRIBFTTC"}) == VietQr(
        kind="card", value="9704320000000001", bank="970432"
    )


VIETQR = tlv.write({"00": "970432", "01": "0810912900"})


@pytest.mark.parametrize(
    ("tag", "guid", "more", "error"),
    [
        ("29", PROMPTPAY, {}, QrUnsupported),
        ("29", PROMPTPAY, {"05": "1234567890"}, QrUnsupported),
        ("29", PROMPTPAY, {"01": "0812345678"}, QrMalformed),
        ("29", PROMPTPAY, {"01": "00668123456789"}, QrMalformed),
        ("29", PROMPTPAY, {"01": "0066012345678"}, QrMalformed),
        ("29", PROMPTPAY, {"02": "123456789012"}, QrMalformed),
        ("29", PROMPTPAY, {"02": "๑" * 13}, QrMalformed),
        ("29", PROMPTPAY, {"03": "12345678901234"}, QrMalformed),
        ("29", PROMPTPAY, {"02": "1" * 13, "03": "1" * 15}, QrContradictory),
        ("30", PROMPTPAY, {"02": "1" * 13}, QrContradictory),
        ("29", BILL, {"01": "1" * 15}, QrContradictory),
        ("30", BILL, {"02": "REF1"}, QrMalformed),
        ("30", BILL, {"01": "1" * 16}, QrMalformed),
        ("30", BILL, {"01": "1", "02": "x" * 26}, QrMalformed),
        ("30", BILL, {"01": "1", "02": "ก"}, QrMalformed),
        ("26", "SG.PAYNOW", {"02": "201912345K"}, QrUnsupported),
        ("26", "SG.PAYNOW", {"01": "1", "02": "S1234567A"}, QrUnsupported),
        ("26", "SG.PAYNOW", {"01": "0", "02": "91234567"}, QrMalformed),
        ("26", "SG.PAYNOW", {"01": "2", "02": "+6591234567"}, QrMalformed),
        ("26", "SG.PAYNOW", {"01": "2"}, QrMalformed),
        (
            "26",
            "SG.PAYNOW",
            {"01": "2", "02": "201912345K", "03": "2"},
            QrMalformed,
        ),
        (
            "26",
            "SG.PAYNOW",
            {"01": "2", "02": "201912345K", "04": "20300231"},
            QrMalformed,
        ),
        (
            "26",
            "SG.PAYNOW",
            {"01": "2", "02": "201912345K", "04": "2030013112"},
            QrMalformed,
        ),
        ("26", "ID.CO.CONTOH.WWW", {"01": "1234567890"}, QrMalformed),
        ("26", "ID.CO.CONTOH.WWW", {"01": "936009153", "03": "UXX"}, QrMalformed),
        ("51", "ID.CO.QRIS.WWW", {"02": "ID102"}, QrMalformed),
        ("51", "ID.CO.QRIS.WWW", {"02": "1" * 15, "03": "umi"}, QrMalformed),
        ("26", "A0000006150001", {"01": "5016640", "02": "1"}, QrMalformed),
        ("26", "A0000006150001", {"01": "501664", "02": "x" * 29}, QrMalformed),
        ("26", "A0000006150001", {"02": "1"}, QrMalformed),
        ("38", "A0000006150001", {"01": "501664", "02": "1"}, QrContradictory),
        ("27", "com.p2pqrpay", {"01": "AAAAPHM1XXX"}, QrMalformed),
        ("27", "com.p2pqrpay", {"01": "AAAA", "04": "1"}, QrMalformed),
        ("27", "com.p2pqrpay", {"01": "AAAAPHM1", "04": "***"}, QrMalformed),
        ("27", "com.p2pqrpay", {"01": "AAAAPHM1", "05": "+6591234567"}, QrMalformed),
        (
            "27",
            "com.p2pqrpay",
            {"01": "AAAAPHM1", "03": "1", "04": "2"},
            QrContradictory,
        ),
        ("28", "com.p2pqrpay", {"01": "AAAAPHM1", "04": "1"}, QrContradictory),
        ("28", "ph.ppmi.p2m", {"01": "PAPHPHM1XXX"}, QrMalformed),
        ("38", "A000000727", {"01": VIETQR}, QrUnsupported),
        ("38", "A000000727", {"01": VIETQR, "02": "QRCASH"}, QrUnsupported),
        ("38", "A000000727", {"01": "no fields", "02": "QRIBFTTA"}, QrMalformed),
        ("38", "A000000727", {"02": "QRIBFTTA"}, QrMalformed),
        ("38", "A000000727", {"01": VIETQR, "02": "QRIBFTTC"}, QrMalformed),
        (
            "38",
            "A000000727",
            {"01": tlv.write({"00": "97043", "01": "1"}), "02": "QRIBFTTA"},
            QrMalformed,
        ),
        ("26", "ORG.EXAMPLE", {"01": "1"}, QrUnsupported),
    ],
)
def test_what_the_table_does_not_allow_is_refused(
    tag: str, guid: str, more: dict[str, str], error: type[QrRefused]
) -> None:
    with pytest.raises(error):
        read(tag, guid, more)


def test_one_scheme_twice_is_two_payees() -> None:
    paynow = tlv.write({"00": "SG.PAYNOW", "01": "2", "02": "201912345K"})
    with pytest.raises(QrContradictory):
        payee_of({"26": paynow, "27": paynow})


def test_templates_that_do_not_name_their_scheme_are_passed_over() -> None:
    with pytest.raises(QrUnsupported):
        payee_of({"29": tlv.write({"01": "0066812345678"})})
    with pytest.raises(QrUnsupported):
        payee_of({"25": tlv.write({"00": "SG.PAYNOW", "01": "2", "02": "201912345K"})})
