"""Fields are exactly a tag, a length and a value; nothing is guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.domains.payment.qr import tlv
from tchatd.domains.payment.qr.errors import (
    QrContradictory,
    QrMalformed,
    QrNotExpressible,
)

TAGS = st.integers(0, 99).map("{:02d}".format)


@given(st.dictionaries(TAGS, st.text(min_size=1, max_size=tlv.VALUE_CHARS_MAX)))
def test_what_is_written_is_read_in_its_order(fields: dict[str, str]) -> None:
    read = tlv.read(tlv.write(fields))
    assert list(read.items()) == list(fields.items())


def test_a_length_counts_characters() -> None:
    assert tlv.read("5902กข6001x") == {"59": "กข", "60": "x"}


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "000",
        "0002",
        "00020",
        "0000",  # an empty value
        "0000" + "0102ab",
        "0003ab",
        "00 2ab",
        "00+1a",
        "0x02ab",
        "00٠٢ab",  # digits of another script
        "००02ab",
        "00-1a",
        "0002abc",
    ],
)
def test_what_is_not_exactly_fields_is_refused(text: str) -> None:
    with pytest.raises(QrMalformed):
        tlv.read(text)


def test_a_tag_is_there_once() -> None:
    with pytest.raises(QrContradictory):
        tlv.read("0001a0101b0001a")


@given(st.text(alphabet="0123456789ab", max_size=60))
def test_any_text_is_fields_or_refused(text: str) -> None:
    try:
        fields = tlv.read(text)
    except (QrMalformed, QrContradictory):
        return
    assert tlv.write(fields) == text


@pytest.mark.parametrize("value", ["", "x" * 100])
def test_a_value_that_has_no_length_is_not_written(value: str) -> None:
    with pytest.raises(QrNotExpressible):
        tlv.write([("59", value)])
