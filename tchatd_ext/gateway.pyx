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
from cpython.ref cimport Py_XDECREF
from cpython.sequence cimport PySequence_Fast
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

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
from tchatd_ext.http_reactor cimport HttpReactor, Request
from tchatd_ext.outbound cimport Frame, Shared, shared_new, shared_release, shared_retain
from tchatd_ext.reactor cimport (
    HTTP_BODY,
    HTTP_READ,
    HTTP_WAIT,
    HTTP_WRITE,
    LINGER,
    WS_CLOSING,
    WS_OPEN,
    Conn,
)

from tchatd_ext import http_reactor, outbound
from tchatd_ext.handshake import accept_key, negotiate_deflate
from tchatd_ext.http_reactor import format_address

globals()["Frame"] = outbound.Frame
globals()["Request"] = http_reactor.Request

REQUEST = http_reactor.REQUEST
MESSAGE = 1
CLOSED = 2


cdef extern from "Python.h":
    Py_ssize_t PySequence_Fast_GET_SIZE(object)
    PyObject *PySequence_Fast_GET_ITEM(object, Py_ssize_t)


cdef enum:
    MESSAGES_MAX = 256          # of one connection in one turn; the rest waits a turn

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


cdef class Gateway(HttpReactor):
    """Every plain connection; one thread, never blocks."""

    cdef Inflater inflater
    cdef Frame gap_json_frame
    cdef Frame gap_msgpack_frame
    cdef Shared *ping
    cdef uint64_t *targets          # scratch of fan_out
    cdef Py_ssize_t targets_capacity
    cdef size_t message_bytes_max
    cdef uint32_t deflate_bytes_min
    cdef bint deflate
    cdef int64_t ping_interval_ms, pong_timeout_ms
    cdef size_t messages, deliveries, violations, pings, websockets

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
        HttpReactor.__init__(self)

    def __dealloc__(self):
        if self.ping != NULL:
            shared_release(self.ping)
        free(self.targets)

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

    cdef void on_timer(self, Conn *conn):
        if conn.state == WS_OPEN:
            self.on_websocket_timer(conn)
        else:
            HttpReactor.on_timer(self, conn)

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
        """Totals since the start; connections, websockets, slot_bytes, queued_bytes
        and blocked are as they are now."""
        cdef size_t queued_bytes
        cdef size_t blocked
        self.sum_queues(&queued_bytes, &blocked)
        return {
            "connections": self.connection_count,
            "websockets": self.websockets,
            "slot_bytes": self.chunk_count * 256 * sizeof(Conn),
            "queued_bytes": queued_bytes,
            "blocked": blocked,
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
