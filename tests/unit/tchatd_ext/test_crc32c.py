"""One suite for the instruction, the tables and the twin in Python."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd_ext import crc32c, crc32c_py

Checksum = Callable[..., int]
WAYS = [crc32c.crc32c, crc32c.crc32c_by_table, crc32c_py.crc32c]
NAMES = ["instruction", "table", "twin"]

# RFC 3720, B.4, and the check value of the catalogue of parametrised CRCs.
VECTORS = [
    (b"", 0x00000000),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (
        bytes.fromhex(
            "01c00000000000000000000000000000140000000000040000000014"
            "000000182800000000000000020000000000000000"
        )[:48],
        0xD9963A56,
    ),
]


@pytest.mark.parametrize("checksum", WAYS, ids=NAMES)
@pytest.mark.parametrize(("data", "expected"), VECTORS)
def test_published_vectors_come_out(
    checksum: Checksum, data: bytes, expected: int
) -> None:
    assert checksum(data) == expected


@pytest.mark.parametrize("checksum", WAYS, ids=NAMES)
@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_a_sum_goes_on_where_it_was_left(
    checksum: Checksum, data: bytes, cut: int
) -> None:
    assert checksum(data[cut:], checksum(data[:cut])) == checksum(data)


@given(st.binary(max_size=300))
def test_all_ways_agree_on_short_inputs(data: bytes) -> None:
    assert len({checksum(data) for checksum in WAYS}) == 1


@pytest.mark.parametrize("size", [3071, 3072, 3073, 6144, 9999, 70_001])
def test_all_ways_agree_around_the_lanes_and_without_the_gil(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert len({checksum(data) for checksum in WAYS}) == 1
    unaligned = memoryview(data)[1:]
    assert len({checksum(unaligned) for checksum in WAYS}) == 1


@pytest.mark.parametrize("checksum", WAYS, ids=NAMES)
def test_what_is_not_contiguous_bytes_is_refused(checksum: Checksum) -> None:
    with pytest.raises((TypeError, BufferError)):
        checksum("text")
