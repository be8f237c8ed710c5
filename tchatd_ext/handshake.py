"""Owns the WebSocket opening handshake's headers; refuses sockets and HTTP."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import re

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_SPACE = rb"[ \t]*+"
_PARAMETER = re.compile(
    _SPACE
    + rb";"
    + _SPACE
    + rb"("
    + _TOKEN
    + rb")"
    + _SPACE
    + rb"(?:="
    + _SPACE
    + rb"(?:("
    + _TOKEN
    + rb')|"('
    + _TOKEN
    + rb')"))?+'
)
_EXTENSION = re.compile(
    _SPACE + rb"(" + _TOKEN + rb")((?:" + _PARAMETER.pattern + rb")*+)" + _SPACE
)
_BITS = re.compile(rb"[89]|1[0-5]")
_RESPONSE = (
    b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
)
OFFERS_MAX = 16


def accept_key(key: bytes) -> bytes:
    """Sec-WebSocket-Accept of a Sec-WebSocket-Key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def key_valid(key: bytes) -> bool:
    """Whether it is 16 bytes in base64."""
    try:
        return len(key) == 24 and len(binascii.a2b_base64(key, strict_mode=True)) == 16
    except binascii.Error:
        return False


@functools.lru_cache(maxsize=256)
def negotiate_deflate(offers: bytes) -> tuple[bytes, int] | None:
    """Pick the first offer of permessage-deflate that can be met (RFC 7692, 7.1).

    offers: Sec-WebSocket-Extensions, its lines joined by commas. Gives the header's
    answer and the window (9 to 15 bits) of what the server compresses; None when
    there is no such offer, or the header is malformed.

    Context takeover is refused in both directions, so that one compressed copy serves
    every receiver and no connection owns a zlib window. A window of 8 bits is
    declined: zlib cannot make one.
    """
    at = 0
    for _ in range(OFFERS_MAX):
        match = _EXTENSION.match(offers, at)
        if match is None:
            return None
        at = match.end()
        if at < len(offers) and offers[at : at + 1] != b",":
            return None
        if match[1] == b"permessage-deflate":
            bits = _window(match[2])
            if bits is not None:
                named = b"server_max_window_bits" in match[2]
                suffix = b"; server_max_window_bits=%d" % bits if named else b""
                return _RESPONSE + suffix, bits
        at += 1
        if at >= len(offers):
            return None
    return None


def _window(parameters: bytes) -> int | None:
    """The server's window bits by an offer's parameters; None to decline it."""
    seen: set[bytes] = set()
    bits = 15
    for name, token, quoted in _PARAMETER.findall(parameters):
        value = token or quoted
        if name in seen:
            return None
        seen.add(name)
        if name in (b"server_no_context_takeover", b"client_no_context_takeover"):
            if value:
                return None
        elif name == b"client_max_window_bits":
            if value and not _BITS.fullmatch(value):
                return None
        elif name == b"server_max_window_bits":
            if not _BITS.fullmatch(value) or value == b"8":
                return None
            bits = int(value)
        else:
            return None
    return bits


def subprotocols(values: list[bytes]) -> tuple[str, ...]:
    """What Sec-WebSocket-Protocol offers, in the client's order."""
    names = (name.strip() for value in values for name in value.split(b","))
    return tuple(name.decode("latin-1") for name in names if name)
