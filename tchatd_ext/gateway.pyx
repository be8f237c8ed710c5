"""Owns HTTP/1.1 and WebSocket over the reactor's connections; refuses what they mean.

Theory of operation. A connection moves through the states of `reactor.State`:

    HTTP_READ -> HTTP_BODY -> HTTP_WAIT -> HTTP_WRITE -> HTTP_READ ...   keep-alive
                                  |
                                  +-> WS_OPEN -> WS_CLOSING -> LINGER    an upgrade
    any -> LINGER                                a refusal: answer, FIN, discard

Bytes are consumed while the state can use them; the rest is kept. While a request is
with Python nothing behind it is parsed, and as soon as something is behind it nothing
more is read: pipelined input is bounded by one receive buffer. `respond` and `resume`
put the connection on the backlog, which the next poll() works off, so that Python is
never re-entered and every event leaves through poll().

Every accepted WebSocket is reported CLOSED exactly once: when the peer's close frame
arrives, when the gateway gives it up (a violation, a timeout, a slow consumer), or
when its socket goes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.sequence cimport PySequence_Fast
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcpy, memset

from tchatd_ext.frame cimport (
    CLOSE,
    FAILED,
    NEED,
    PING,
    PONG,
    TEXT,
    Event,
    Inflater,
    Kind,
    close_code_valid,
    decode,
    encode_header,
)
from tchatd_ext.http1 cimport (
    CHUNK_BAD,
    CHUNK_DATA,
    CHUNK_END,
    CHUNK_NEED,
    Chunk,
    Head,
    check_head,
    chunks_next,
    head_end,
)
from tchatd_ext.outbound cimport (
    BLOCKED,
    BROKEN,
    DRAINED,
    Frame,
    Sent,
    Shared,
    queue_push,
    shared_new,
    shared_release,
    shared_retain,
)
from tchatd_ext.reactor cimport (
    HTTP_BODY,
    HTTP_READ,
    HTTP_WAIT,
    HTTP_WRITE,
    LINGER,
    WS_CLOSING,
    WS_OPEN,
    Body,
    Conn,
    Reactor,
)

import http
import ipaddress
import json
from email.utils import formatdate
from functools import lru_cache

import httptools

from tchatd_ext import outbound
from tchatd_ext.handshake import accept_key, key_valid, negotiate_deflate, subprotocols

globals()["Frame"] = outbound.Frame

REQUEST = 0
MESSAGE = 1
CLOSED = 2


cdef extern from "Python.h":
    Py_ssize_t PySequence_Fast_GET_SIZE(object)
    PyObject *PySequence_Fast_GET_ITEM(object, Py_ssize_t)


cdef enum:
    MESSAGES_MAX = 256          # of one connection in one turn; the rest waits a turn
    BODY_START = 4096           # first allocation for a body not whole in one receive
    BODY_RATE = 8192            # bytes a second that a body must keep up
    KEPT_MAX = 65536            # kept input beyond which a connection is not read

cdef dict CODES = {
    400: "invalid_request", 408: "timeout", 413: "too_large", 414: "uri_too_long",
    417: "expectation_failed", 426: "upgrade_required", 431: "head_too_large",
    501: "not_implemented", 505: "version_not_supported",
}
cdef dict PHRASES = {status.value: status.phrase.encode() for status in http.HTTPStatus}
cdef list STATES = [
    "free", "http_read", "http_body", "http_wait", "http_write",
    "websocket", "websocket_closing", "linger",
]


cdef bint ends(const Conn *conn, const uint8_t *data, size_t size) noexcept nogil:
    """Whether a close frame, or one that its first two bytes condemn, comes next."""
    cdef uint8_t opcode = data[0] & 0x0F
    if conn.decoder.in_payload or conn.decoder.header_size:
        return False
    if data[0] & 0x30 or (data[0] & 0x40 and not conn.decoder.deflate):
        return True
    if opcode > 2 and opcode != 9 and opcode != 10:
        return True
    if opcode <= 2 and (opcode == 0) != (conn.decoder.message_opcode != 0):
        return True
    if opcode > 2 and not data[0] & 0x80:
        return True
    return size > 1 and (not data[1] & 0x80 or (opcode > 2 and data[1] & 0x7F > 125))


cdef class HeadReader:
    """What httptools calls back while it reads one head."""

    cdef bytes target
    cdef list headers
    cdef bint complete

    cdef void start(self):
        self.target = b""
        self.headers = []
        self.complete = False

    def on_url(self, bytes url):
        self.target += url

    def on_header(self, bytes name, bytes value):
        # llhttp leaves the optional white space at a value's end.
        self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_message_complete(self):
        self.complete = True


cdef class Request:
    """One complete HTTP/1.1 request; immutable. Header names are lower-case."""

    cdef readonly uint64_t connection
    cdef readonly str method
    cdef readonly bytes target
    cdef readonly list headers
    cdef readonly bytes body
    cdef readonly bint keep_alive
    cdef readonly bint upgrade
    cdef readonly tuple subprotocols
    cdef bytes raw_address

    @property
    def path(self):
        return self.target.partition(b"?")[0].decode("ascii")

    @property
    def query(self):
        return self.target.partition(b"?")[2].decode("ascii")

    @property
    def address(self):
        return format_address(self.raw_address)

    def header(self, bytes name not None):
        """Give the first value of `name` (lower-case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    cdef list values(self, bytes name):
        return [value for key, value in self.headers if key == name]

    def __repr__(self):
        return f"<Request {self.method} {self.path} of {self.connection}>"


@lru_cache(maxsize=16_384)
def format_address(bytes raw):
    """raw: 16 bytes of IPv6, or zeroes. Asked for by every request: 6 µs uncached."""
    if raw == bytes(16):
        return "unix"
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)


