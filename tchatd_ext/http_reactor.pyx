"""Owns HTTP/1.1 over the reactor's connections; refuses what requests mean.

Heads are checked by `http1` and then read by httptools; a request is refused when the
two differ. One request of a connection is with Python at a time. A refusal ends the
connection: nothing behind a request that was not understood is read.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memchr, memcpy

from tchatd_ext.http1 cimport (
    CHUNK_BAD,
    CHUNK_DATA,
    CHUNK_END,
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
    Sent,
    Shared,
    queue_push,
    shared_new,
    shared_release,
)
from tchatd_ext.reactor cimport HTTP_BODY, HTTP_READ, HTTP_WAIT, HTTP_WRITE, LINGER, Body, Conn, Reactor

import http
import ipaddress
import json
from email.utils import formatdate
from functools import lru_cache

import httptools

from tchatd_ext.handshake import key_valid, subprotocols

REQUEST = 0


cdef enum:
    BODY_START = 4096           # first allocation for a body not whole in one receive
    BODY_RATE = 8192            # bytes a second that a body must keep up

cdef dict CODES = {
    400: "invalid_request", 408: "timeout", 413: "too_large", 414: "uri_too_long",
    417: "expectation_failed", 426: "upgrade_required", 431: "head_too_large",
    501: "not_implemented", 505: "version_not_supported",
}
# As tchatd.edge.problems says them; what else is wrong has no type of its own.
cdef dict PROBLEMS = {
    413: ("too-large", "The request is too large"),
    414: ("uri-too-long", "The target of the request is too long"),
    426: ("upgrade-required", "This path speaks WebSocket only"),
    431: ("head-too-large", "The head of the request is too large"),
}
cdef dict PHRASES = {status.value: status.phrase.encode() for status in http.HTTPStatus}


cdef class HeadReader:
    """What httptools calls back while it reads one head."""


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


cdef class HttpReactor(Reactor):
    """Requests in, answers out. A subclass says how connections are used otherwise."""

    def __init__(self):
        self.events = []
        self.reader = HeadReader()
        self.prefixes = {}
        Reactor.__init__(self)

    cdef int enter(self) except -1:
        """Every call from Python passes here: one thread, see `reactor`."""
        if self.busy:
            raise RuntimeError("a gateway belongs to one thread")
        return 0

    cdef void on_open(self, Conn *conn):
        self.set_timer(conn, self.now_ms + self.handshake_ms)

    cdef void on_drained(self, Conn *conn):
        if conn.state == HTTP_WRITE:
            self.next_request(conn)

    cdef void on_timer(self, Conn *conn):
        if conn.state != LINGER:
            self.timeouts += 1
        if conn.state == HTTP_BODY or (conn.state == HTTP_READ and conn.input_size):
            self.refuse(conn, 408, b"the request took too long")
        elif conn.state != HTTP_WAIT:
            self.drop(conn, 1006, b"timeout")

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
        cdef str kind = "about:blank", title = (<bytes>PHRASES[status]).decode()
        cdef str detail = (<bytes>why).decode()
        cdef bytes headers = b"content-type: application/problem+json\r\n"
        self.refusals += 1
        headers += b"x-request-id: refusal-%d\r\n" % self.refusals
        if status in PROBLEMS:
            code, title = PROBLEMS[status]
            kind = f"urn:tchatd:problem:{code}"
        if status == 413:
            detail = f"The body may have {self.body_bytes_max} bytes."
        if status == 426:
            headers += b"sec-websocket-version: 13\r\nupgrade: websocket\r\n"
        if conn.request != NULL:
            Py_XDECREF(conn.request)
            conn.request = NULL
        self.set_timer(conn, 0)
        self.answer(conn, status, headers, json.dumps({
            "type": kind, "title": title, "status": status, "detail": detail,
            "instance": f"urn:tchatd:request:refusal-{self.refusals}",
            "error": CODES[status], "message": detail,
            "details": {},
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
