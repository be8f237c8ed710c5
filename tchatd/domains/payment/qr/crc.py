"""Owns the checksum of payment QR codes.

CRC-16/CCITT-FALSE: polynomial 0x1021, initial value 0xFFFF, no reflection, no final xor
(EMVCo QRCPS Merchant-Presented Mode 1.1, 4.7.3), over the UTF-8 of everything up to and
including `6304`.
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

_INITIAL: Final = 0xFFFF


def checksum(text: str) -> str:
    """Four uppercase hexadecimal digits. text: ends in `6304`, has no surrogates."""
    return f"{crc_hqx(text.encode(), _INITIAL):04X}"
