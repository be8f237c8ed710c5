"""Owns the WebSocket codec: RFC 6455 frames and RFC 7692 messages; refuses I/O.

Theory of operation. `decode` is called with whatever arrived and returns at the first
whole message or control frame, with how much input it used. Payloads are unmasked in
place, so the input must be writable. A message that lies whole in the input is handed
out as a pointer into it; only what the network or the peer cut is copied, into
`Decoder.message`, whose growth follows the bytes that arrived, not those announced.
Text is checked as it arrives (Höhrmann's automaton after an ASCII fast path), so a
violation is seen at its first byte, in whatever fragment of whatever frame.

Both directions run without context takeover: no connection owns a zlib window. One
inflater serves all connections, because a compressed message is inflated only when
it is whole. `frame_py` is the same codec in Python; one test suite runs both.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset


cdef extern from "zlib.h" nogil:
    ctypedef struct z_stream:
        uint8_t *next_in
        unsigned int avail_in
        uint8_t *next_out
        unsigned int avail_out
    int inflateInit2(z_stream *, int)
    int inflateReset(z_stream *)
    int inflate(z_stream *, int)
    int inflateEnd(z_stream *)
    int deflateInit2(z_stream *, int, int, int, int, int)
    int deflateReset(z_stream *)
    int deflate(z_stream *, int)
    unsigned long deflateBound(z_stream *, unsigned long)
    enum:
        Z_OK
        Z_STREAM_END
        Z_BUF_ERROR
        Z_SYNC_FLUSH
        Z_DEFLATED
        Z_DEFAULT_STRATEGY


cdef enum:
    CONTROL_MAX = 125
    # A message may be cut into deflate streams by BFINAL blocks (RFC 7692, 7.2.3.4);
    # nobody sends many, and each costs a reset.
    STREAMS_MAX = 16
    # The fastest: fan-out compresses on the gateway's own thread.
    DEFLATE_LEVEL = 1
    UTF8_REJECT = 12


cdef struct InflaterState:
    z_stream stream
    uint8_t *out
    size_t out_capacity
    bint ready


cdef uint8_t[9] TAIL = [0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF]

# Bjoern Höhrmann's UTF-8 automaton (bjoern.hoehrmann.de/utf-8/decoder/dfa): byte
# classes, then transitions; state 12 rejects, 0 accepts.
cdef uint8_t[256] UTF8_CLASS
cdef uint8_t[108] UTF8_NEXT = [
    0, 12, 24, 36, 60, 96, 84, 12, 12, 12, 48, 72,
    12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12,
    12, 0, 12, 12, 12, 12, 12, 0, 12, 0, 12, 12,
    12, 24, 12, 12, 12, 12, 12, 24, 12, 24, 12, 12,
    12, 12, 12, 12, 12, 12, 12, 24, 12, 12, 12, 12,
    12, 24, 12, 12, 12, 12, 12, 12, 12, 24, 12, 12,
    12, 12, 12, 12, 12, 12, 12, 36, 12, 36, 12, 12,
    12, 36, 12, 12, 12, 12, 12, 36, 12, 36, 12, 12,
    12, 36, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12,
]

cdef void fill_utf8_classes() noexcept:
    cdef int byte
    for byte in range(256):
        if byte < 0x80:
            UTF8_CLASS[byte] = 0
        elif byte < 0x90:
            UTF8_CLASS[byte] = 1
        elif byte < 0xA0:
            UTF8_CLASS[byte] = 9
        elif byte < 0xC0:
            UTF8_CLASS[byte] = 7
        elif byte < 0xC2 or byte > 0xF4:
            UTF8_CLASS[byte] = 8
        elif byte < 0xE0:
            UTF8_CLASS[byte] = 2
        elif byte == 0xE0:
            UTF8_CLASS[byte] = 10
        elif byte == 0xED:
            UTF8_CLASS[byte] = 4
        elif byte < 0xF0:
            UTF8_CLASS[byte] = 3
        elif byte == 0xF0:
            UTF8_CLASS[byte] = 11
        elif byte == 0xF4:
            UTF8_CLASS[byte] = 5
        else:
            UTF8_CLASS[byte] = 6


fill_utf8_classes()


cdef uint8_t utf8_feed(
    uint8_t state, const uint8_t *data, size_t size
) noexcept nogil:
    cdef size_t at = 0
    cdef uint64_t word
    while at < size:
        if state == 0:
            while at + 8 <= size:
                memcpy(&word, data + at, 8)
                if word & <uint64_t>0x8080808080808080:
                    break
                at += 8
            while at < size and data[at] < 0x80:
                at += 1
            if at == size:
                return 0
        state = UTF8_NEXT[state + UTF8_CLASS[data[at]]]
        if state == UTF8_REJECT:
            return state
        at += 1
    return state


cdef bint utf8_valid(const uint8_t *data, size_t size) noexcept nogil:
    return utf8_feed(0, data, size) == 0


cdef uint32_t unmask(uint8_t *data, size_t size, uint32_t key) noexcept nogil:
    """XOR in place; give the key rotated to the byte after `data` (little-endian)."""
    cdef uint64_t wide = (<uint64_t>key << 32) | key
    cdef uint64_t word
    cdef size_t at = 0
    cdef unsigned int shift
    while at + 8 <= size:
        memcpy(&word, data + at, 8)
        word ^= wide
        memcpy(data + at, &word, 8)
        at += 8
    while at < size:
        data[at] ^= <uint8_t>(wide >> ((at & 7) * 8))
        at += 1
    shift = <unsigned int>(size & 3) * 8
    return <uint32_t>(wide >> shift)


cdef bint close_code_valid(int code) noexcept nogil:
    """RFC 6455, 7.4 and the IANA registry: codes that may appear in a Close frame."""
    return (
        1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
    )


cdef size_t encode_header(uint8_t *out, uint8_t first, size_t size) noexcept nogil:
    """Write an unmasked header (2 to 10 bytes); first: FIN, RSV1 and the opcode."""
    cdef int at
    out[0] = first
    if size < 126:
        out[1] = <uint8_t>size
        return 2
    if size < 65536:
        out[1] = 126
        out[2] = <uint8_t>(size >> 8)
        out[3] = <uint8_t>size
        return 4
    out[1] = 127
    for at in range(8):
        out[2 + at] = <uint8_t>(size >> (56 - 8 * at))
    return 10


cdef void decoder_clear(Decoder *d) noexcept nogil:
    """Free what the decoder holds; it starts anew, with deflate as negotiated."""
    cdef uint8_t deflate = d.deflate
    free(d.message)
    free(d.control)
    memset(d, 0, sizeof(Decoder))
    d.deflate = deflate


cdef inline Kind fail(Event *event, int code, const char *why) noexcept nogil:
    event.code = code
    event.why = why
    event.data = NULL
    event.size = 0
    return FAILED


cdef Kind check_first_two(Decoder *d, Event *event) noexcept nogil:
    """Judge a frame by its first two bytes, before its length is known."""
    cdef uint8_t first = d.header[0]
    cdef uint8_t opcode = first & 0x0F
    cdef uint8_t size = d.header[1] & 0x7F
    if first & 0x30:
        return fail(event, 1002, b"reserved bits are set")
    if not d.header[1] & 0x80:
        return fail(event, 1002, b"frame is not masked")
    if opcode >= 8:
        if opcode > 10:
            return fail(event, 1002, b"reserved opcode")
        if not first & 0x80:
            return fail(event, 1002, b"fragmented control frame")
        if size > CONTROL_MAX:
            return fail(event, 1002, b"control frame over 125 bytes")
        if first & 0x40:
            return fail(event, 1002, b"reserved bits are set")
        return NEED
    if opcode > 2:
        return fail(event, 1002, b"reserved opcode")
    if opcode == 0:
        if d.message_opcode == 0:
            return fail(event, 1002, b"nothing to continue")
        if first & 0x40:
            return fail(event, 1002, b"reserved bits are set")
    else:
        if d.message_opcode != 0:
            return fail(event, 1002, b"new message inside a fragmented one")
        if first & 0x40 and not d.deflate:
            return fail(event, 1002, b"reserved bits are set")
    return NEED


cdef Kind begin_payload(
    Decoder *d, size_t message_bytes_max, Event *event
) noexcept nogil:
    """The header is whole: check its length and open the frame."""
    cdef uint64_t size = d.header[1] & 0x7F
    cdef size_t limit = message_bytes_max
    cdef int at
    if size == 126:
        size = (<uint64_t>d.header[2] << 8) | d.header[3]
        if size < 126:
            return fail(event, 1002, b"length is not minimal")
    elif size == 127:
        size = 0
        for at in range(8):
            size = (size << 8) | d.header[2 + at]
        if size < 65536 or size >> 63:
            return fail(event, 1002, b"length is not minimal")
    memcpy(&d.key, &d.header[d.header_size - 4], 4)
    d.opcode = d.header[0] & 0x0F
    d.fin = d.header[0] >> 7
    if d.opcode < 8:
        if d.opcode:
            d.message_opcode = d.opcode
            d.compressed = (d.header[0] >> 6) & 1
            d.utf8 = 0
        if d.compressed:
            limit += (limit >> 10) + 64  # what deflate may add to noise
        if size > limit or d.message_size + size > limit:
            return fail(event, 1009, b"message is too big")
    d.remaining = <uint32_t>size
    d.control_size = 0
    d.header_size = 0
    d.in_payload = 1
    return NEED


cdef Kind take_header(
    Decoder *d, size_t message_bytes_max,
    const uint8_t *data, size_t size, size_t *used, Event *event,
) noexcept nogil:
    """Collect header bytes; NEED with in_payload set when the frame is open."""
    cdef uint8_t need
    cdef Kind kind
    while used[0] < size:
        d.header[d.header_size] = data[used[0]]
        d.header_size += 1
        used[0] += 1
        if d.header_size < 2:
            continue
        if d.header_size == 2:
            kind = check_first_two(d, event)
            if kind == FAILED:
                return kind
        need = d.header[1] & 0x7F
        need = 6 if need < 126 else 8 if need == 126 else 14
        if d.header_size == need:
            return begin_payload(d, message_bytes_max, event)
    return NEED


cdef bint append(Decoder *d, const uint8_t *data, size_t size) noexcept nogil:
    """Grow by what arrived (doubling), so that a mere announcement costs nothing."""
    cdef size_t need = d.message_size + size
    cdef size_t capacity
    cdef uint8_t *grown
    if need > d.message_capacity:
        capacity = d.message_capacity * 2
        if capacity < need:
            capacity = need
        if capacity < 256:
            capacity = 256
        grown = <uint8_t *>realloc(d.message, capacity)
        if grown == NULL:
            return False
        d.message = grown
        d.message_capacity = <uint32_t>capacity
    if size:
        memcpy(d.message + d.message_size, data, size)
    d.message_size = <uint32_t>need
    return True


cdef Kind end_control(uint8_t *data, uint8_t opcode, size_t size, Event *event) noexcept nogil:
    event.data = data
    event.size = size
    event.code = 0
    event.why = NULL
    if opcode != CLOSE:
        return <Kind>opcode
    if size == 0:
        event.code = 1005
        return CLOSE
    if size == 1:
        return fail(event, 1002, b"close frame of one byte")
    event.code = (<int>data[0] << 8) | data[1]
    if not close_code_valid(event.code):
        return fail(event, 1002, b"close code is not allowed")
    event.data += 2
    event.size -= 2
    if not utf8_valid(event.data, event.size):
        return fail(event, 1007, b"close reason is not UTF-8")
    return CLOSE


cdef Kind end_message(
    Decoder *d, void *inflater, size_t message_bytes_max,
    uint8_t *data, size_t size, Event *event,
) noexcept nogil:
    """A whole message lies at `data`: inflate and check what is not yet checked."""
    cdef uint8_t opcode = d.message_opcode
    cdef int code
    d.message_opcode = 0
    if d.compressed:
        d.compressed = 0
        code = inflate_message(<InflaterState *>inflater, data, size, message_bytes_max, event)
        if code == 1009:
            return fail(event, 1009, b"message is too big")
        if code:
            return fail(event, 1007, b"compressed data is broken")
        if opcode == TEXT and not utf8_valid(event.data, event.size):
            return fail(event, 1007, b"text is not UTF-8")
        return <Kind>opcode
    if opcode == TEXT and d.utf8 != 0:
        return fail(event, 1007, b"text is not UTF-8")
    event.data = data
    event.size = size
    event.code = 0
    event.why = NULL
    return <Kind>opcode


cdef Kind take_control(
    Decoder *d, uint8_t *data, size_t take, Event *event
) noexcept nogil:
    if d.remaining == 0 and d.control_size == 0:
        d.in_payload = 0
        return end_control(data, d.opcode, take, event)
    if d.control == NULL:
        d.control = <uint8_t *>malloc(CONTROL_MAX)
        if d.control == NULL:
            return fail(event, 1011, b"out of memory")
    if take:
        memcpy(d.control + d.control_size, data, take)
        d.control_size += <uint8_t>take
    if d.remaining:
        return NEED
    d.in_payload = 0
    return end_control(d.control, d.opcode, d.control_size, event)


cdef Kind decode(
    Decoder *d, void *inflater, size_t message_bytes_max,
    uint8_t *data, size_t size, size_t *used, Event *event,
) noexcept nogil:
    """Advance to the next whole message or control frame.

    data: writable; unmasked in place. used: set to how much of it is consumed, all of
    it when NEED is returned. After FAILED the decoder must only be cleared.
    """
    cdef size_t at = 0
    cdef size_t take
    cdef uint8_t *payload
    cdef Kind kind
    used[0] = 0
    if d.spent:
        free(d.message)
        d.message = NULL
        d.message_size = d.message_capacity = 0
        d.spent = 0
    if not d.in_payload and d.control != NULL:
        free(d.control)
        d.control = NULL
    while True:
        if not d.in_payload:
            kind = take_header(d, message_bytes_max, data, size, &at, event)
            used[0] = at
            if kind == FAILED or not d.in_payload:
                return kind
        payload = data + at
        take = size - at
        if take > d.remaining:
            take = d.remaining
        d.key = unmask(payload, take, d.key)
        d.remaining -= <uint32_t>take
        at += take
        used[0] = at
        if d.opcode >= 8:
            kind = take_control(d, payload, take, event)
            if kind != NEED or d.remaining:
                return kind
            continue
        if d.message_opcode == TEXT and not d.compressed:
            d.utf8 = utf8_feed(d.utf8, payload, take)
            if d.utf8 == UTF8_REJECT:
                return fail(event, 1007, b"text is not UTF-8")
        if d.remaining == 0 and d.fin and d.message == NULL:
            d.in_payload = 0
            return end_message(d, inflater, message_bytes_max, payload, take, event)
        if not append(d, payload, take):
            return fail(event, 1011, b"out of memory")
        if d.remaining:
            return NEED
        d.in_payload = 0
        if d.fin:
            d.spent = 1
            return end_message(
                d, inflater, message_bytes_max, d.message, d.message_size, event
            )


# --- permessage-deflate ---------------------------------------------------------------

cdef class Inflater:
    """The one inflater of a gateway; `stream` is handed to decode()."""

    def __cinit__(self):
        self.stream = calloc(1, sizeof(InflaterState))
        if self.stream == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef InflaterState *inflater = <InflaterState *>self.stream
        if inflater != NULL:
            if inflater.ready:
                inflateEnd(&inflater.stream)
            free(inflater.out)
            free(inflater)


cdef int inflate_message(
    InflaterState *inflater, const uint8_t *data, size_t size,
    size_t message_bytes_max, Event *event,
) noexcept nogil:
    """Inflate into inflater.out; 0, 1007 or 1009.

    The input is followed by the tail that the sender took off and by a final empty
    block, so a whole message ends its last stream exactly at the end of the input.
    """
    cdef z_stream *z = &inflater.stream
    cdef size_t total = 0
    cdef size_t rest = size
    cdef int streams = 0
    cdef int result
    cdef bint in_tail = False
    if not inflater.ready:
        if inflateInit2(z, -15) != Z_OK:
            return 1011
        inflater.ready = True
    if inflater.out_capacity < message_bytes_max + 1:
        free(inflater.out)
        inflater.out = <uint8_t *>malloc(message_bytes_max + 1)
        inflater.out_capacity = 0 if inflater.out == NULL else message_bytes_max + 1
        if inflater.out == NULL:
            return 1011
    inflateReset(z)
    z.next_in = <uint8_t *>data
    z.avail_in = <unsigned int>size
    z.next_out = inflater.out
    z.avail_out = <unsigned int>(message_bytes_max + 1)
    while True:
        if z.avail_in == 0 and not in_tail:
            in_tail = True
            z.next_in = TAIL
            z.avail_in = sizeof(TAIL)
        result = inflate(z, Z_SYNC_FLUSH)
        if z.avail_out == 0:
            return 1009
        if result == Z_STREAM_END:
            if in_tail and z.avail_in == 0:
                break
            streams += 1
            if streams == STREAMS_MAX:
                return 1007
            inflateReset(z)
        elif result != Z_OK and result != Z_BUF_ERROR:
            return 1007
        elif in_tail:
            return 1007
    event.data = inflater.out
    event.size = message_bytes_max + 1 - z.avail_out
    event.code = 0
    event.why = NULL
    return 0


cdef void *DEFLATERS[16]


cdef size_t deflate_message(
    const uint8_t *data, size_t size, int window_bits, uint8_t **out
) noexcept nogil:
    """window_bits: 9 to 15. The trailing 00 00 FF FF is taken off (RFC 7692, 7.2.1)."""
    cdef z_stream *z = <z_stream *>DEFLATERS[window_bits]
    cdef size_t capacity
    cdef size_t written
    out[0] = NULL
    if z == NULL:
        z = <z_stream *>calloc(1, sizeof(z_stream))
        if z == NULL:
            return 0
        if deflateInit2(
            z, DEFLATE_LEVEL, Z_DEFLATED, -window_bits, 8, Z_DEFAULT_STRATEGY
        ) != Z_OK:
            free(z)
            return 0
        DEFLATERS[window_bits] = z
    else:
        deflateReset(z)
    capacity = deflateBound(z, size) + 16
    out[0] = <uint8_t *>malloc(capacity)
    if out[0] == NULL:
        return 0
    z.next_in = <uint8_t *>data
    z.avail_in = <unsigned int>size
    z.next_out = out[0]
    z.avail_out = <unsigned int>capacity
    if deflate(z, Z_SYNC_FLUSH) != Z_OK or z.avail_in or z.avail_out == 0:
        free(out[0])
        out[0] = NULL
        return 0
    written = capacity - z.avail_out
    if written < 5 or written - 4 >= size:
        free(out[0])
        out[0] = NULL
        return 0
    return written - 4


# --- for Python -----------------------------------------------------------------------

KIND_TEXT = 1
KIND_BINARY = 2
KIND_CLOSE = 8
KIND_PING = 9
KIND_PONG = 10
KIND_FAILED = 255


cdef class FrameDecoder:
    """The decoder as an object, for tests and for transports that are not in C."""

    cdef Decoder decoder
    cdef Inflater inflater
    cdef size_t message_bytes_max
    cdef bint failed

    def __cinit__(self, *, size_t message_bytes_max, bint deflate=False):
        if not 125 <= message_bytes_max < 1 << 30:
            raise ValueError("message_bytes_max must be in 125..2**30")
        memset(&self.decoder, 0, sizeof(Decoder))
        self.inflater = Inflater()
        self.message_bytes_max = message_bytes_max
        self.decoder.deflate = deflate

    def __dealloc__(self):
        decoder_clear(&self.decoder)

    def feed(self, bytes data not None):
        """Give what is complete: (kind, payload, code) each.

        A close frame's payload is its reason and code its status, 1005 when absent.
        KIND_FAILED comes last: code to close with, payload says why; later input is
        ignored.
        """
        cdef size_t size = PyBytes_GET_SIZE(data)
        cdef size_t at = 0
        cdef size_t used = 0
        cdef Event event
        cdef Kind kind
        cdef list events = []
        cdef uint8_t *copy
        if self.failed:
            return events
        copy = <uint8_t *>malloc(size + 1)
        if copy == NULL:
            raise MemoryError
        memcpy(copy, PyBytes_AS_STRING(data), size)
        try:
            while True:
                kind = decode(
                    &self.decoder, self.inflater.stream, self.message_bytes_max,
                    copy + at, size - at, &used, &event,
                )
                at += used
                if kind == NEED:
                    return events
                if kind == FAILED:
                    self.failed = True
                    decoder_clear(&self.decoder)
                    events.append((KIND_FAILED, <bytes>event.why, event.code))
                    return events
                events.append((
                    <int>kind,
                    PyBytes_FromStringAndSize(<char *>event.data, event.size),
                    event.code,
                ))
        finally:
            free(copy)


def encode(int opcode, bytes payload not None, *, bint fin=True,
           bint compressed=False, bytes mask=None):
    """One frame. mask: 4 bytes for a client's frame, None for a server's."""
    cdef uint8_t[14] header
    cdef size_t size = PyBytes_GET_SIZE(payload)
    cdef size_t head
    cdef uint32_t key
    cdef bytes frame
    cdef uint8_t *out
    if not 0 <= opcode <= 15:
        raise ValueError("opcode must be in 0..15")
    if mask is not None and len(mask) != 4:
        raise ValueError("mask must be 4 bytes")
    head = encode_header(header, (fin << 7) | (compressed << 6) | opcode, size)
    if mask is not None:
        header[1] |= 0x80
        memcpy(&header[head], PyBytes_AS_STRING(mask), 4)
        memcpy(&key, PyBytes_AS_STRING(mask), 4)
        head += 4
    frame = PyBytes_FromStringAndSize(NULL, head + size)
    out = <uint8_t *>PyBytes_AS_STRING(frame)
    memcpy(out, header, head)
    memcpy(out + head, PyBytes_AS_STRING(payload), size)
    if mask is not None:
        unmask(out + head, size, key)
    return frame


def compress(bytes payload not None, int window_bits=15):
    """The payload of a frame with RSV1, or None when that would not be shorter."""
    cdef uint8_t *out
    cdef size_t size
    if not 9 <= window_bits <= 15:
        raise ValueError("window_bits must be in 9..15")
    size = deflate_message(
        <const uint8_t *>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload),
        window_bits, &out,
    )
    if size == 0:
        return None
    try:
        return PyBytes_FromStringAndSize(<char *>out, size)
    finally:
        free(out)


def encode_close(int code, str reason=""):
    """A server's close frame; the reason is cut at a code point to fit 125 bytes."""
    cdef bytes text = reason.encode()[:CONTROL_MAX - 2]
    if not close_code_valid(code):
        raise ValueError(f"{code} may not be sent in a close frame")
    text = text.decode(errors="ignore").encode()
    return encode(KIND_CLOSE, code.to_bytes(2, "big") + text)
