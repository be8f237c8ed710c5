"""Owns how answers and events become JSON and MessagePack: `msgspec`, and what many are
told alike goes in as the bytes that it was made into once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

import msgspec


class Encoded(ABC):
    """Something that knows what it is in bytes."""

    @abstractmethod
    def json(self) -> bytes: ...

    @abstractmethod
    def msgpack(self) -> bytes: ...


def _json_of(value: Any) -> msgspec.Raw:
    if isinstance(value, Encoded):
        return msgspec.Raw(value.json())
    raise TypeError(f"{type(value).__name__} cannot be encoded")


def _msgpack_of(value: Any) -> msgspec.Raw:
    if isinstance(value, Encoded):
        return msgspec.Raw(value.msgpack())
    raise TypeError(f"{type(value).__name__} cannot be encoded")


# Both raise TypeError for what cannot be encoded.
encode_json: Final = msgspec.json.Encoder(enc_hook=_json_of).encode
encode_msgpack: Final = msgspec.msgpack.Encoder(enc_hook=_msgpack_of).encode


def json_array(items: list[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def msgpack_array(items: list[bytes]) -> bytes:
    """items: fewer than 65,536."""
    count = len(items)
    head = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return head + b"".join(items)
