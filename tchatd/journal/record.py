"""Owns the bytes of a batch of records; refuses to know files.

Theory of operation. What is synced together is checked together: the unit on disk is
the batch, one checksum over all of it, so that a batch is there or is not. It fills
whole blocks, so no block ever holds bytes of two batches: writing the next one cannot
hurt what is already durable. All integers are little-endian.

    0   u64  salt             of the segment; bytes of its former life have another
    8   u64  first position   of the first record; the others follow densely
    16  u32  record count     0: a mark, nothing follows; see `encode_mark`
    20  u32  body size        bytes of lengths and payloads together
    24  u32  body checksum    CRC-32C
    28  u32  header checksum  CRC-32C of bytes 0 to 27
    32  u32  length of each payload, one after the other
    ..       the payloads, one after the other
    ..       zeros up to the next multiple of BLOCK_BYTES

The header's checksum covers salt, position and the body's checksum: a whole batch is
whole only at its place in its segment.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from tchatd_ext.crc32c import crc32c

BLOCK_BYTES = 4096  # at least a device's write unit; a page, so no read before write
HEADER_BYTES = 32
LENGTH_BYTES = 4  # what a record costs beside its payload
SALT_BYTES = 8

_HEADER = struct.Struct("<QQIII")
_CHECKSUM = struct.Struct("<I")
_ZEROS = memoryview(bytes(BLOCK_BYTES))

assert _HEADER.size + _CHECKSUM.size == HEADER_BYTES


def padded(size: int) -> int:
    """size, rounded up to whole blocks."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


class BatchHeader(NamedTuple):
    first_position: int
    record_count: int
    body_size: int
    body_checksum: int

    @property
    def last_position(self) -> int:
        """The last record's; of a mark, that of the record before it."""
        return self.first_position + self.record_count - 1

    @property
    def size(self) -> int:
        """Bytes in the file, a multiple of BLOCK_BYTES."""
        return padded(HEADER_BYTES + self.body_size)


def encode_batch(
    salt: int, first_position: int, payloads: Sequence[bytes]
) -> tuple[bytes, bytes, memoryview]:
    """Header, body and padding: written in this order they are the batch."""
    count = len(payloads)
    lengths = struct.pack(f"<{count}I", *map(len, payloads))
    body = b"".join((lengths, *payloads))
    header = _HEADER.pack(salt, first_position, count, len(body), crc32c(body))
    whole = header + _CHECKSUM.pack(crc32c(header))
    used = HEADER_BYTES + len(body)
    return whole, body, _ZEROS[: padded(used) - used]


def encode_mark(salt: int, next_position: int) -> tuple[bytes, bytes, memoryview]:
    """A batch of no records: whoever wrote it had synced all and stopped."""
    return encode_batch(salt, next_position, ())


def decode_header(block: bytes | memoryview, salt: int) -> BatchHeader | None:
    """None: no header of this segment begins here."""
    if len(block) < HEADER_BYTES:
        return None
    found, first, count, body_size, body_checksum = _HEADER.unpack_from(block)
    if found != salt:
        return None
    (checksum,) = _CHECKSUM.unpack_from(block, _HEADER.size)
    if checksum != crc32c(block[: _HEADER.size]):
        return None
    if body_size < count * LENGTH_BYTES:
        return None
    return BatchHeader(first, count, body_size, body_checksum)


def is_whole(header: BatchHeader, body: bytes | memoryview) -> bool:
    return len(body) == header.body_size and crc32c(body) == header.body_checksum


def decode_body(header: BatchHeader, body: bytes) -> list[bytes] | None:
    """The payloads in order; None unless the body is whole. Copies."""
    if not is_whole(header, body):
        return None
    count = header.record_count
    lengths = struct.unpack_from(f"<{count}I", body)
    at = count * LENGTH_BYTES
    if at + sum(lengths) != len(body):
        return None
    payloads = []
    for length in lengths:
        payloads.append(body[at : at + length])
        at += length
    return payloads
