"""Owns the reference that somebody writes on a bank transfer so that it is found.

16 characters: 15 of Crockford's base 32 (no I, L, O, U), made from the charge's key by
SHA-256, and a check character by ISO 7064 MOD 37,36, which finds every single wrong
character and nearly every pair that changed places. Of a key whose check character
would be one of the four that are left out, the next hash is taken.

75 bits: among ten million open references two are the same with a probability of one
in 700 million; the store's unique key refuses that one. The same key gives the same
reference, so that making one may be repeated.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import count
from typing import Final

REFERENCE_CHARS: Final = 16
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHECKED: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_VALUES: Final = {character: value for value, character in enumerate(_CHECKED)}
# What people write for what they read, and what they put in between.
_MISREAD: Final = str.maketrans("OIL", "011", " -.")


def reference_of(key: str) -> str:
    """key: the charge's idempotency key."""
    for attempt in count():
        told = f"tchatd transfer {attempt} {key}"
        number = int.from_bytes(sha256(told.encode()).digest()[:10], "big")
        payload = "".join(
            _ALPHABET[number >> shift & 31] for shift in range(0, 5 * 15, 5)
        )
        check = _check_character(payload)
        if check in _ALPHABET:
            return payload + check
    raise AssertionError


def read_reference(text: str) -> str | None:
    """The reference that a bank passes on, as it was typed; None if it is none."""
    reference = text.upper().translate(_MISREAD)
    if len(reference) != REFERENCE_CHARS:
        return None
    if any(character not in _ALPHABET for character in reference):
        return None
    is_right = _check_character(reference[:-1]) == reference[-1]
    return reference if is_right else None


def _check_character(payload: str) -> str:
    """ISO 7064, hybrid system MOD 37,36."""
    rest = 36
    for character in payload:
        rest = (rest + _VALUES[character]) % 36 or 36
        rest = rest * 2 % 37
    return _CHECKED[(37 - rest) % 36]
