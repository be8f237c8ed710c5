"""The checksum is CRC-16/CCITT-FALSE, as somebody else computes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.domains.payment.qr.crc import checksum
from tests.support.qr import VECTORS, independent_checksum


def test_the_check_value_of_the_catalogue() -> None:
    assert checksum("123456789") == "29B1"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["payload"][-4:])
def test_the_vectors_have_it(vector: dict[str, str]) -> None:
    payload = vector["payload"]
    assert checksum(payload[:-4]) == payload[-4:]


def test_it_has_four_digits_also_when_it_is_small() -> None:
    small = next(
        text for text in map(str, range(100_000)) if checksum(text).startswith("000")
    )
    assert len(checksum(small)) == 4


@given(st.text(st.characters(codec="utf-8")))
def test_it_is_what_the_definition_says_of_the_texts_utf_8(text: str) -> None:
    assert checksum(text) == independent_checksum(text)
