"""Owns whether a webhook's signature is good: over the raw body, now, in constant time.

Two shapes. `t=…,v1=…` in one header (Stripe, and ours for banks and the sandbox): hex
HMAC-SHA256 over `t.body`, several v1 while a secret is rotated. And Omise's: signatures
in one header, with commas between, the time in another; the secret is base64.

Every signature is compared with every secret, also after one was right, so that time
tells nothing. The number of both is bounded.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Final

from tchatd.domains.payment.providers import BadSignature

TOLERANCE_S: Final = 300
"""How far the time of a webhook may be from ours, either way."""
SIGNATURES_MAX: Final = 8
HEADER_CHARS_MAX: Final = 2_048


def check_timed_header(
    header: str, body: bytes, secrets: Sequence[bytes], now_ms: int
) -> int:
    """`t=…,v1=…[,v1=…]`; other schemes in it (v0) are passed over. Returns t.

    Raises: BadSignature.
    """
    at: list[str] = []
    found: list[str] = []
    if len(header) > HEADER_CHARS_MAX:
        raise BadSignature("its signature is too long")
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            at.append(value)
        elif name == "v1":
            found.append(value)
    if len(at) != 1:
        raise BadSignature("it has no time")
    _check(found, f"{at[0]}.".encode("latin-1", "replace") + body, secrets)
    return _check_time(at[0], now_ms)


def check_listed_header(
    header: str, at: str, body: bytes, secrets: Sequence[bytes], now_ms: int
) -> int:
    """Omise's `Omise-Signature` and `Omise-Signature-Timestamp`. Returns the time.

    Raises: BadSignature.
    """
    if len(header) > HEADER_CHARS_MAX:
        raise BadSignature("its signature is too long")
    found = [part.strip() for part in header.split(",")]
    _check(found, f"{at}.".encode("latin-1", "replace") + body, secrets)
    return _check_time(at, now_ms)


def timed_header(secret: bytes, body: bytes, at_s: int) -> str:
    """What `check_timed_header` takes."""
    signed = f"{at_s}.".encode() + body
    return f"t={at_s},v1={hmac.new(secret, signed, sha256).hexdigest()}"


def base64_secret(text: str) -> bytes:
    """Raises: ValueError, without the secret."""
    try:
        secret = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise ValueError("is not base64") from None
    if len(secret) < 16:
        raise ValueError("is shorter than 16 bytes")
    return secret


def header_of(headers: Mapping[str, str], name: str) -> str:
    """Raises: BadSignature, if it is not there."""
    value = headers.get(name, "")
    if not value:
        raise BadSignature(f"it has no {name}")
    return value


def _check(found: Sequence[str], signed: bytes, secrets: Iterable[bytes]) -> None:
    if not found:
        raise BadSignature("it has no signature")
    if len(found) > SIGNATURES_MAX:
        raise BadSignature("it has too many signatures")
    given = [text.encode("latin-1", "replace") for text in found]
    is_good = False
    for secret in secrets:
        expected = hmac.new(secret, signed, sha256).hexdigest().encode()
        for signature in given:
            is_good |= hmac.compare_digest(expected, signature)
    if not is_good:
        raise BadSignature("its signature is not good")


def _check_time(at: str, now_ms: int) -> int:
    """After the signature: an unsigned time is nobody's."""
    if not (at.isascii() and at.isdigit() and len(at) <= 12):
        raise BadSignature("its time is no time")
    if abs(now_ms - int(at) * 1000) > TOLERANCE_S * 1000:
        raise BadSignature("its time is too far from now")
    return int(at)
