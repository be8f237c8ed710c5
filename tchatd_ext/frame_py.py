"""Owns the WebSocket codec in Python, the twin that keeps `frame` honest; refuses I/O.

Same names, same events, same refusals. Kept plain rather than fast: one buffer, one
frame at a time. Where C is unavailable it would serve; the tests run both.
"""

from __future__ import annotations

import zlib

KIND_TEXT = 1
KIND_BINARY = 2
KIND_CLOSE = 8
KIND_PING = 9
KIND_PONG = 10
KIND_FAILED = 255

CONTROL_MAX = 125
STREAMS_MAX = 16
_TAIL = b"\x00\x00\xff\xff\x01\x00\x00\xff\xff"

Event = tuple[int, bytes, int]


class _Failure(Exception):
    def __init__(self, code: int, why: bytes) -> None:
        super().__init__(code, why)
        self.event: Event = (KIND_FAILED, why, code)


def _close_code_valid(code: int) -> bool:
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _xor(data: bytes, mask: bytes, offset: int = 0) -> bytes:
    return bytes(byte ^ mask[(at + offset) & 3] for at, byte in enumerate(data))


class _Utf8:
    """Refuses at the first byte that cannot belong to UTF-8 (Unicode, table 3-7).

    The standard library's incremental decoder sees a surrogate a byte too late.
    """

    def __init__(self) -> None:
        self._missing = 0
        self._low, self._high = 0x80, 0xBF

    def feed(self, data: bytes) -> bool:
        """Whether it may still become UTF-8."""
        return all(self._take(byte) for byte in data)

    def whole(self) -> bool:
        return self._missing == 0

    def _take(self, byte: int) -> bool:
        if self._missing:
            if not self._low <= byte <= self._high:
                return False
            self._missing -= 1
            self._low, self._high = 0x80, 0xBF
            return True
        if byte < 0x80:
            return True
        if not 0xC2 <= byte <= 0xF4:
            return False
        self._missing = 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3
        self._low = {0xE0: 0xA0, 0xF0: 0x90}.get(byte, 0x80)
        self._high = {0xED: 0x9F, 0xF4: 0x8F}.get(byte, 0xBF)
        return True


class FrameDecoder:
    """Takes a client's bytes and gives whole messages and control frames."""

    def __init__(self, *, message_bytes_max: int, deflate: bool = False) -> None:
        if not CONTROL_MAX <= message_bytes_max < 1 << 30:
            raise ValueError("message_bytes_max must be in 125..2**30")
        self._message_bytes_max = message_bytes_max
        self._deflate = deflate
        self._failed = False
        self._header = b""
        self._opcode: int | None = None  # of the frame whose payload is being read
        self._remaining = 0
        self._taken = 0
        self._control = b""
        self._message = bytearray()
        self._message_opcode = 0
        self._compressed = False
        self._utf8 = _Utf8()

    def feed(self, data: bytes) -> list[Event]:
        """Give what is complete: (kind, payload, code) each.

        A close frame's payload is its reason and code its status, 1005 when absent.
        KIND_FAILED comes last: code to close with, payload says why; later input is
        ignored.
        """
        events: list[Event] = []
        if self._failed:
            return events
        at = 0
        try:
            while True:
                if self._opcode is None:
                    at = self._take_header(data, at)
                    if self._opcode is None:
                        return events
                take = data[at : at + self._remaining]
                at += len(take)
                event = self._take_payload(take)
                if event is not None:
                    events.append(event)
                if self._opcode is not None:
                    return events
        except _Failure as failure:
            self._failed = True
            events.append(failure.event)
            return events

    def _take_header(self, data: bytes, at: int) -> int:
        while at < len(data):
            self._header += data[at : at + 1]
            at += 1
            if len(self._header) < 2:
                continue
            if len(self._header) == 2:
                self._check_first_two()
            announced = self._header[1] & 0x7F
            extended = {126: 2, 127: 8}.get(announced, 0)
            if len(self._header) == 2 + extended + 4:
                self._begin_payload(announced, extended)
                break
        return at

    def _check_first_two(self) -> None:
        first, second = self._header
        opcode = first & 0x0F
        if first & 0x30:
            raise _Failure(1002, b"reserved bits are set")
        if not second & 0x80:
            raise _Failure(1002, b"frame is not masked")
        if opcode not in (0, 1, 2, 8, 9, 10):
            raise _Failure(1002, b"reserved opcode")
        if opcode >= 8:
            if not first & 0x80:
                raise _Failure(1002, b"fragmented control frame")
            if second & 0x7F > CONTROL_MAX:
                raise _Failure(1002, b"control frame over 125 bytes")
        elif opcode == 0 and not self._message_opcode:
            raise _Failure(1002, b"nothing to continue")
        elif opcode and self._message_opcode:
            raise _Failure(1002, b"new message inside a fragmented one")
        if first & 0x40 and (opcode not in (1, 2) or not self._deflate):
            raise _Failure(1002, b"reserved bits are set")

    def _begin_payload(self, announced: int, extended: int) -> None:
        size = announced
        if extended:
            size = int.from_bytes(self._header[2 : 2 + extended], "big")
            if size < (126 if extended == 2 else 65536) or size >> 63:
                raise _Failure(1002, b"length is not minimal")
        opcode = self._header[0] & 0x0F
        if opcode < 8:
            if opcode:
                self._message_opcode = opcode
                self._compressed = bool(self._header[0] & 0x40)
                self._utf8 = _Utf8()
            limit = self._message_bytes_max
            if self._compressed:
                limit += (limit >> 10) + 64  # what deflate may add to noise
            if len(self._message) + size > limit:
                raise _Failure(1009, b"message is too big")
        self._opcode = opcode
        self._fin = bool(self._header[0] & 0x80)
        self._mask = self._header[-4:]
        self._remaining = size
        self._taken = 0
        self._header = b""

    def _take_payload(self, masked: bytes) -> Event | None:
        payload = _xor(masked, self._mask, self._taken)
        self._taken += len(payload)
        self._remaining -= len(payload)
        opcode = self._opcode
        assert opcode is not None
        whole = self._remaining == 0
        if whole:
            self._opcode = None
        if opcode >= 8:
            self._control += payload
            if not whole:
                return None
            control, self._control = self._control, b""
            return _control_event(opcode, control)
        self._message += payload
        if self._message_opcode == KIND_TEXT and not self._compressed:
            valid = self._utf8.feed(payload)
            if not valid or (whole and self._fin and not self._utf8.whole()):
                raise _Failure(1007, b"text is not UTF-8")
        if not (whole and self._fin):
            return None
        return self._end_message()

    def _end_message(self) -> Event:
        message, self._message = bytes(self._message), bytearray()
        opcode, self._message_opcode = self._message_opcode, 0
        if self._compressed:
            self._compressed = False
            message = _inflate(message, self._message_bytes_max)
            if opcode == KIND_TEXT and not _is_utf8(message):
                raise _Failure(1007, b"text is not UTF-8")
        return opcode, message, 0


