"""One suite for the texts of ids and times in C and their twin in Python."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd_ext import text, text_py

WAYS = [text, text_py]


@pytest.mark.parametrize("way", WAYS)
@given(id=st.binary(min_size=16, max_size=16))
def test_the_text_of_an_id_is_the_usual_one(way: Any, id: bytes) -> None:
    assert way.uuid_text(id) == str(UUID(bytes=id))


@pytest.mark.parametrize("way", WAYS)
@given(
    at_ms=st.integers(0, (1 << 48) - 1),
    high=st.integers(0, (1 << 43) - 1),
    low=st.integers(0, (1 << 31) - 1),
)
def test_a_packed_id_is_of_version_7_and_has_its_parts(
    way: Any, at_ms: int, high: int, low: int
) -> None:
    id = UUID(way.packed_v7_text(at_ms, high, low))
    assert (id.version, id.variant) == (7, "specified in RFC 4122")
    free = (id.int >> 64 & 0xFFF) << 62 | id.int & (1 << 62) - 1
    assert (id.int >> 80, free >> 31, free & (1 << 31) - 1) == (at_ms, high, low)


@pytest.mark.parametrize("way", WAYS)
def test_what_does_not_fit_is_refused(way: Any) -> None:
    for size in (0, 15, 17):
        with pytest.raises(ValueError, match="16 bytes"):
            way.uuid_text(bytes(size))
    for parts in ((1 << 48, 0, 0), (0, 1 << 43, 0), (0, 0, 1 << 31)):
        with pytest.raises(ValueError, match="fit"):
            way.packed_v7_text(*parts)


YEAR_1_MS, YEAR_10000_MS = -62_135_596_800_000, 253_402_300_800_000


@pytest.mark.parametrize("way", WAYS)
def test_a_time_is_written_as_rfc_3339_says(way: Any) -> None:
    assert way.rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert way.rfc3339(-1) == "1969-12-31T23:59:59.999Z"
    assert way.rfc3339(951_782_399_001) == "2000-02-28T23:59:59.001Z"
    assert way.rfc3339(951_868_800_000) == "2000-03-01T00:00:00.000Z"
    assert way.rfc3339(951_782_400_000) == "2000-02-29T00:00:00.000Z"
    assert way.rfc3339(YEAR_10000_MS - 1) == "9999-12-31T23:59:59.999Z"


@given(at_ms=st.integers(YEAR_1_MS, YEAR_10000_MS - 1))
def test_both_ways_write_any_time_alike(at_ms: int) -> None:
    assert text.rfc3339(at_ms) == text_py.rfc3339(at_ms)


@pytest.mark.parametrize("way", WAYS)
def test_a_time_of_another_era_is_refused(way: Any) -> None:
    for at_ms in (YEAR_10000_MS, YEAR_1_MS - 366 * 86_400_000 - 1):
        with pytest.raises(ValueError, match="9999"):
            way.rfc3339(at_ms)
