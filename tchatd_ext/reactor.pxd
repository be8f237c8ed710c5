# Owns the layout of a connection slot and what the reactor offers the protocols.
from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from tchatd_ext.frame cimport Decoder
from tchatd_ext.http1 cimport Chunks
from tchatd_ext.outbound cimport Queue, Sent, Shared


cdef enum State:
    FREE
    HTTP_READ       # between requests, or a head is being read
    HTTP_BODY       # a body is being read
    HTTP_WAIT       # a request is with Python
    HTTP_WRITE      # its answer is being written
    WS_OPEN
    WS_CLOSING      # our close frame is queued or sent; the peer's is awaited
    LINGER          # nothing more to send; input is thrown away until the peer ends


cdef struct Body:
    # Of a request being read; lives only meanwhile.
    uint8_t *data
    size_t size
    size_t capacity
    size_t expected         # Content-Length; 0 when chunked
    Chunks chunks
    uint8_t chunked


cdef struct Conn:
    uint64_t handle         # generation << 24 | slot; 0 when free
    Conn *previous          # in its timer bucket; `next` also links free slots
    Conn *next
    int64_t deadline_ms     # 0: no timer
    int64_t input_ms        # when bytes last came
    uint8_t *input          # what could not be used yet; NULL when nothing is left
    PyObject *request       # HTTP_BODY, HTTP_WAIT: the Request; owned
    Body *body
    Queue out
    Decoder decoder
    uint32_t input_size
    uint32_t input_capacity
    uint32_t scanned        # bytes of a partial head already searched for its end
    uint32_t generation
    uint32_t discarded      # bytes thrown away while lingering
    int fd
    uint16_t bucket         # of its timer
    uint16_t close_code     # reported with CLOSED
    uint8_t state
    uint8_t address[16]     # IPv6, or IPv4 mapped
    uint8_t reading         # EPOLLIN is armed
    uint8_t writing         # EPOLLOUT is armed
    uint8_t dirty           # in the list for the next flush
    uint8_t in_backlog
    uint8_t paused          # by Python
    uint8_t ended           # the peer sent FIN; answer what is outstanding
    uint8_t close_after     # LINGER once the queue is empty
    uint8_t keep_alive      # of the request outstanding
    uint8_t head_only       # of the request outstanding: HEAD
    uint8_t authenticated
    uint8_t awaiting_pong
    uint8_t close_received
    uint8_t reported        # CLOSED was reported (or is owed to nobody)
    uint8_t msgpack
    uint8_t window_bits     # of compression towards the peer; 0: none
    uint8_t served          # a request was answered: idle_s instead of handshake_s


cdef struct Report:
    uint64_t handle
    int code
    const char *reason


cdef class Reactor:
    cdef int epoll
    cdef int timer
    cdef int wakeup
    cdef bint timer_armed
    cdef bint woken
    cdef bint busy                  # the GIL is released: other threads keep out
    cdef bint stopped
    cdef int64_t now_ms
    cdef int64_t tick_ms
    cdef int64_t wheel_ms           # the wheel has run up to here
    cdef Conn **buckets
    cdef Conn **chunks
    cdef uint32_t chunk_count
    cdef Conn *free_list
    cdef uint64_t *dirty
    cdef uint32_t dirty_count
    cdef uint32_t dirty_capacity
    cdef uint64_t *backlog
    cdef uint32_t backlog_count
    cdef uint32_t backlog_capacity
    cdef Report *reports
    cdef uint32_t report_count
    cdef uint32_t report_capacity
    cdef uint8_t *buffer
    cdef int[8] listeners
    cdef int listener_count
    cdef int64_t muted_until_ms     # listeners rest after EMFILE; 0: they listen
    cdef dict addresses
    cdef uint32_t connection_count
    cdef uint32_t connections_max
    cdef uint32_t connections_per_address_max
    cdef uint32_t queue_bytes_max
    cdef bint slow_closes
    cdef Shared *gap_json
    cdef Shared *gap_msgpack
    cdef Shared *slow_close
    cdef int64_t handshake_ms
    cdef int64_t close_ms
    cdef int64_t linger_ms
    cdef int64_t write_ms
    cdef size_t bytes_in, bytes_out, sends, accepted, refused_total, refused_address
    cdef size_t accept_errors, gaps, slow_closed, resets

    cdef void close_descriptors(self) noexcept
    cdef bint add_chunk(self) noexcept
    cdef Conn *acquire(self, int fd) noexcept
    cdef void release(self, Conn *conn) noexcept
    cdef void unlink(self, Conn *conn) noexcept nogil
    cdef void link(self, Conn *conn, int64_t deadline_ms) noexcept nogil
    cdef void arm_timer(self) noexcept
    cdef void run_timers(self)
    cdef void read_from(self, Conn *conn)
    cdef bint too_slow(self, Conn *conn) noexcept nogil
    cdef void flush_all(self) noexcept nogil
    cdef void mute(self, bint quiet)
    cdef void accept_all(self, int listener)
    cdef void open(self, int fd, const uint8_t *address)
    cdef void run_backlog(self)
    cdef void handle_event(self, Conn *conn, uint32_t events)
    cdef void set_write_timer(self, Conn *conn)
    cdef Conn *find(self, uint64_t handle) noexcept nogil
    cdef void set_timer(self, Conn *conn, int64_t deadline_ms) noexcept nogil
    cdef void report(self, Conn *conn, int code, const char *reason) noexcept nogil
    cdef bint keep_input(self, Conn *conn, const uint8_t *data, size_t size) noexcept nogil
    cdef void drop_input(self, Conn *conn) noexcept nogil
    cdef void arm(self, Conn *conn) noexcept nogil
    cdef void mark_dirty(self, Conn *conn) noexcept nogil
    cdef void add_backlog(self, Conn *conn) noexcept nogil
    cdef void wake(self) noexcept nogil
    cdef bint push(self, Conn *conn, Shared *shared) noexcept nogil
    cdef bint push_limited(self, Conn *conn, Shared *shared) noexcept nogil
    cdef Sent send_queued(self, Conn *conn) noexcept nogil
    cdef void flush_dirty(self)
    cdef void drop(self, Conn *conn, int code, const char *reason)
    cdef void run_once(self, int events_max)
    cdef void on_open(self, Conn *conn)
    cdef void on_input(self, Conn *conn, uint8_t *data, size_t size)
    cdef void on_end(self, Conn *conn)
    cdef void on_timer(self, Conn *conn)
    cdef void on_drained(self, Conn *conn)
    cdef void on_drop(self, Conn *conn)
    cdef void close_all(self)
    cdef void sum_queues(self, size_t *size, size_t *blocked) noexcept nogil
