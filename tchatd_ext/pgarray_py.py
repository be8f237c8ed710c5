"""Owns lists as PostgreSQL's binary arrays, in Python: the twin of `pgarray`."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_HEAD = struct.Struct(">iiiii")
_EMPTY = struct.Struct(">iii")
_SIZE = struct.Struct(">i")


def _array(oid: int, items: Sequence[bytes | None]) -> bytes:
    if not items:
        return _EMPTY.pack(0, 0, oid)
    parts = [_HEAD.pack(1, None in items, oid, len(items), 1)]
    for item in items:
        if item is None:
            parts.append(_SIZE.pack(-1))
        else:
            parts += (_SIZE.pack(len(item)), item)
    return b"".join(parts)


def _integers(oid: int, width: int, values: Sequence[int]) -> bytes:
    return _array(oid, [value.to_bytes(width, "big", signed=True) for value in values])


def int8s(values: list[int]) -> bytes:
    return _integers(20, 8, values)


def int4s(values: list[int]) -> bytes:
    return _integers(23, 4, values)


def int2s(values: list[int]) -> bytes:
    return _integers(21, 2, values)


def bools(values: list[bool]) -> bytes:
    return _array(16, [bytes([bool(value)]) for value in values])


def byteas(values: list[bytes | None]) -> bytes:
    return _array(17, values)


def texts(values: list[str | None]) -> bytes:
    return _array(25, [None if text is None else text.encode() for text in values])


def uuids(values: list[bytes | None]) -> bytes:
    if any(value is not None and len(value) != 16 for value in values):
        raise ValueError("16 bytes each")
    return _array(2950, values)
