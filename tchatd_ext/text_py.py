"""Owns the texts of ids and times, in Python: the twin of `text`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _text_of(value: int) -> str:
    h = f"{value:032x}"
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def uuid_text(id: bytes) -> str:
    if len(id) != 16:
        raise ValueError(f"16 bytes, not {len(id)}")
    return _text_of(int.from_bytes(id, "big"))


def packed_v7_text(at_ms: int, high: int, low: int) -> str:
    if at_ms >> 48 or high >> 43 or low >> 31:
        raise ValueError("a part does not fit its bits")
    free = high << 31 | low
    rand_a, rand_b = free >> 62, free & (1 << 62) - 1
    return _text_of(at_ms << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b)


def rfc3339(at_ms: int) -> str:
    """Of the years 1 to 9999 here."""
    try:
        at = _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        raise ValueError(f"{at_ms} is not in the years 1 to 9999") from None
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