cdef Shared *close_block(int code, bytes reason) except NULL:
    """A close frame; code 1005 sends none. reason: at most 123 bytes of UTF-8."""
    cdef size_t size = 0 if code == 1005 else 2 + len(reason)
    cdef Shared *shared = shared_new(2 + size)
    if shared == NULL:
        raise MemoryError
    encode_header(shared.data, 0x88, size)
    if size:
        shared.data[2] = <uint8_t>(code >> 8)
        shared.data[3] = <uint8_t>code
        memcpy(shared.data + 4, PyBytes_AS_STRING(reason), size - 2)
    shared.keep = 1
    return shared


cdef int64_t milliseconds(str name, object seconds, object least=0.001) except -1:
    if not least <= seconds <= 86400:
        raise ValueError(f"{name} must be in {least}..86400")
    return max(1, int(seconds * 1000))


cdef uint32_t bounded(str name, object value, object least, object most) except? 0:
    if not least <= value <= most:
        raise ValueError(f"{name} must be in {least}..{most}")
    return value


cdef class Gateway(Reactor):
    """Every plain connection; one thread, never blocks."""

    cdef list events
    cdef HeadReader reader
    cdef object parser              # of httptools; None after it must not be reused
    cdef Inflater inflater
    cdef Frame gap_json_frame
    cdef Frame gap_msgpack_frame
    cdef Shared *ping
    cdef uint64_t *targets          # scratch of fan_out
    cdef Py_ssize_t targets_capacity
    cdef size_t head_bytes_max, uri_bytes_max, body_bytes_max, message_bytes_max
    cdef uint32_t deflate_bytes_min
    cdef bint deflate
    cdef int64_t request_ms, idle_ms, ping_interval_ms, pong_timeout_ms
    cdef bytes server
    cdef dict prefixes              # status -> first bytes of an answer, this second
    cdef int64_t prefixes_ms
    cdef size_t requests, answers, refusals, messages, deliveries, violations, timeouts
    cdef size_t pings, websockets

    def __init__(
        self, *, Frame gap_json not None, Frame gap_msgpack not None,
        head_bytes_max=16384, uri_bytes_max=8192, body_bytes_max=1 << 20,
        message_bytes_max=131072, queue_bytes_max=65536, slow_consumer="gap",
        handshake_s=10.0, request_s=30.0, idle_s=75.0, ping_interval_s=25.0,
        pong_timeout_s=20.0, close_s=5.0, write_s=30.0, connections_max=200_000,
        connections_per_address_max=20_000, deflate=True, deflate_bytes_min=512,
        server="tchatd",
    ):
        if slow_consumer not in ("gap", "close"):
            raise ValueError("slow_consumer must be 'gap' or 'close'")
        self.head_bytes_max = bounded("head_bytes_max", head_bytes_max, 256, 65536)
        self.uri_bytes_max = bounded("uri_bytes_max", uri_bytes_max, 64, head_bytes_max)
        self.body_bytes_max = bounded("body_bytes_max", body_bytes_max, 0, 1 << 30)
        self.message_bytes_max = bounded(
            "message_bytes_max", message_bytes_max, 125, (1 << 30) - 1
        )
        self.queue_bytes_max = bounded("queue_bytes_max", queue_bytes_max, 256, 1 << 30)
        self.connections_max = bounded("connections_max", connections_max, 1, 1 << 23)
        self.connections_per_address_max = bounded(
            "connections_per_address_max", connections_per_address_max, 1, 1 << 23
        )
        self.deflate = deflate
        self.deflate_bytes_min = bounded(
            "deflate_bytes_min", deflate_bytes_min, 1, 1 << 30
        )
        self.handshake_ms = milliseconds("handshake_s", handshake_s)
        self.request_ms = milliseconds("request_s", request_s)
        self.idle_ms = milliseconds("idle_s", idle_s)
        self.ping_interval_ms = milliseconds("ping_interval_s", ping_interval_s)
        self.pong_timeout_ms = milliseconds("pong_timeout_s", pong_timeout_s)
        self.close_ms = milliseconds("close_s", close_s)
        self.linger_ms = min(self.close_ms, 2000)
        self.write_ms = milliseconds("write_s", write_s)
        shortest = min(
            self.handshake_ms, self.request_ms, self.idle_ms, self.ping_interval_ms,
            self.pong_timeout_ms, self.linger_ms, self.write_ms,
        )
        self.tick_ms = max(5, min(250, shortest // 8))
        self.server = server.encode("ascii")
        self.slow_closes = slow_consumer == "close"
        self.gap_json_frame = gap_json
        self.gap_msgpack_frame = gap_msgpack
        self.gap_json = gap_json.plain
        self.gap_msgpack = gap_msgpack.plain
        shared_retain(self.gap_json)
        shared_retain(self.gap_msgpack)
        self.slow_close = close_block(4008, b"slow consumer")
        self.ping = shared_new(2)
        if self.ping == NULL:
            raise MemoryError
        encode_header(self.ping.data, 0x89, 0)
        self.inflater = Inflater()
        self.events = []
        self.reader = HeadReader()
        self.prefixes = {}
        Reactor.__init__(self)

    def __dealloc__(self):
        if self.ping != NULL:
            shared_release(self.ping)
        free(self.targets)

    cdef int enter(self) except -1:
        if self.busy:
            raise RuntimeError("a gateway belongs to one thread")
        return 0

    @property
    def connections(self):
        return self.connection_count

    def fileno(self):
        return self.epoll

    def poll(self, int events_max=512):
        """Do what is ready and return what is complete; ends with flush()."""
        cdef uint32_t at
        cdef list events
        self.enter()
        if self.stopped:
            return []
        self.run_once(max(1, events_max))
        for at in range(self.report_count):
            self.events.append((
                CLOSED, self.reports[at].handle, self.reports[at].code,
                (<bytes>self.reports[at].reason).decode(),
            ))
        self.report_count = 0
        events = self.events
        self.events = []
        return events

    # --- what the reactor calls -----------------------------------------------------

    cdef void on_open(self, Conn *conn):
        self.set_timer(conn, self.now_ms + self.handshake_ms)

    cdef void on_drop(self, Conn *conn):
        if (conn.state == WS_OPEN or conn.state == WS_CLOSING) and not conn.close_after:
            self.websockets -= 1

    cdef void on_input(self, Conn *conn, uint8_t *data, size_t size):
        """Consume what the state can use and keep the rest."""
        cdef uint64_t handle = conn.handle
        cdef uint8_t *kept = NULL
        cdef uint32_t scanned
        cdef size_t used
        conn.awaiting_pong = 0
        if conn.input != NULL:
            if size and not self.keep_input(conn, data, size):
                self.drop(conn, 1011, b"out of memory")
                return
            if conn.state == HTTP_WAIT or conn.state == HTTP_WRITE:
                self.stop_reading(conn)
                return
            # Taken from the slot, which may be dropped or refilled meanwhile.
            kept = data = conn.input
            size = conn.input_size
            scanned = conn.scanned
            conn.input = NULL
            self.drop_input(conn)
            conn.scanned = scanned
        used = self.consume(conn, data, size)
        if conn.handle == handle:
            if used < size and conn.state != LINGER:
                if not self.keep_input(conn, data + used, size - used):
                    self.drop(conn, 1011, b"out of memory")
            if conn.handle == handle:
                self.settle(conn)
        free(kept)

    cdef void settle(self, Conn *conn):
        """After input: read on, or not, by what is kept and by the state."""
        cdef bint more = conn.input_size > 0
        if conn.state == HTTP_WAIT or conn.state == HTTP_WRITE:
            if more:
                self.stop_reading(conn)
        elif more and (conn.state == WS_OPEN or conn.state == WS_CLOSING):
            # Only a turn's share was taken, or Python paused it.
            if conn.paused:
                self.stop_reading(conn)
            else:
                self.add_backlog(conn)
        elif conn.ended:
            if conn.state != LINGER:
                self.drop(conn, 1006, b"connection ended")
        elif not conn.reading and not conn.paused:
            conn.reading = 1
            self.arm(conn)

    cdef void stop_reading(self, Conn *conn):
        if conn.reading:
            conn.reading = 0
            self.arm(conn)

    cdef size_t consume(self, Conn *conn, uint8_t *data, size_t size):
        cdef uint64_t handle = conn.handle
        cdef size_t at = 0
        cdef size_t used
        cdef int budget = MESSAGES_MAX
        while at < size:
            if conn.state == HTTP_READ:
                used = self.read_head(conn, data + at, size - at)
                if used == 0:
                    break
            elif conn.state == HTTP_BODY:
                used = self.read_body(conn, data + at, size - at)
            elif conn.state == WS_OPEN or conn.state == WS_CLOSING:
                if conn.paused or budget == 0:
                    break
                # What ends the conversation waits a turn for the answers to what
                # this turn hands out.
                if budget < MESSAGES_MAX and ends(conn, data + at, size - at):
                    break
                budget -= 1
                used = self.read_frame(conn, data + at, size - at)
            else:
                if conn.state == LINGER:
                    at = size
                break
            at += used
            if conn.handle != handle:
                return size
        return at

    cdef void on_end(self, Conn *conn):
        cdef bint kept = conn.input_size > 0
        if conn.state == HTTP_WAIT or conn.state == HTTP_WRITE or (
            kept and (conn.state == WS_OPEN or conn.state == WS_CLOSING)
        ):
            # A half-close is allowed: what was asked is answered, and what was sent
            # before it is read.
            conn.ended = 1
            conn.reading = 0
            self.arm(conn)
        else:
            self.drop(conn, 1006, b"connection ended")

    cdef void on_drained(self, Conn *conn):
        if conn.state == HTTP_WRITE:
            self.next_request(conn)

    cdef void on_timer(self, Conn *conn):
        if conn.state == WS_OPEN:
            self.on_websocket_timer(conn)
            return
        if conn.state != LINGER:
            self.timeouts += 1
        if conn.state == HTTP_BODY or (conn.state == HTTP_READ and conn.input_size):
            self.refuse(conn, 408, b"the request took too long")
        elif conn.state != HTTP_WAIT:
            self.drop(conn, 1006, b"timeout")

    cdef void on_websocket_timer(self, Conn *conn):
        cdef int64_t due
        if not conn.authenticated:
            self.timeouts += 1
            self.start_close(conn, 1008, b"authentication timeout")
            self.report(conn, 1008, b"authentication timeout")
            return
        if conn.awaiting_pong and not conn.paused:
            self.timeouts += 1
            self.drop(conn, 1006, b"ping timeout")
            return
        due = conn.input_ms + self.ping_interval_ms
        if due <= self.now_ms:
            if not conn.awaiting_pong and self.push(conn, self.ping):
                conn.awaiting_pong = 1
                self.pings += 1
            due = self.now_ms + self.pong_timeout_ms
        self.set_timer(conn, due)

    # --- HTTP: reading --------------------------------------------------------------

    cdef size_t read_head(self, Conn *conn, uint8_t *data, size_t size):
        """Read one head; 0 when it is not whole."""
        cdef size_t skipped = 0
        cdef size_t end = 0
        cdef size_t seen
        cdef Head head
        cdef int found
        # RFC 9112, 2.2: empty lines before a request are ignored.
        while size - skipped >= 2 and data[skipped] == c"\r" and data[skipped + 1] == c"\n":
            skipped += 2
            conn.scanned = 0
        data += skipped
        size -= skipped
        if size == 0:
            return skipped
        if conn.scanned == 0 and conn.served:
            self.set_timer(conn, self.now_ms + self.handshake_ms)
        seen = size if size < self.head_bytes_max else self.head_bytes_max
        found = head_end(data, seen, conn.scanned, &end)
        if found == 0:
            conn.scanned = <uint32_t>seen
            self.check_partial(conn, data, seen)
            return skipped
        conn.scanned = 0
        if found < 0:
            self.refuse(conn, 400, b"a line ends in a bare LF")
            return skipped + size
        check_head(data, end, self.uri_bytes_max, &head)
        if head.status:
            self.refuse(conn, head.status, head.why)
            return skipped + size
        if head.content_length > <int64_t>self.body_bytes_max:
            self.refuse(conn, 413, b"the body is too large")
            return skipped + size
        conn.head_only = end >= 4 and data[0] == c"H"
        conn.keep_alive = 0 if head.close else 1
        if head.minor == 0 and conn.keep_alive:
            conn.keep_alive = 2 if head.keep_alive else 0
        if not self.begin_request(conn, data, end, &head):
            return skipped + size
        if head.chunked or head.content_length > 0:
            self.begin_body(conn, &head, size > end)
        else:
            self.deliver(conn, b"")
        return skipped + end

    cdef void check_partial(self, Conn *conn, const uint8_t *data, size_t size):
        """Refuse a head that can no longer become a good one."""
        if not (65 <= data[0] <= 90 or data[0] == c"\r" and size == 1):
            self.refuse(conn, 400, b"the request line is malformed")
        elif size > self.uri_bytes_max + 32 and memchr(data, c"\n", size) == NULL:
            self.refuse(conn, 414, b"the target is too long")
        elif size >= self.head_bytes_max:
            self.refuse(conn, 431, b"the head is too large")

    cdef bint begin_request(self, Conn *conn, const uint8_t *data, size_t end, Head *head):
        """Have httptools read the checked head; False when it was refused."""
        cdef HeadReader reader = self.reader
        cdef Request request
        cdef bytes raw = PyBytes_FromStringAndSize(<const char *>data, end)
        parser = self.parser
        self.parser = None
        reader.start()
        try:
            if parser is None:
                parser = httptools.HttpRequestParser(reader)
            parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            parser = None
        except httptools.HttpParserError:
            self.refuse(conn, 400, b"the head is malformed")
            return False
        if (
            reader.target != raw[head.target_at:head.target_at + head.target_size]
            or <uint32_t>len(reader.headers) != head.fields
        ):
            self.refuse(conn, 400, b"the head is malformed")
            return False
        # Between requests without a body llhttp is where it began.
        if parser is not None and reader.complete and head.minor == 1 and not head.close:
            self.parser = parser
        request = Request.__new__(Request)
        request.connection = conn.handle
        request.method = raw[:head.method_size].decode("ascii")
        request.target = reader.target
        request.headers = reader.headers
        request.body = b""
        request.keep_alive = conn.keep_alive != 0
        request.subprotocols = ()
        request.raw_address = PyBytes_FromStringAndSize(<const char *>conn.address, 16)
        reader.start()
        if head.upgrade and not self.check_upgrade(conn, request, head):
            return False
        Py_INCREF(request)
        conn.request = <PyObject *>request
        return True

    cdef bint check_upgrade(self, Conn *conn, Request request, Head *head):
        """RFC 6455, 4.2.1; a malformed upgrade is answered here."""
        cdef list keys = request.values(b"sec-websocket-key")
        if request.method != "GET" or head.chunked or head.content_length > 0:
            self.refuse(conn, 400, b"an upgrade is a GET without a body")
            return False
        if request.values(b"sec-websocket-version") != [b"13"]:
            self.refuse(conn, 426, b"only WebSocket version 13 is spoken here")
            return False
        if len(keys) != 1 or not key_valid(keys[0]):
            self.refuse(conn, 400, b"Sec-WebSocket-Key is malformed")
            return False
        request.upgrade = True
        request.subprotocols = subprotocols(request.values(b"sec-websocket-protocol"))
        return True

    cdef void begin_body(self, Conn *conn, Head *head, bint begun):
        cdef Body *body = <Body *>calloc(1, sizeof(Body))
        cdef size_t most = self.body_bytes_max
        if body == NULL:
            self.drop(conn, 1006, b"out of memory")
            return
        conn.body = body
        body.chunked = head.chunked
        if not head.chunked:
            body.expected = most = head.content_length
        conn.state = HTTP_BODY
        self.set_timer(conn, 0)
        self.set_timer(
            conn, self.now_ms + self.request_ms + <int64_t>(most * 1000 // BODY_RATE)
        )
        if head.expect and not begun:
            self.send_now(conn, b"HTTP/1.1 100 Continue\r\n\r\n")

    cdef size_t read_body(self, Conn *conn, const uint8_t *data, size_t size):
        cdef Body *body = conn.body
        cdef size_t used = 0, span_at = 0, span_size = 0
        cdef Chunk chunk
        if not body.chunked:
            used = body.expected - body.size
            if used > size:
                used = size
            if body.size == 0 and used == body.expected:
                self.deliver(conn, PyBytes_FromStringAndSize(<const char *>data, used))
            elif self.grow_body(conn, data, used) and body.size == body.expected:
                self.deliver_body(conn)
            return used
        chunk = chunks_next(
            &body.chunks, data, size, &used, &span_at, &span_size
        )
        if chunk == CHUNK_DATA:
            if body.size + span_size > self.body_bytes_max:
                self.refuse(conn, 413, b"the body is too large")
                return size
            self.grow_body(conn, data + span_at, span_size)
        elif chunk == CHUNK_END:
            self.deliver_body(conn)
        elif chunk == CHUNK_BAD:
            if body.chunks.status == 431:
                self.refuse(conn, 431, b"chunk extensions or trailers are too large")
            else:
                self.refuse(conn, 400, b"the chunked body is malformed")
            return size
        return used

    cdef bint grow_body(self, Conn *conn, const uint8_t *data, size_t size):
        cdef Body *body = conn.body
        cdef size_t capacity = body.capacity
        cdef uint8_t *grown
        if body.size + size > capacity:
            capacity = max(capacity * 2, body.size + size, <size_t>BODY_START)
            grown = <uint8_t *>realloc(body.data, capacity)
            if grown == NULL:
                self.drop(conn, 1006, b"out of memory")
                return False
            body.data = grown
            body.capacity = capacity
        memcpy(body.data + body.size, data, size)
        body.size += size
        return True

    cdef void deliver_body(self, Conn *conn):
        self.deliver(
            conn,
            PyBytes_FromStringAndSize(<const char *>conn.body.data, conn.body.size),
        )

    cdef void deliver(self, Conn *conn, bytes body):
        """Hand the request to Python; an upgrade is kept for accept_websocket."""
        cdef Request request = <Request>conn.request
        if conn.body != NULL:
            free(conn.body.data)
            free(conn.body)
            conn.body = NULL
        request.body = body
        if not request.upgrade:
            Py_XDECREF(conn.request)
            conn.request = NULL
        conn.state = HTTP_WAIT
        self.set_timer(conn, 0)
        self.requests += 1
        self.events.append((REQUEST, conn.handle, request))

    # --- HTTP: answering ------------------------------------------------------------

    cdef bytes prefix(self, int status):
        """Status line, server and date, up to where the length goes."""
        if self.now_ms - self.prefixes_ms >= 1000 or not self.prefixes:
            self.prefixes.clear()
            self.prefixes_ms = self.now_ms
        prefix = self.prefixes.get(status)
        if prefix is None:
            prefix = b"HTTP/1.1 %d %b\r\nserver: %b\r\ndate: %b\r\n" % (
                status, PHRASES.get(status, b"Status"), self.server,
                formatdate(usegmt=True).encode("ascii"),
            )
            self.prefixes[status] = prefix
        return prefix

    cdef Sent send_now(self, Conn *conn, bytes data):
        """Queue and send bytes that are never dropped."""
        cdef Shared *shared = shared_new(PyBytes_GET_SIZE(data))
        cdef bint queued
        if shared == NULL:
            return BROKEN
        memcpy(shared.data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        shared.keep = 1
        queued = queue_push(&conn.out, shared)
        shared_release(shared)
        if not queued:
            return BROKEN
        return self.send_queued(conn) if not conn.writing else BLOCKED

    cdef void answer(self, Conn *conn, int status, bytes headers, bytes body, bint close):
        """Write an answer; the connection goes on to the next request, or ends."""
        cdef bytes length = b""
        cdef bytes option = b""
        if status >= 200 and status != 204 and status != 304:
            length = b"content-length: %d\r\n" % len(body)
        if close:
            option = b"connection: close\r\n"
        elif conn.keep_alive == 2:
            option = b"connection: keep-alive\r\n"
        if conn.head_only or status == 204 or status == 304:
            body = b""
        conn.state = HTTP_WRITE
        conn.close_after = close
        self.answers += 1
        sent = self.send_now(
            conn, b"".join((self.prefix(status), length, option, headers, b"\r\n", body))
        )
        if sent != DRAINED:
            self.set_timer(conn, self.now_ms + self.write_ms)
        elif conn.state == HTTP_WRITE:
            self.next_request(conn)

    cdef void next_request(self, Conn *conn):
        """The answer is out: wait for a request, or take up what is kept."""
        conn.state = HTTP_READ
        conn.served = 1
        conn.head_only = 0
        self.set_timer(conn, 0)
        self.set_timer(conn, self.now_ms + self.idle_ms)
        if conn.input_size:
            self.add_backlog(conn)
        elif conn.ended:
            self.drop(conn, 1006, b"connection ended")
        elif not conn.reading:
            conn.reading = 1
            self.arm(conn)

    cdef void refuse(self, Conn *conn, int status, const char *why):
        """Answer a request that Python never sees, and end the connection."""
        cdef str phrase = (<bytes>PHRASES[status]).decode()
        cdef str detail = (<bytes>why).decode()
        cdef bytes headers = b"content-type: application/problem+json\r\n"
        self.refusals += 1
        if status == 426:
            headers += b"sec-websocket-version: 13\r\nupgrade: websocket\r\n"
        if conn.request != NULL:
            Py_XDECREF(conn.request)
            conn.request = NULL
        self.set_timer(conn, 0)
        self.answer(conn, status, headers, json.dumps({
            "type": "about:blank", "title": phrase, "status": status,
            "detail": detail, "error": CODES[status], "message": detail,
        }).encode(), True)

    def respond(self, uint64_t connection, int status, bytes headers not None,
                bytes body not None):
        """Answer the request outstanding."""
        cdef Conn *conn
        self.enter()
        if not 200 <= status <= 599:
            raise ValueError("status must be in 200..599")
        if headers and not headers.endswith(b"\r\n") or b"\r\n\r\n" in headers:
            raise ValueError("headers must be whole lines")
        conn = self.find(connection)
        if conn == NULL or conn.state != HTTP_WAIT:
            return False
        if conn.request != NULL:
            Py_XDECREF(conn.request)
            conn.request = NULL
        self.answer(conn, status, headers, body, not conn.keep_alive)
        return True

    # --- WebSocket ------------------------------------------------------------------

    def accept_websocket(self, uint64_t connection, *, str subprotocol, bint msgpack,
                         bytes headers=b""):
        """Answer an upgrade with 101; authenticated() must follow in handshake_s."""
        cdef Conn *conn
        cdef Request request
        cdef bytes option = b""
        self.enter()
        conn = self.find(connection)
        if conn == NULL or conn.state != HTTP_WAIT or conn.request == NULL:
            return False
        request = <Request>conn.request
        if subprotocol is not None:
            if subprotocol not in request.subprotocols:
                raise ValueError("the subprotocol was not offered")
            option = b"sec-websocket-protocol: %b\r\n" % subprotocol.encode("latin-1")
        if self.deflate:
            offers = request.values(b"sec-websocket-extensions")
            agreed = negotiate_deflate(b", ".join(offers)) if offers else None
            if agreed is not None:
                option += b"sec-websocket-extensions: %b\r\n" % agreed[0]
                conn.window_bits = agreed[1]
                conn.decoder.deflate = 1
        head = (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
            b"connection: Upgrade\r\nsec-websocket-accept: %b\r\n%b%b\r\n"
        ) % (accept_key(request.header(b"sec-websocket-key")), option, headers)
        Py_XDECREF(conn.request)
        conn.request = NULL
        conn.state = WS_OPEN
        conn.msgpack = msgpack
        conn.keep_alive = 0
        self.websockets += 1
        self.set_timer(conn, self.now_ms + self.handshake_ms)
        self.send_now(conn, head)
        if conn.ended:
            self.drop(conn, 1006, b"connection ended")
        elif conn.input_size:
            self.add_backlog(conn)
        elif not conn.reading:
            conn.reading = 1
            self.arm(conn)
        return True

    def authenticated(self, uint64_t connection):
        """End the half-open timer; pings take over, spread over a quarter of their
        interval, so that those who came together are not pinged together."""
        cdef Conn *conn = self.find(connection)
        cdef int64_t spread
        self.enter()
        if conn == NULL or conn.state != WS_OPEN or conn.authenticated:
            return False
        conn.authenticated = 1
        spread = <int64_t>(connection * <uint64_t>2654435761 % 1024)
        spread = spread * (self.ping_interval_ms // 4) // 1024
        self.set_timer(conn, 0)
        self.set_timer(conn, conn.input_ms + self.ping_interval_ms - spread)
        return True

    cdef size_t read_frame(self, Conn *conn, uint8_t *data, size_t size):
        """Read up to one message or control frame; gives what it used."""
        cdef size_t used = 0
        cdef Event event
        cdef Kind kind
        if conn.close_after:
            return size         # after a close frame, or a violation, nothing counts
        kind = decode(
            &conn.decoder, self.inflater.stream, self.message_bytes_max,
            data, size, &used, &event,
        )
        if kind == NEED or kind == PONG:
            return used
        if kind == FAILED:
            self.violations += 1
            self.report(conn, event.code, event.why)
            self.start_close(conn, event.code, <bytes>event.why)
            self.finish_close(conn)
            return size
        if kind == CLOSE:
            self.on_close_frame(conn, &event)
            return size
        if conn.state == WS_CLOSING:
            return used
        if kind == PING:
            self.pong(conn, event.data, event.size)
            return used
        self.messages += 1
        self.events.append((
            MESSAGE, conn.handle,
            PyBytes_FromStringAndSize(<const char *>event.data, event.size),
            kind == TEXT,
        ))
        return used

    cdef void pong(self, Conn *conn, const uint8_t *data, size_t size):
        cdef Shared *shared
        if conn.out.bytes > self.queue_bytes_max:
            return              # who does not read has no use for pongs
        shared = shared_new(2 + size)
        if shared == NULL:
            return
        encode_header(shared.data, 0x8A, size)
        memcpy(shared.data + 2, data, size)
        self.push(conn, shared)
        shared_release(shared)

    cdef void on_close_frame(self, Conn *conn, Event *event):
        """Answer the peer's close with its own code, or end our own handshake."""
        cdef bytes reason
        if conn.state == WS_OPEN:
            reason = PyBytes_FromStringAndSize(<const char *>event.data, event.size)
            if not conn.reported:
                conn.reported = 1
                self.events.append((
                    CLOSED, conn.handle, event.code, reason.decode()
                ))
            self.start_close(conn, event.code, b"")
        else:
            self.report(conn, conn.close_code, b"closed")
        self.finish_close(conn)

    cdef void start_close(self, Conn *conn, int code, bytes reason):
        """Queue our close frame behind what is queued."""
        cdef Shared *shared
        if conn.state != WS_OPEN:
            return
        shared = close_block(code, reason)
        self.push(conn, shared)
        shared_release(shared)
        conn.state = WS_CLOSING
        conn.close_code = code
        if conn.paused:
            self.read_on(conn)
        self.set_timer(conn, 0)
        self.set_timer(conn, self.now_ms + self.close_ms)

    cdef void finish_close(self, Conn *conn):
        """Nothing more is expected of the peer: FIN once the queue is empty."""
        conn.close_after = 1
        self.websockets -= 1
        self.mark_dirty(conn)

    def close(self, uint64_t connection, int code, str reason=""):
        """Start the close handshake after what is queued; CLOSED follows."""
        cdef Conn *conn
        cdef bytes text = reason.encode()[:123].decode(errors="ignore").encode()
        self.enter()
        if not close_code_valid(code):
            raise ValueError(f"{code} may not be sent in a close frame")
        conn = self.find(connection)
        if conn == NULL or conn.state != WS_OPEN:
            return False
        self.start_close(conn, code, text)
        if not conn.writing:
            self.send_queued(conn)
        return True

    def abort(self, uint64_t connection):
        """Drop the socket now; CLOSED follows for a WebSocket."""
        cdef Conn *conn
        self.enter()
        conn = self.find(connection)
        if conn == NULL:
            return False
        self.drop(conn, 1006, b"aborted")
        return True

    def pause(self, uint64_t connection):
        """Stop reading (backpressure); what poll() returned already is delivered."""
        cdef Conn *conn
        self.enter()
        conn = self.find(connection)
        if conn == NULL or conn.state != WS_OPEN:
            return False
        conn.paused = 1
        self.stop_reading(conn)
        return True

    def resume(self, uint64_t connection):
        """Read on, first of all what was kept."""
        cdef Conn *conn
        self.enter()
        conn = self.find(connection)
        if conn == NULL or not conn.paused:
            return False
        self.read_on(conn)
        return True

    cdef void read_on(self, Conn *conn):
        conn.paused = 0
        conn.input_ms = self.now_ms     # it could not pong while it was not read
        if conn.input_size:
            self.add_backlog(conn)
        elif not conn.reading:
            conn.reading = 1
            self.arm(conn)

    # --- sending --------------------------------------------------------------------

    def queue(self, uint64_t connection, Frame frame not None):
        """Queue for the next flush(); False when the connection is gone or closing."""
        cdef Conn *conn
        self.enter()
        conn = self.find(connection)
        if conn == NULL or conn.state != WS_OPEN:
            return False
        self.deliveries += 1
        return self.push_limited(
            conn, frame.for_window(conn.window_bits, self.deflate_bytes_min)
        )

    cdef Py_ssize_t load_targets(self, object connections) except -1:
        cdef object fast = PySequence_Fast(connections, "a sequence is needed")
        cdef Py_ssize_t count = PySequence_Fast_GET_SIZE(fast)
        cdef Py_ssize_t at
        cdef uint64_t *grown
        if count > self.targets_capacity:
            grown = <uint64_t *>realloc(self.targets, count * sizeof(uint64_t))
            if grown == NULL:
                raise MemoryError
            self.targets = grown
            self.targets_capacity = count
        for at in range(count):
            self.targets[at] = <object>PySequence_Fast_GET_ITEM(fast, at)
        return count

    def fan_out(self, connections, Frame frame not None):
        """Queue one frame to many without the GIL; gives how many took it."""
        cdef Py_ssize_t count
        cdef Py_ssize_t at
        cdef Py_ssize_t taken = 0
        cdef Conn *conn
        cdef Shared *blocks[16]
        self.enter()
        count = self.load_targets(connections)
        memset(blocks, 0, sizeof(blocks))
        blocks[0] = frame.plain
        self.busy = True
        with nogil:
            for at in range(count):
                conn = self.find(self.targets[at])
                if conn == NULL or conn.state != WS_OPEN:
                    continue
                if blocks[conn.window_bits] == NULL:
                    with gil:
                        blocks[conn.window_bits] = frame.for_window(
                            conn.window_bits, self.deflate_bytes_min
                        )
                taken += self.push_limited(conn, blocks[conn.window_bits])
        self.busy = False
        self.deliveries += taken
        return taken

    def flush(self):
        """Send what is queued, one sendmsg for each connection, without the GIL."""
        self.enter()
        self.flush_dirty()

    # --- looking in -----------------------------------------------------------------

    def describe(self, uint64_t connection):
        """What an operator may see of one connection; None when it is gone."""
        cdef Conn *conn = self.find(connection)
        if conn == NULL:
            return None
        return {
            "state": STATES[conn.state],
            "address": format_address(
                PyBytes_FromStringAndSize(<const char *>conn.address, 16)
            ),
            "authenticated": bool(conn.authenticated),
            "paused": bool(conn.paused),
            "blocked": bool(conn.writing),
            "window_bits": conn.window_bits,
            "queue_count": conn.out.count,
            "queue_bytes": conn.out.bytes,
            "input_bytes": conn.input_size + conn.decoder.message_size,
            "quiet_ms": max(0, self.now_ms - conn.input_ms),
        }

    def statistics(self):
        """Totals since the start, and `connections`, `websockets` as they are."""
        return {
            "connections": self.connection_count,
            "websockets": self.websockets,
            "slot_bytes": self.chunk_count * 256 * sizeof(Conn),
            "accepted": self.accepted,
            "accept_errors": self.accept_errors,
            "refused_total": self.refused_total,
            "refused_address": self.refused_address,
            "requests": self.requests,
            "answers": self.answers,
            "refusals": self.refusals,
            "messages": self.messages,
            "deliveries": self.deliveries,
            "violations": self.violations,
            "timeouts": self.timeouts,
            "resets": self.resets,
            "pings": self.pings,
            "gaps": self.gaps,
            "slow_closed": self.slow_closed,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "sends": self.sends,
        }

    def shutdown(self):
        """Close every descriptor, listeners' registrations included; no events."""
        self.enter()
        if self.stopped:
            return
        self.unlisten()
        self.close_all()
        self.stopped = True
        self.close_descriptors()
