"""Phones: the mobile numbers of six countries, E.164, nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.kernel.phones import COUNTRIES, PhoneRefused, parse_phone


@pytest.mark.parametrize(
    ("text", "country"),
    [
        ("+66812345678", "TH"),
        ("+66612345678", "TH"),
        ("+66912345678", "TH"),
        ("+6581234567", "SG"),
        ("+6591234567", "SG"),
        ("+628123456789", "ID"),
        ("+62812345678", "ID"),
        ("+6281234567890", "ID"),
        ("+60123456789", "MY"),
        ("+601112345678", "MY"),
        ("+639171234567", "PH"),
        ("+84901234567", "VN"),
        ("+84321234567", "VN"),
        ("+84561234567", "VN"),
        ("+84701234567", "VN"),
        ("+84812345678", "VN"),
    ],
)
def test_a_mobile_number_is_taken_with_its_country(text: str, country: str) -> None:
    phone = parse_phone(text)
    assert (phone.e164, phone.country) == (text, country)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not an international number"),
        ("0812345678", "not an international number"),
        ("66812345678", "not an international number"),
        ("+66 81 234 5678", "not an international number"),
        ("+66812345678\n", "not an international number"),
        (" +66812345678", "not an international number"),
        ("+0812345678", "not an international number"),
        ("+6681234567890123", "not an international number"),
        ("+66٨١٢٣٤٥٦٧٨", "not an international number"),
        ("+66812345678;ext=1", "not an international number"),
        ("+14155552671", "numbers of this country are not served"),
        ("+85620123456", "numbers of this country are not served"),
        ("+442071838750", "numbers of this country are not served"),
        ("+80012345678", "numbers of this country are not served"),
        ("+999123456", "not a number of any country"),
        ("+6681234567", "this number does not exist"),
        ("+660812345678", "not a mobile number"),
        ("+6561234567", "not a mobile number"),
        ("+6621234567", "not a mobile number"),
        ("+842438123456", "not a mobile number"),
    ],
)
def test_what_is_no_such_number_is_refused_with_its_reason(
    text: str, reason: str
) -> None:
    with pytest.raises(PhoneRefused, match=reason) as refusal:
        parse_phone(text)
    assert text not in str(refusal.value).replace("as in +66812345678", "") or not text


@given(text=st.one_of(st.text(max_size=20), st.from_regex(r"\A\+[0-9]{1,15}\Z")))
def test_any_text_is_a_phone_of_six_countries_or_refused(text: str) -> None:
    try:
        phone = parse_phone(text)
    except PhoneRefused:
        return
    assert phone.e164 == text
    assert phone.country in COUNTRIES
