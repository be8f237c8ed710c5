"""Owns EMVCo's text of tags; refuses what is not exactly one, and a tag twice.

    field = tag (2 digits) length (2 digits, 01 to 99) value (length characters)

A text is fields without anything between them. Lengths count characters, not bytes. A
value may again be such a text (a template): whoever knows that reads it again, so that
depth is what the caller's code has and not what the payload asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tchatd.domains.payment.qr.errors import (
    QrContradictory,
    QrMalformed,
    QrNotExpressible,
)

PAYLOAD_CHARS_MAX: Final = 512
"""EMVCo QRCPS 1.1, 3: a payload has at most 512 characters."""
VALUE_CHARS_MAX: Final = 99
_HEAD_CHARS: Final = 4


def read(text: str) -> dict[str, str]:
    """The values by tag, in the order of the text.

    Raises: QrMalformed; QrContradictory, of a tag that is there twice.
    """
    fields: dict[str, str] = {}
    at = 0
    while at < len(text):
        head = text[at : at + _HEAD_CHARS]
        # isdigit() alone takes digits of other scripts, too.
        if len(head) < _HEAD_CHARS or not (head.isascii() and head.isdigit()):
            raise QrMalformed("A field does not begin with its tag and its length.")
        tag, size = head[:2], int(head[2:])
        at += _HEAD_CHARS
        if not 0 < size <= len(text) - at:
            raise QrMalformed(f"The length of field {tag} is not that of its value.")
        if tag in fields:
            raise QrContradictory(f"Field {tag} is there twice.")
        fields[tag] = text[at : at + size]
        at += size
    return fields


def write(fields: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """The text of fields in the order given. Raises: QrNotExpressible."""
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    return "".join(_written(tag, value) for tag, value in pairs)


def _written(tag: str, value: str) -> str:
    if not 0 < len(value) <= VALUE_CHARS_MAX:
        raise QrNotExpressible(
            f"Field {tag} has 1 to {VALUE_CHARS_MAX} characters, not {len(value)}."
        )
    return f"{tag}{len(value):02d}{value}"