def _control_event(opcode: int, payload: bytes) -> Event:
    if opcode != KIND_CLOSE:
        return opcode, payload, 0
    if not payload:
        return KIND_CLOSE, b"", 1005
    if len(payload) == 1:
        raise _Failure(1002, b"close frame of one byte")
    code = int.from_bytes(payload[:2], "big")
    if not _close_code_valid(code):
        raise _Failure(1002, b"close code is not allowed")
    if not _is_utf8(payload[2:]):
        raise _Failure(1007, b"close reason is not UTF-8")
    return KIND_CLOSE, payload[2:], code


def _inflate(data: bytes, size_max: int) -> bytes:
    """Inflate up to STREAMS_MAX streams, the last one ended by our own final block."""
    data += _TAIL
    out = b""
    for _ in range(STREAMS_MAX):
        stream = zlib.decompressobj(-15)
        try:
            out += stream.decompress(data, size_max + 1 - len(out))
        except zlib.error:
            raise _Failure(1007, b"compressed data is broken") from None
        if len(out) > size_max:
            raise _Failure(1009, b"message is too big")
        if not stream.eof:
            break
        data = stream.unused_data
        if not data:
            return out
    raise _Failure(1007, b"compressed data is broken")


def encode(
    opcode: int,
    payload: bytes,
    *,
    fin: bool = True,
    compressed: bool = False,
    mask: bytes | None = None,
) -> bytes:
    """One frame. mask: 4 bytes for a client's frame, None for a server's."""
    if not 0 <= opcode <= 15:
        raise ValueError("opcode must be in 0..15")
    if mask is not None and len(mask) != 4:
        raise ValueError("mask must be 4 bytes")
    masked = 0x80 if mask is not None else 0
    first = (fin << 7) | (compressed << 6) | opcode
    size = len(payload)
    if size < 126:
        header = bytes((first, masked | size))
    elif size < 65536:
        header = bytes((first, masked | 126)) + size.to_bytes(2, "big")
    else:
        header = bytes((first, masked | 127)) + size.to_bytes(8, "big")
    if mask is None:
        return header + payload
    return header + mask + _xor(payload, mask)


def compress(payload: bytes, window_bits: int = 15) -> bytes | None:
    """The payload of a frame with RSV1, or None when that would not be shorter."""
    if not 9 <= window_bits <= 15:
        raise ValueError("window_bits must be in 9..15")
    stream = zlib.compressobj(1, zlib.DEFLATED, -window_bits)
    data = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
    assert data.endswith(b"\x00\x00\xff\xff")
    return data[:-4] if len(data) - 4 < len(payload) else None


def encode_close(code: int, reason: str = "") -> bytes:
    """A server's close frame; the reason is cut at a code point to fit 125 bytes."""
    if not _close_code_valid(code):
        raise ValueError(f"{code} may not be sent in a close frame")
    text = reason.encode()[: CONTROL_MAX - 2].decode(errors="ignore").encode()
    return encode(KIND_CLOSE, code.to_bytes(2, "big") + text)
