from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.journal.errors import JournalDamaged, JournalTooNew
from tchatd.journal.record import BLOCK_BYTES
from tchatd.journal.segment import (
    FORMAT_VERSION,
    Segment,
    SegmentHeader,
    decode_header,
    encode_header,
    segment_name,
)

U64 = st.integers(0, 2**64 - 1)
HEADER = SegmentHeader(salt=5, first_position=42, size=1 << 20, made_at_ms=1)
PATH = Path(segment_name(42))


@given(st.builds(SegmentHeader, U64, U64, U64, U64))
def test_a_header_comes_back_as_it_was(header: SegmentHeader) -> None:
    block = encode_header(header)
    assert len(block) == BLOCK_BYTES
    path = Path(segment_name(header.first_position))
    assert decode_header(block, path) == header


def test_names_sort_like_positions() -> None:
    positions = [1, 9, 10, 99, 12345, 2**63]
    names = [segment_name(position) for position in positions]
    assert sorted(names) == names


@given(st.integers(0, 52 * 8 - 1))
def test_no_flipped_bit_goes_unseen(bit: int) -> None:
    block = bytearray(encode_header(HEADER))
    block[bit // 8] ^= 1 << bit % 8
    with pytest.raises((JournalDamaged, JournalTooNew)):
        decode_header(bytes(block), PATH)


def test_a_later_format_is_refused_with_what_to_do() -> None:
    block = bytearray(encode_header(HEADER))
    struct.pack_into("<I", block, 8, FORMAT_VERSION + 1)
    with pytest.raises(JournalTooNew, match=r"version 2.*up to 1.*start the tchatd"):
        decode_header(bytes(block), PATH)


def test_a_header_under_another_name_is_damage() -> None:
    with pytest.raises(JournalDamaged, match="begins at position 42") as damage:
        decode_header(encode_header(HEADER), Path(segment_name(43)))
    assert damage.value.offset == 0


@pytest.mark.parametrize("block", [b"", b"TCHATDJ\n", bytes(BLOCK_BYTES)])
def test_what_is_no_header_is_damage(block: bytes) -> None:
    with pytest.raises(JournalDamaged, match=PATH.name):
        decode_header(block, PATH)


def test_a_block_is_kept_for_the_mark() -> None:
    header = HEADER._replace(size=4 * BLOCK_BYTES)
    assert Segment(PATH, header).free_bytes == 2 * BLOCK_BYTES
