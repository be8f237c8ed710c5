from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tchatd.journal.record import (
    BLOCK_BYTES,
    HEADER_BYTES,
    BatchHeader,
    decode_body,
    decode_header,
    encode_batch,
    encode_mark,
    padded,
)

SALT = 0x1122334455667788
PAYLOADS = st.lists(st.binary(max_size=6000), max_size=40)


def joined(salt: int, position: int, payloads: list[bytes]) -> bytes:
    return b"".join(encode_batch(salt, position, payloads))


def decoded(data: bytes, salt: int = SALT) -> tuple[BatchHeader, list[bytes]] | None:
    header = decode_header(data, salt)
    if header is None:
        return None
    body = decode_body(header, data[HEADER_BYTES : HEADER_BYTES + header.body_size])
    return None if body is None else (header, body)


@given(payloads=PAYLOADS, position=st.integers(1, 2**63))
def test_a_batch_comes_back_as_it_was(payloads: list[bytes], position: int) -> None:
    data = joined(SALT, position, payloads)
    result = decoded(data)
    assert result is not None
    header, found = result
    assert found == payloads
    assert (header.first_position, header.record_count) == (position, len(payloads))
    assert header.size == len(data)
    assert len(data) % BLOCK_BYTES == 0


@given(
    payloads=st.lists(st.binary(max_size=200), min_size=1, max_size=10),
    data=st.data(),
)
def test_no_flipped_bit_goes_unseen(payloads: list[bytes], data: st.DataObject) -> None:
    whole = joined(SALT, 7, payloads)
    used = HEADER_BYTES + sum(map(len, payloads)) + 4 * len(payloads)
    bit = data.draw(st.integers(0, used * 8 - 1))
    broken = bytearray(whole)
    broken[bit // 8] ^= 1 << bit % 8
    assert decoded(bytes(broken)) is None


@given(payloads=PAYLOADS)
def test_bytes_of_a_former_life_are_not_taken_for_a_batch(
    payloads: list[bytes],
) -> None:
    assert decoded(joined(SALT, 7, payloads), SALT + 1) is None


@given(st.binary(max_size=64))
def test_garbage_and_short_input_are_not_a_header(data: bytes) -> None:
    assert decode_header(data, SALT) is None


def test_a_mark_is_a_batch_of_no_records() -> None:
    result = decoded(b"".join(encode_mark(SALT, 9)))
    assert result is not None
    header, payloads = result
    assert (payloads, header.first_position, header.last_position) == ([], 9, 8)
    assert header.size == BLOCK_BYTES


def test_padding_rounds_up_to_blocks() -> None:
    assert [padded(size) for size in (0, 1, BLOCK_BYTES, BLOCK_BYTES + 1)] == [
        0,
        BLOCK_BYTES,
        BLOCK_BYTES,
        2 * BLOCK_BYTES,
    ]
