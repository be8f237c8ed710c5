"""Owns what an HTTP/1.1 message may look like; refuses whatever two readers might
read differently.

Request smuggling lives on lenient readers, so this one accepts only what RFC 9112
lets a sender generate: CRLF line ends, no folding, no space before the colon, one
Host, one framing. httptools reads the accepted head afterwards; both must agree.
`http1_py` is an independent reading of the same rules; one test suite runs both.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp, memset


cdef enum:
    FIELDS_MAX = 100
    METHOD_MAX = 16
    EXTRA_MAX = 8192        # chunk extensions and trailers of one body, bytes
    CHUNK_DIGITS_MAX = 8

cdef enum:
    SIZE
    EXTENSION
    SIZE_LF
    DATA
    DATA_CR
    DATA_LF
    TRAILER
    TRAILER_FIELD
    TRAILER_LF
    END_LF

cdef uint8_t[256] TOKEN
cdef uint8_t[256] TARGET


cdef void fill_tables() noexcept:
    cdef int byte
    for byte in b"!#$%&'*+-.^_`|~0123456789":
        TOKEN[byte] = 1
    for byte in range(65, 91):
        TOKEN[byte] = TOKEN[byte + 32] = 1
    # What RFC 3986 lets stand in a path or query, and what browsers put in a query.
    for byte in b"!$%&'()*+,-./0123456789:;=?@_~[]|{}^`":
        TARGET[byte] = 1
    for byte in range(65, 91):
        TARGET[byte] = TARGET[byte + 32] = 1


fill_tables()


cdef inline void refuse(Head *head, int status, const char *why) noexcept nogil:
    head.status = status
    head.why = why


cdef inline uint8_t lower(uint8_t byte) noexcept nogil:
    return byte | 0x20 if 65 <= byte <= 90 else byte


cdef bint same(
    const uint8_t *data, size_t size, const char *name, size_t name_size
) noexcept nogil:
    """ASCII case-insensitive comparison with a lower-case name."""
    cdef size_t at
    if size != name_size:
        return False
    for at in range(size):
        if lower(data[at]) != <uint8_t>name[at]:
            return False
    return True


cdef bint has_token(
    const uint8_t *data, size_t size, const char *name, size_t name_size
) noexcept nogil:
    """Whether a comma-separated list holds a token."""
    cdef size_t start = 0
    cdef size_t end
    cdef size_t stop
    while start <= size:
        end = start
        while end < size and data[end] != c",":
            end += 1
        stop = end
        while start < stop and (data[start] == c" " or data[start] == c"\t"):
            start += 1
        while stop > start and (data[stop - 1] == c" " or data[stop - 1] == c"\t"):
            stop -= 1
        if same(data + start, stop - start, name, name_size):
            return True
        start = end + 1
    return False


cdef int head_end(const uint8_t *data, size_t size, size_t start, size_t *end) noexcept nogil:
    """Look for the empty line from `start` on: 1 found (end set), 0 not yet, -1 a bare
    LF, which is refused as soon as it is seen."""
    cdef const uint8_t *found
    cdef size_t at = start
    while at < size:
        found = <const uint8_t *>memchr(data + at, c"\n", size - at)
        if found == NULL:
            return 0
        at = found - data
        if at == 0 or data[at - 1] != c"\r":
            return -1
        if at >= 3 and data[at - 2] == c"\n":
            end[0] = at + 1
            return 1
        at += 1
    return 0


cdef bint host_valid(const uint8_t *data, size_t size) noexcept nogil:
    """uri-host [":" port], not empty (RFC 9110, 7.2), of plain characters."""
    cdef size_t at = 0
    cdef size_t digits = 0
    if size == 0 or size > 262:
        return False
    if data[0] == c"[":
        at = 1
        while at < size and (
            48 <= data[at] <= 57 or 97 <= lower(data[at]) <= 102
            or data[at] == c":" or data[at] == c"."
        ):
            at += 1
        if at < 3 or at == size or data[at] != c"]":
            return False
        at += 1
    else:
        while at < size and data[at] != c":":
            if not (TOKEN[data[at]] or 40 <= data[at] <= 41 or data[at] == c","
                    or data[at] == c";" or data[at] == c"="):
                return False
            if data[at] == c"#" or data[at] == c"^" or data[at] == c"`" or data[at] == c"|":
                return False
            at += 1
        if at == 0:
            return False
    if at == size:
        return True
    if data[at] != c":":
        return False
    at += 1
    while at < size and 48 <= data[at] <= 57:
        at += 1
        digits += 1
    return at == size and digits <= 5


cdef bint method_known(const uint8_t *data, size_t size) noexcept nogil:
    if size == 3:
        return memcmp(data, b"GET", 3) == 0 or memcmp(data, b"PUT", 3) == 0
    if size == 4:
        return memcmp(data, b"POST", 4) == 0 or memcmp(data, b"HEAD", 4) == 0
    if size == 5:  # nobody serves TRACE: Python answers 405 with what is allowed
        return memcmp(data, b"PATCH", 5) == 0 or memcmp(data, b"TRACE", 5) == 0
    if size == 6:
        return memcmp(data, b"DELETE", 6) == 0
    return size == 7 and memcmp(data, b"OPTIONS", 7) == 0


cdef size_t check_request_line(
    const uint8_t *data, size_t size, size_t uri_bytes_max, Head *head
) noexcept nogil:
    """Method, target and version; gives where the next line begins."""
    cdef size_t at = 0
    cdef const uint8_t *version
    while at < size and TOKEN[data[at]] and at <= METHOD_MAX:
        at += 1
    if at == 0 or data[at] != c" ":
        refuse(head, 400, b"the request line is malformed")
        return 0
    head.method_size = <uint32_t>at
    at += 1
    head.target_at = <uint32_t>at
    while at < size and TARGET[data[at]]:
        at += 1
    head.target_size = <uint32_t>at - head.target_at
    if head.target_size > uri_bytes_max:
        refuse(head, 414, b"the target is too long")
        return 0
    if head.target_size == 0 or data[at] != c" " or size - at < 11:
        refuse(head, 400, b"the request target is malformed")
        return 0
    version = data + at + 1
    if (
        memcmp(version, b"HTTP/", 5) != 0 or version[6] != c"."
        or not 48 <= version[5] <= 57 or not 48 <= version[7] <= 57
        or version[8] != c"\r" or version[9] != c"\n"
    ):
        refuse(head, 400, b"the request line is malformed")
        return 0
    if version[5] != c"1" or version[7] > c"1":
        refuse(head, 505, b"only HTTP/1.1 and HTTP/1.0 are spoken here")
        return 0
    head.minor = version[7] - c"0"
    if not method_known(data, head.method_size):
        refuse(head, 501, b"the method is not known")
        return 0
    if data[head.target_at] != c"/" and not (
        head.target_size == 1 and data[head.target_at] == c"*"
        and same(data, head.method_size, b"options", 7)
    ):
        refuse(head, 400, b"the request target must be a path")
        return 0
    return at + 11


cdef void check_length(const uint8_t *value, size_t size, Head *head) noexcept nogil:
    cdef size_t at
    cdef int64_t length = 0
    if head.content_length >= 0:
        refuse(head, 400, b"Content-Length is repeated")
        return
    if size == 0 or size > 18:
        refuse(head, 400, b"Content-Length is malformed")
        return
    for at in range(size):
        if not 48 <= value[at] <= 57:
            refuse(head, 400, b"Content-Length is malformed")
            return
        length = length * 10 + (value[at] - 48)
    head.content_length = length


cdef void check_field(
    const uint8_t *name, size_t name_size, const uint8_t *value, size_t size,
    Head *head, uint8_t *seen,
) noexcept nogil:
    """What one field says of framing and connection. seen: bit 0 Host, 1
    Transfer-Encoding, 2 Connection: upgrade, 3 Upgrade: websocket, 4 Expect."""
    if name_size == 4 and same(name, 4, b"host", 4):
        if seen[0] & 1:
            refuse(head, 400, b"Host is repeated")
        elif not host_valid(value, size):
            refuse(head, 400, b"Host is malformed")
        seen[0] |= 1
    elif name_size == 14 and same(name, 14, b"content-length", 14):
        check_length(value, size, head)
    elif name_size == 17 and same(name, 17, b"transfer-encoding", 17):
        if seen[0] & 2:
            refuse(head, 400, b"Transfer-Encoding is repeated")
        elif not same(value, size, b"chunked", 7):
            refuse(head, 501, b"the transfer coding is not known")
        head.chunked = 1
        seen[0] |= 2
    elif name_size == 10 and same(name, 10, b"connection", 10):
        head.close |= has_token(value, size, b"close", 5)
        head.keep_alive |= has_token(value, size, b"keep-alive", 10)
        if has_token(value, size, b"upgrade", 7):
            seen[0] |= 4
    elif name_size == 7 and same(name, 7, b"upgrade", 7):
        if has_token(value, size, b"websocket", 9):
            seen[0] |= 8
    elif name_size == 6 and same(name, 6, b"expect", 6):
        if seen[0] & 16 or not same(value, size, b"100-continue", 12):
            refuse(head, 417, b"the expectation is not known")
        seen[0] |= 16
        head.expect = 1


cdef size_t check_line(
    const uint8_t *data, size_t size, size_t at, Head *head, uint8_t *seen
) noexcept nogil:
    """One field line beginning at `at`; gives where the next one begins."""
    cdef size_t name = at
    cdef size_t name_size
    cdef size_t value
    cdef size_t stop
    while at < size and TOKEN[data[at]]:
        at += 1
    name_size = at - name
    if name_size == 0 or at == size or data[at] != c":":
        refuse(head, 400, b"a header line is malformed")
        return 0
    at += 1
    while at < size and (data[at] == c" " or data[at] == c"\t"):
        at += 1
    value = at
    while at < size and (data[at] >= 32 or data[at] == c"\t") and data[at] != 127:
        at += 1
    if size - at < 2 or data[at] != c"\r" or data[at + 1] != c"\n":
        refuse(head, 400, b"a header value has a control character")
        return 0
    stop = at
    while stop > value and (data[stop - 1] == c" " or data[stop - 1] == c"\t"):
        stop -= 1
    head.fields += 1
    if head.fields > FIELDS_MAX:
        refuse(head, 431, b"too many header lines")
        return 0
    check_field(data + name, name_size, data + value, stop - value, head, seen)
    return at + 2


cdef void check_head(
    const uint8_t *data, size_t size, size_t uri_bytes_max, Head *head
) noexcept nogil:
    """Judge a head that ends in its empty line; head.status says how it went."""
    cdef size_t at
    cdef uint8_t seen = 0
    memset(head, 0, sizeof(Head))
    head.content_length = -1
    at = check_request_line(data, size, uri_bytes_max, head)
    while head.status == 0 and size - at > 2:
        at = check_line(data, size, at, head, &seen)
    if head.status:
        return
    if size - at != 2 or data[at] != c"\r" or data[at + 1] != c"\n":
        refuse(head, 400, b"the head is malformed")
    elif head.minor == 1 and not seen & 1:
        refuse(head, 400, b"Host is missing")
    elif head.chunked and head.content_length >= 0:
        refuse(head, 400, b"both Transfer-Encoding and Content-Length")
    elif head.chunked and head.minor == 0:
        refuse(head, 400, b"Transfer-Encoding in HTTP/1.0")
    head.upgrade = seen & 12 == 12 and head.minor == 1
    if head.minor == 0:
        head.expect = 0     # RFC 9110, 10.1.1: an expectation of HTTP/1.0 is ignored


cdef inline Chunk chunk_bad(Chunks *chunks, int status) noexcept nogil:
    chunks.status = status
    return CHUNK_BAD


cdef bint chunk_digit(Chunks *chunks, uint8_t byte) noexcept nogil:
    cdef uint8_t digit
    if 48 <= byte <= 57:
        digit = byte - 48
    elif 97 <= lower(byte) <= 102:
        digit = lower(byte) - 87
    else:
        return False
    chunks.digits += 1
    if chunks.digits > CHUNK_DIGITS_MAX:
        return False
    chunks.left = (chunks.left << 4) | digit
    return True


cdef Chunk chunk_framing(Chunks *chunks, uint8_t byte) noexcept nogil:
    """One byte that is not data: NEED to go on, END, or BAD."""
    if chunks.state == SIZE:
        if byte == c"\r" and chunks.digits:
            chunks.state = SIZE_LF
        elif byte == c";" and chunks.digits:
            chunks.state = EXTENSION
        elif not chunk_digit(chunks, byte):
            return chunk_bad(chunks, 400)
    elif chunks.state == EXTENSION:
        if byte == c"\r":
            chunks.state = SIZE_LF
        elif byte < 32 and byte != c"\t" or byte == 127:
            return chunk_bad(chunks, 400)
        chunks.extra += 1
    elif chunks.state == SIZE_LF or chunks.state == TRAILER_LF:
        if byte != c"\n":
            return chunk_bad(chunks, 400)
        if chunks.state == TRAILER_LF or chunks.left == 0:
            chunks.state = TRAILER
            chunks.in_name = 0
        else:
            chunks.state = DATA
    elif chunks.state == DATA_CR:
        if byte != c"\r":
            return chunk_bad(chunks, 400)
        chunks.state = DATA_LF
    elif chunks.state == DATA_LF:
        if byte != c"\n":
            return chunk_bad(chunks, 400)
        chunks.state = SIZE
        chunks.digits = 0
    elif chunks.state == TRAILER:
        if byte == c"\r" and not chunks.in_name:
            chunks.state = END_LF
        elif byte == c":" and chunks.in_name:
            chunks.state = TRAILER_FIELD
        elif TOKEN[byte]:
            chunks.in_name = 1
        else:
            return chunk_bad(chunks, 400)
        chunks.extra += 1
    elif chunks.state == TRAILER_FIELD:
        if byte == c"\r":
            chunks.state = TRAILER_LF
        elif byte < 32 and byte != c"\t" or byte == 127:
            return chunk_bad(chunks, 400)
        chunks.extra += 1
    else:
        return CHUNK_END if byte == c"\n" else chunk_bad(chunks, 400)
    if chunks.extra > EXTRA_MAX:
        return chunk_bad(chunks, 431)
    return CHUNK_NEED


cdef Chunk chunks_next(
    Chunks *chunks, const uint8_t *data, size_t size, size_t *used,
    size_t *span_at, size_t *span_size,
) noexcept nogil:
    """Advance to the next span of body data, to the end, or through all input.

    Trailers are checked and dropped: nobody here needs them.
    """
    cdef size_t at = 0
    cdef Chunk chunk
    while at < size:
        if chunks.state == DATA:
            span_at[0] = at
            span_size[0] = size - at
            if span_size[0] > chunks.left:
                span_size[0] = chunks.left
            chunks.left -= <uint32_t>span_size[0]
            if chunks.left == 0:
                chunks.state = DATA_CR
            used[0] = at + span_size[0]
            return CHUNK_DATA
        chunk = chunk_framing(chunks, data[at])
        at += 1
        if chunk != CHUNK_NEED:
            used[0] = at
            return chunk
    used[0] = at
    return CHUNK_NEED


# --- for Python -----------------------------------------------------------------------


def parse_head(bytes data not None, *, size_t uri_bytes_max=8192):
    """Judge a whole head: (0, facts) or (status, why).

    facts: method, target, minor, content_length (-1 absent), chunked, close,
    keep_alive, upgrade, expect.
    """
    cdef Head head
    cdef const uint8_t *raw = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef size_t size = PyBytes_GET_SIZE(data)
    cdef size_t end = 0
    cdef int found = head_end(raw, size, 0, &end)
    if found != 1 or end != size:
        return 400, "the head is malformed"
    check_head(raw, size, uri_bytes_max, &head)
    if head.status:
        return head.status, (<bytes>head.why).decode()
    return 0, (
        data[:head.method_size],
        data[head.target_at:head.target_at + head.target_size],
        head.minor, head.content_length, bool(head.chunked), bool(head.close),
        bool(head.keep_alive), bool(head.upgrade), bool(head.expect),
    )


def parse_chunked(bytes data not None):
    """Judge a chunked body: (0, body, bytes used), (-1, …) not whole, (status, …)."""
    cdef Chunks chunks
    cdef const uint8_t *raw = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef size_t size = PyBytes_GET_SIZE(data)
    cdef size_t at = 0, used = 0, span_at = 0, span_size = 0
    cdef Chunk chunk
    cdef list spans = []
    memset(&chunks, 0, sizeof(chunks))
    while True:
        chunk = chunks_next(&chunks, raw + at, size - at, &used, &span_at, &span_size)
        if chunk == CHUNK_DATA:
            spans.append(PyBytes_FromStringAndSize(
                <const char *>raw + at + span_at, span_size
            ))
        at += used
        if chunk == CHUNK_NEED:
            return -1, b"".join(spans), at
        if chunk == CHUNK_BAD:
            return chunks.status, b"".join(spans), at
        if chunk == CHUNK_END:
            return 0, b"".join(spans), at
