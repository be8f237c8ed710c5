"""Owns how dialogs and messages get their ids, and what an id says by itself.

A message's id is a version 7 UUID (RFC 9562, 5.7) whose 74 free bits are its address:
48 bits of milliseconds, then the dialog's number (43 bits), then the seq (31 bits). So
the store needs no index of message ids, and ids of one dialog rise with its seq. It is
no secret: whoever presents an id is checked for membership.

A dialog of two has the id that both compute: a version 8 UUID of SHA-256.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final
from uuid import UUID

from tchatd.kernel.ids import packed_v7_text, uuid_text

__all__ = [
    "DIALOG_NUMBER_MAX",
    "client_time_ms",
    "keyed_dialog_id",
    "message_address",
    "message_id",
    "user_dialog_id",
    "uuid_bytes",
    "uuid_text",
]

_SEQ_BITS: Final = 31
_NUMBER_BITS: Final = 43
_SEQ_MASK: Final = (1 << _SEQ_BITS) - 1
_RAND_B_BITS: Final = 62
_RAND_B_MASK: Final = (1 << _RAND_B_BITS) - 1
_VARIANT: Final = 0b10 << 62
DIALOG_NUMBER_MAX: Final = (1 << _NUMBER_BITS) - 1

assert _NUMBER_BITS + _SEQ_BITS == 12 + _RAND_B_BITS


def uuid_bytes(text: str) -> bytes | None:
    """The 16 bytes of an id's text in any case; None if it is none."""
    try:
        return UUID(text).bytes
    except ValueError:
        return None


def message_id(at_ms: int, dialog_number: int, seq: int) -> str:
    return packed_v7_text(at_ms, dialog_number, seq)


def message_address(id: UUID) -> tuple[int, int] | None:
    """(dialog number, seq) that the id would have; None if no message has such an id.

    Whether there is such a message, and with the same time in its id, is to be looked
    up.
    """
    value = id.int
    if id.version != 7:
        return None
    address = (value >> 64 & 0xFFF) << _RAND_B_BITS | (value & _RAND_B_MASK)
    number, seq = address >> _SEQ_BITS, address & _SEQ_MASK
    return (number, seq) if number and seq else None


def user_dialog_id(one: bytes, other: bytes) -> bytes:
    """The 16-byte id of the dialog between two users, whoever asks first."""
    low, high = sorted((one, other))
    return _version_8(b"tchatd dialog of two\0" + low + high)


def keyed_dialog_id(creator: bytes, idempotency_id: bytes) -> bytes:
    """The 16-byte id of a dialog that is created again with the same key."""
    return _version_8(b"tchatd dialog by key\0" + creator + idempotency_id)


def business_dialog_id(business: bytes, customer: bytes, generation: int) -> bytes:
    """The 16-byte id of a customer's dialog with a business, whoever asks first.

    generation: how many before it were deleted for everyone.
    """
    text = b"tchatd dialog of business\0" + business + customer
    return _version_8(text + generation.to_bytes(2, "big"))


def _version_8(text: bytes) -> bytes:
    return UUID(bytes=_stamped(sha256(text).digest()[:16])).bytes


def _stamped(digest: bytes) -> bytes:
    value = int.from_bytes(digest, "big")
    value = value & ~(0xF << 76) | 0x8 << 76
    value = value & ~(0b11 << 62) | _VARIANT
    return value.to_bytes(16, "big")


def client_time_ms(client_id: bytes) -> int:
    """The time in a version 7 UUID of 16 bytes."""
    return int.from_bytes(client_id[:6], "big")
