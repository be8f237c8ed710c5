"""Owns what the daemon and the index's writer say to each other over two pipes.

A frame is its length, 4 bytes, and msgpack.
"""

from __future__ import annotations

from typing import BinaryIO, Final

import msgspec
from msgspec import Struct

from tchatd.domains.search.store import DialogDoc, MessageDoc, PersonDoc

LENGTH_BYTES: Final = 4


class Puts(Struct, frozen=True, gc=False, array_like=True, tag=0):
    """Pairs of whether it is new and what it is; a number is of a dialog to drop."""

    puts: list[tuple[bool, MessageDoc | DialogDoc | PersonDoc | int]]


class Commit(Struct, frozen=True, gc=False, array_like=True, tag=1):
    position: int
    people_ms: int


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_frame: Final = msgspec.msgpack.Decoder(Puts | Commit)
_decode_reply: Final[msgspec.msgpack.Decoder[str | None]] = msgspec.msgpack.Decoder(
    str | None
)


def encode_frame(frame: Puts | Commit) -> bytes:
    return _framed(_encode(frame))


def encode_reply(reply: str | None) -> bytes:
    return _framed(_encode(reply))


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(LENGTH_BYTES, "little") + body


def length_of(head: bytes) -> int:
    return int.from_bytes(head, "little")


def decode_reply(body: bytes) -> str | None:
    return _decode_reply.decode(body)


def read_frame(source: BinaryIO) -> Puts | Commit | None:
    """None at the end of the source, also if that is within a frame."""
    head = source.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    wanted = length_of(head)
    body = source.read(wanted)
    return None if len(body) < wanted else _decode_frame.decode(body)
