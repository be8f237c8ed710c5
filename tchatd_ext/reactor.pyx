"""Owns descriptors, slots, timers and queues of connections; refuses protocols.

Theory of operation. One epoll instance holds the listeners, every connection, a
timerfd and an eventfd; it is itself pollable, so one Trio task waits for all of it.
A connection is a slot of some 350 bytes in C; its number carries a generation, so
a number kept too long finds nothing. Input is read into one shared buffer and only
what is left over is copied to the connection. Interest in EPOLLIN and EPOLLOUT
changes only when it must: a system call saved for each request and each message.

Timers: one a connection, in a wheel of buckets one tick apart. A deadline that moves
later is not relinked; the bucket's turn finds it and files it again. The timerfd runs
only while there are connections.

Threads: one. The GIL is released only while queues are sent, and `busy` keeps every
other entry out meanwhile.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_XDECREF
from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

import os

from tchatd_ext.frame cimport decoder_clear
from tchatd_ext.outbound cimport (
    BLOCKED,
    BROKEN,
    DRAINED,
    queue_clear,
    queue_drop,
    queue_push,
    queue_send,
    shared_release,
)


cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event *)
    int epoll_wait(int, epoll_event *, int, int)
    enum:
        EPOLL_CLOEXEC
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL


cdef extern from "sys/timerfd.h" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int timerfd_create(int, int)
    int timerfd_settime(int, int, const itimerspec *, itimerspec *)
    enum:
        TFD_NONBLOCK
        TFD_CLOEXEC


cdef extern from "sys/eventfd.h" nogil:
    int eventfd(unsigned int, int)
    enum:
        EFD_NONBLOCK
        EFD_CLOEXEC


cdef extern from "time.h" nogil:
    int clock_gettime(int, timespec *)
    int CLOCK_MONOTONIC


cdef extern from "unistd.h" nogil:
    ssize_t read(int, void *, size_t)
    ssize_t write(int, const void *, size_t)
    int close_fd "close"(int)


cdef extern from "netinet/in.h" nogil:
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_in:
        in_addr sin_addr
    struct sockaddr_in6:
        in6_addr sin6_addr
    enum:
        AF_INET
        AF_INET6
        IPPROTO_TCP


cdef extern from "sys/socket.h" nogil:
    struct sockaddr_storage:
        unsigned short ss_family
    int accept4(int, sockaddr *, unsigned int *, int)
    ssize_t recv(int, void *, size_t, int)
    ssize_t send(int, const void *, size_t, int)
    int setsockopt(int, int, int, const void *, unsigned int)
    int shutdown(int, int)
    int SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_NOSIGNAL, SHUT_WR


cdef extern from "netinet/tcp.h" nogil:
    int TCP_NODELAY


cdef enum:
    BUFFER_BYTES = 65536
    BUCKETS = 512               # a power of two
    CHUNK_SLOTS = 256
    SLOT_BITS = 24
    EVENTS_MAX = 1024
    ACCEPTS_MAX = 64            # in one turn, so that a flood of them starves nobody
    TURN_MS = 2                 # of reading; what is left is reported again
    MUTE_MS = 250               # how long listeners rest after EMFILE
    DISCARD_MAX = 8388608       # bytes thrown away while lingering
    FLUSH_WITH_GIL_MAX = 8      # releasing it costs more than a few sends

cdef uint64_t SPECIAL = <uint64_t>1 << 63
cdef uint64_t TIMER_TAG = SPECIAL
cdef uint64_t WAKEUP_TAG = SPECIAL | 1
cdef uint64_t LISTENER_TAG = SPECIAL | 2

# Sent to whom there is no slot for; best effort, the request is not even read.
cdef bytes FULL_BODY = (
    b'{"type":"about:blank","title":"Service Unavailable","status":503,'
    b'"detail":"too many connections","instance":"urn:tchatd:refusal:full",'
    b'"error":"unavailable",'
    b'"message":"too many connections"}'
)
cdef bytes FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\n"
    b"content-type: application/problem+json\r\ncontent-length: %d\r\n\r\n%b"
    % (len(FULL_BODY), FULL_BODY)
)


cdef int64_t monotonic_ms() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000 + now.tv_nsec // 1000000


cdef void copy_address(uint8_t *address, const sockaddr_storage *peer) noexcept nogil:
    """As 16 bytes: IPv6, or IPv4 mapped; zeros for a unix socket."""
    memset(address, 0, 16)
    if peer.ss_family == AF_INET:
        address[10] = address[11] = 0xFF
        memcpy(address + 12, &(<const sockaddr_in *>peer).sin_addr, 4)
    elif peer.ss_family == AF_INET6:
        memcpy(address, &(<const sockaddr_in6 *>peer).sin6_addr, 16)


cdef void free_conn(Conn *conn) noexcept:
    """Close the descriptor and free all that the slot owns."""
    cdef PyObject *request = conn.request
    close_fd(conn.fd)
    queue_clear(&conn.out)
    decoder_clear(&conn.decoder)
    free(conn.input)
    conn.input = NULL
    if conn.body != NULL:
        free(conn.body.data)
        free(conn.body)
        conn.body = NULL
    conn.request = NULL
    Py_XDECREF(request)


cdef class Reactor:

    def __cinit__(self, **settings):
        self.epoll = self.timer = self.wakeup = -1

    cdef void close_descriptors(self) noexcept:
        for fd in (self.epoll, self.timer, self.wakeup):
            if fd >= 0:
                close_fd(fd)
        self.epoll = self.timer = self.wakeup = -1

    def __dealloc__(self):
        cdef uint32_t at
        cdef int slot
        # Python objects of this instance may be gone already: C alone is cleaned up.
        for at in range(self.chunk_count):
            for slot in range(CHUNK_SLOTS):
                if self.chunks[at][slot].handle:
                    free_conn(&self.chunks[at][slot])
            free(self.chunks[at])
        self.close_descriptors()
        free(self.chunks)
        free(self.buckets)
        free(self.dirty)
        free(self.backlog)
        free(self.reports)
        free(self.buffer)
        if self.gap_json != NULL:
            shared_release(self.gap_json)
        if self.gap_msgpack != NULL:
            shared_release(self.gap_msgpack)
        if self.slow_close != NULL:
            shared_release(self.slow_close)

    def __init__(self):
        cdef epoll_event event
        assert self.epoll < 0, "a reactor is opened once"
        self.addresses = {}
        self.chunks = <Conn **>calloc(
            self.connections_max // CHUNK_SLOTS + 1, sizeof(Conn *)
        )
        self.buckets = <Conn **>calloc(BUCKETS, sizeof(Conn *))
        self.buffer = <uint8_t *>malloc(BUFFER_BYTES)
        if self.chunks == NULL or self.buckets == NULL or self.buffer == NULL:
            raise MemoryError
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        self.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        self.wakeup = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        if self.epoll < 0 or self.timer < 0 or self.wakeup < 0:
            raise OSError(errno, os.strerror(errno))
        event.events = EPOLLIN
        event.data.u64 = TIMER_TAG
        epoll_ctl(self.epoll, EPOLL_CTL_ADD, self.timer, &event)
        event.data.u64 = WAKEUP_TAG
        epoll_ctl(self.epoll, EPOLL_CTL_ADD, self.wakeup, &event)
        self.now_ms = self.wheel_ms = monotonic_ms()

    # --- slots ----------------------------------------------------------------------

    cdef Conn *find(self, uint64_t handle) noexcept nogil:
        """The connection of a number, or NULL when it is gone."""
        cdef uint32_t slot = <uint32_t>(handle & ((1 << SLOT_BITS) - 1))
        cdef Conn *conn
        if slot >= self.chunk_count * CHUNK_SLOTS or handle >> SLOT_BITS == 0:
            return NULL
        conn = &self.chunks[slot // CHUNK_SLOTS][slot % CHUNK_SLOTS]
        return conn if conn.handle == handle else NULL

    cdef bint add_chunk(self) noexcept:
        cdef Conn *chunk = <Conn *>calloc(CHUNK_SLOTS, sizeof(Conn))
        cdef int at
        if chunk == NULL:
            return False
        self.chunks[self.chunk_count] = chunk
        # Linked backwards, so that low slots are given out first.
        for at in range(CHUNK_SLOTS - 1, -1, -1):
            chunk[at].bucket = <uint16_t>at
            chunk[at].discarded = self.chunk_count
            chunk[at].next = self.free_list
            self.free_list = &chunk[at]
        self.chunk_count += 1
        return True

    cdef Conn *acquire(self, int fd) noexcept:
        """A fresh slot for a descriptor; NULL when all are taken."""
        cdef Conn *conn
        cdef uint32_t generation
        cdef uint64_t slot
        if self.connection_count >= self.connections_max:
            return NULL
        if self.free_list == NULL and not self.add_chunk():
            return NULL
        conn = self.free_list
        self.free_list = conn.next
        # A free slot remembers its place in the fields it does not need.
        slot = <uint64_t>conn.discarded * CHUNK_SLOTS + conn.bucket
        generation = conn.generation + 1
        if generation == 0:
            generation = 1
        memset(conn, 0, sizeof(Conn))
        conn.generation = generation
        conn.handle = (<uint64_t>generation << SLOT_BITS) | slot
        conn.fd = fd
        self.connection_count += 1
        return conn

    cdef void release(self, Conn *conn) noexcept:
        cdef uint32_t slot = <uint32_t>(conn.handle & ((1 << SLOT_BITS) - 1))
        conn.handle = 0
        conn.state = FREE
        conn.discarded = slot // CHUNK_SLOTS
        conn.bucket = <uint16_t>(slot % CHUNK_SLOTS)
        conn.next = self.free_list
        self.free_list = conn
        self.connection_count -= 1

    # --- timers ---------------------------------------------------------------------

    cdef void unlink(self, Conn *conn) noexcept nogil:
        if conn.deadline_ms == 0:
            return
        if conn.previous != NULL:
            conn.previous.next = conn.next
        else:
            self.buckets[conn.bucket] = conn.next
        if conn.next != NULL:
            conn.next.previous = conn.previous
        conn.previous = conn.next = NULL
        conn.deadline_ms = 0

    cdef void link(self, Conn *conn, int64_t deadline_ms) noexcept nogil:
        cdef int64_t ticks = (deadline_ms - self.wheel_ms) // self.tick_ms + 1
        if ticks < 1:
            ticks = 1
        if ticks > BUCKETS - 1:
            ticks = BUCKETS - 1
        conn.deadline_ms = deadline_ms
        conn.bucket = <uint16_t>(
            (self.wheel_ms // self.tick_ms + ticks) & (BUCKETS - 1)
        )
        conn.previous = NULL
        conn.next = self.buckets[conn.bucket]
        if conn.next != NULL:
            conn.next.previous = conn
        self.buckets[conn.bucket] = conn

    cdef void set_timer(self, Conn *conn, int64_t deadline_ms) noexcept nogil:
        """Set the one deadline of a connection; 0 takes it away."""
        if deadline_ms == conn.deadline_ms:
            return
        if conn.deadline_ms and deadline_ms > conn.deadline_ms:
            conn.deadline_ms = deadline_ms      # filed again at its bucket's turn
            return
        self.unlink(conn)
        if deadline_ms:
            self.link(conn, deadline_ms)

    cdef void arm_timer(self) noexcept:
        """Tick while there is something to time out."""
        cdef bint wanted = self.connection_count > 0 or self.muted_until_ms > 0
        cdef itimerspec spec
        if wanted == self.timer_armed:
            return
        memset(&spec, 0, sizeof(spec))
        if wanted:
            spec.it_interval.tv_sec = spec.it_value.tv_sec = self.tick_ms // 1000
            spec.it_interval.tv_nsec = spec.it_value.tv_nsec = (
                self.tick_ms % 1000 * 1000000
            )
        timerfd_settime(self.timer, 0, &spec, NULL)
        self.timer_armed = wanted

    cdef void run_timers(self):
        cdef Conn *conn
        cdef Conn *rest
        cdef int64_t deadline
        cdef uint32_t bucket
        if self.now_ms - self.wheel_ms > BUCKETS * self.tick_ms:
            # After a long stall one turn of the wheel sees every timer.
            self.wheel_ms = self.now_ms - BUCKETS * self.tick_ms
        while self.wheel_ms + self.tick_ms <= self.now_ms:
            self.wheel_ms += self.tick_ms
            bucket = (self.wheel_ms // self.tick_ms) & (BUCKETS - 1)
            rest = self.buckets[bucket]
            while rest != NULL:
                # The turn may only end connections that are its own, so `next` holds.
                conn = rest
                rest = conn.next
                deadline = conn.deadline_ms
                self.unlink(conn)
                if deadline > self.now_ms:
                    self.link(conn, deadline)
                else:
                    self.on_timer(conn)
        if self.muted_until_ms and self.now_ms >= self.muted_until_ms:
            self.mute(False)

    # --- reading --------------------------------------------------------------------

    cdef bint keep_input(self, Conn *conn, const uint8_t *data, size_t size) noexcept nogil:
        """Append to what could not be used yet; False without memory."""
        cdef size_t need = conn.input_size + size
        cdef size_t capacity = conn.input_capacity
        cdef uint8_t *grown
        if need > capacity:
            capacity = capacity * 2 if capacity * 2 > need else need
            grown = <uint8_t *>realloc(conn.input, capacity)
            if grown == NULL:
                return False
            conn.input = grown
            conn.input_capacity = <uint32_t>capacity
        memcpy(conn.input + conn.input_size, data, size)
        conn.input_size = <uint32_t>need
        return True

    cdef void drop_input(self, Conn *conn) noexcept nogil:
        free(conn.input)
        conn.input = NULL
        conn.input_size = conn.input_capacity = conn.scanned = 0

    cdef void arm(self, Conn *conn) noexcept nogil:
        """Tell epoll what the flags `reading` and `writing` say."""
        cdef epoll_event event
        event.events = 0
        if conn.reading:
            event.events |= EPOLLIN
        if conn.writing:
            event.events |= EPOLLOUT
        event.data.u64 = conn.handle
        epoll_ctl(self.epoll, EPOLL_CTL_MOD, conn.fd, &event)

    cdef void add_backlog(self, Conn *conn) noexcept nogil:
        """Have the kept input of a connection looked at in the next turn."""
        cdef uint64_t *grown
        cdef uint32_t capacity
        if conn.in_backlog:
            return
        if self.backlog_count == self.backlog_capacity:
            capacity = self.backlog_capacity * 2 + 64
            grown = <uint64_t *>realloc(self.backlog, capacity * sizeof(uint64_t))
            if grown == NULL:
                return
            self.backlog = grown
            self.backlog_capacity = capacity
        self.backlog[self.backlog_count] = conn.handle
        self.backlog_count += 1
        conn.in_backlog = 1
        self.wake()

    cdef void wake(self) noexcept nogil:
        """Make the epoll descriptor readable: something waits for poll()."""
        cdef uint64_t one = 1
        if not self.woken:
            self.woken = True
            write(self.wakeup, &one, sizeof(one))

    cdef void read_from(self, Conn *conn):
        cdef ssize_t size = recv(conn.fd, self.buffer, BUFFER_BYTES, 0)
        if size < 0:
            if errno != EAGAIN and errno != EINTR:
                self.resets += 1
                self.drop(conn, 1006, b"connection reset")
            return
        if size == 0:
            if conn.state == LINGER:
                self.drop(conn, 1006, b"")
            else:
                self.on_end(conn)
            return
        self.bytes_in += size
        conn.input_ms = self.now_ms
        if conn.state == LINGER:
            conn.discarded += <uint32_t>size
            if conn.discarded > DISCARD_MAX:
                self.drop(conn, 1006, b"")
            return
        self.on_input(conn, self.buffer, size)

    # --- writing --------------------------------------------------------------------

    cdef void report(self, Conn *conn, int code, const char *reason) noexcept nogil:
        """Note a CLOSED for Python, once; reason: a constant."""
        cdef Report *grown
        cdef uint32_t capacity
        if conn.reported:
            return
        conn.reported = 1
        if self.report_count == self.report_capacity:
            capacity = self.report_capacity * 2 + 64
            grown = <Report *>realloc(self.reports, capacity * sizeof(Report))
            if grown == NULL:
                return
            self.reports = grown
            self.report_capacity = capacity
        self.reports[self.report_count].handle = conn.handle
        self.reports[self.report_count].code = code
        self.reports[self.report_count].reason = reason
        self.report_count += 1
        self.wake()

    cdef void mark_dirty(self, Conn *conn) noexcept nogil:
        cdef uint64_t *grown
        cdef uint32_t capacity
        if conn.dirty or conn.writing:
            return              # EPOLLOUT will send it
        if self.dirty_count == self.dirty_capacity:
            capacity = self.dirty_capacity * 2 + 1024
            grown = <uint64_t *>realloc(self.dirty, capacity * sizeof(uint64_t))
            if grown == NULL:
                return
            self.dirty = grown
            self.dirty_capacity = capacity
        self.dirty[self.dirty_count] = conn.handle
        self.dirty_count += 1
        conn.dirty = 1

    cdef bint push(self, Conn *conn, Shared *shared) noexcept nogil:
        """Queue a block that the slow-consumer rule does not judge."""
        if not queue_push(&conn.out, shared):
            return False
        self.mark_dirty(conn)
        return True

    cdef bint push_limited(self, Conn *conn, Shared *shared) noexcept nogil:
        """Queue a message; False when the connection took it as one too many."""
        if conn.out.bytes + shared.size > self.queue_bytes_max and conn.out.count:
            if not conn.writing and self.send_queued(conn) == BROKEN:
                return False
            if conn.out.bytes + shared.size > self.queue_bytes_max and conn.out.count:
                return self.too_slow(conn)
        return self.push(conn, shared)

    cdef bint too_slow(self, Conn *conn) noexcept nogil:
        """The whole queue goes, but for what is partly sent; one notice replaces it."""
        queue_drop(&conn.out)
        if self.slow_closes:
            self.slow_closed += 1
            self.push(conn, self.slow_close)
            conn.state = WS_CLOSING
            conn.close_code = 4008
            self.set_timer(conn, self.now_ms + self.close_ms)
            self.report(conn, 4008, b"slow consumer")
            return False
        self.gaps += 1
        self.push(conn, self.gap_msgpack if conn.msgpack else self.gap_json)
        return True

    cdef Sent send_queued(self, Conn *conn) noexcept nogil:
        """Send what the socket takes; EPOLLOUT is armed while something is left.

        BROKEN: the connection is to be dropped, which epoll will say as well.
        """
        cdef Sent sent = queue_send(&conn.out, conn.fd, &self.bytes_out, &self.sends)
        if sent == DRAINED:
            if conn.writing:
                conn.writing = 0
                self.arm(conn)
            if conn.close_after and conn.state != LINGER:
                shutdown(conn.fd, SHUT_WR)
                conn.state = LINGER
                self.set_timer(conn, 0)
                self.set_timer(conn, self.now_ms + self.linger_ms)
                if not conn.reading and not conn.ended:
                    conn.reading = 1
                    self.arm(conn)
        elif sent == BLOCKED:
            if not conn.writing:
                conn.writing = 1
                self.arm(conn)
        else:
            # The peer reset it: EPOLLERR and EPOLLHUP are always armed.
            queue_clear(&conn.out)
        return sent

    cdef void flush_all(self) noexcept nogil:
        cdef uint32_t at
        cdef Conn *conn
        for at in range(self.dirty_count):
            conn = self.find(self.dirty[at])
            if conn != NULL:
                conn.dirty = 0
                if not conn.writing:
                    self.send_queued(conn)
        self.dirty_count = 0

    cdef void flush_dirty(self):
        if self.dirty_count <= FLUSH_WITH_GIL_MAX:
            self.flush_all()
            return
        self.busy = True
        with nogil:
            self.flush_all()
        self.busy = False

    # --- accepting ------------------------------------------------------------------

    def listen(self, int fd):
        """Accept from a listening non-blocking socket; the caller keeps owning it."""
        cdef epoll_event event
        cdef int one = 1
        if self.listener_count == 8:
            raise ValueError("at most 8 listeners")
        os.set_blocking(fd, False)
        # Linux hands TCP_NODELAY on to what is accepted: no system call for each.
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        event.events = EPOLLIN
        event.data.u64 = LISTENER_TAG | (<uint64_t>fd << 8)
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &event) < 0:
            raise OSError(errno, os.strerror(errno))
        self.listeners[self.listener_count] = fd
        self.listener_count += 1

    def unlisten(self):
        """Stop accepting on every listener."""
        cdef int at
        for at in range(self.listener_count):
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, self.listeners[at], NULL)
        self.listener_count = 0

    cdef void mute(self, bint quiet):
        """Out of descriptors: let the listeners rest, or a full backlog would spin."""
        cdef epoll_event event
        cdef int at
        self.muted_until_ms = self.now_ms + MUTE_MS if quiet else 0
        for at in range(self.listener_count):
            event.events = 0 if quiet else EPOLLIN
            event.data.u64 = LISTENER_TAG | (<uint64_t>self.listeners[at] << 8)
            epoll_ctl(self.epoll, EPOLL_CTL_MOD, self.listeners[at], &event)

    cdef void accept_all(self, int listener):
        cdef sockaddr_storage peer
        cdef uint8_t[16] address
        cdef unsigned int size
        cdef int fd
        cdef int count
        for count in range(ACCEPTS_MAX):
            size = sizeof(peer)
            fd = accept4(
                listener, <sockaddr *>&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC
            )
            if fd >= 0:
                copy_address(address, &peer)
                self.open(fd, address)
            elif errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
                self.accept_errors += 1
                self.mute(True)
                return
            elif errno != EINTR and errno != ECONNABORTED:
                return

    cdef void open(self, int fd, const uint8_t *address):
        cdef epoll_event event
        cdef Conn *conn
        cdef bytes key = address_key(address)
        count = self.addresses.get(key, 0)
        if count >= self.connections_per_address_max:
            self.refused_address += 1
            conn = NULL
        else:
            conn = self.acquire(fd)
            if conn == NULL:
                self.refused_total += 1
        if conn == NULL:
            send(fd, <const char *>FULL, len(FULL), MSG_NOSIGNAL)
            close_fd(fd)
            return
        memcpy(conn.address, address, 16)
        conn.reading = 1
        event.events = EPOLLIN
        event.data.u64 = conn.handle
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &event) < 0:
            self.accept_errors += 1
            close_fd(fd)
            self.release(conn)
            return
        self.addresses[key] = count + 1
        self.accepted += 1
        conn.state = HTTP_READ
        conn.input_ms = self.now_ms
        self.on_open(conn)

    cdef void drop(self, Conn *conn, int code, const char *reason):
        """Close the descriptor and free the slot; `conn` is gone afterwards."""
        cdef bytes key = address_key(conn.address)
        if conn.state == WS_OPEN or conn.state == WS_CLOSING or conn.state == HTTP_WAIT:
            self.report(conn, conn.close_code if conn.close_code else code, reason)
        self.on_drop(conn)
        self.set_timer(conn, 0)
        free_conn(conn)
        count = self.addresses.get(key, 0)
        if count <= 1:
            self.addresses.pop(key, None)
        else:
            self.addresses[key] = count - 1
        self.release(conn)

    # --- the loop -------------------------------------------------------------------

    cdef void run_backlog(self):
        cdef uint64_t *handles = self.backlog
        cdef uint32_t count = self.backlog_count
        cdef uint32_t at
        cdef Conn *conn
        self.backlog = NULL
        self.backlog_count = self.backlog_capacity = 0
        for at in range(count):
            conn = self.find(handles[at])
            if conn != NULL:
                conn.in_backlog = 0
                if not conn.paused and conn.input_size:
                    self.on_input(conn, NULL, 0)
        free(handles)

    cdef void handle_event(self, Conn *conn, uint32_t events):
        cdef uint64_t handle = conn.handle
        if events & EPOLLOUT:
            if self.send_queued(conn) == DRAINED:
                self.on_drained(conn)
                if conn.handle != handle:
                    return
            else:
                self.set_write_timer(conn)
        if events & EPOLLIN and conn.reading:
            self.read_from(conn)
        elif events & (EPOLLERR | EPOLLHUP):
            self.resets += 1
            self.drop(conn, 1006, b"connection reset")

    cdef void set_write_timer(self, Conn *conn):
        """Every byte taken gives a slow reader of an answer another write_ms."""
        if conn.state == HTTP_WRITE:
            self.set_timer(conn, self.now_ms + self.write_ms)

    cdef void run_once(self, int events_max):
        """One turn: kept input, then everything epoll reports."""
        cdef epoll_event[EVENTS_MAX] events
        cdef uint64_t drained
        cdef uint64_t tag
        cdef Conn *conn
        cdef int at
        cdef int count
        self.now_ms = monotonic_ms()
        if self.connection_count == 0:
            self.wheel_ms = self.now_ms
        if events_max > EVENTS_MAX:
            events_max = EVENTS_MAX
        if self.woken:
            self.woken = False
            read(self.wakeup, &drained, sizeof(drained))
        if self.backlog_count:
            self.run_backlog()
        count = epoll_wait(self.epoll, events, events_max, 0)
        for at in range(count):
            tag = events[at].data.u64
            if not tag & SPECIAL:
                conn = self.find(tag)
                if conn != NULL:
                    self.handle_event(conn, events[at].events)
            elif tag == TIMER_TAG:
                read(self.timer, &drained, sizeof(drained))
                self.run_timers()
            elif tag == WAKEUP_TAG:
                pass            # its counter is read at the next turn's beginning
            elif not self.muted_until_ms:
                self.accept_all(<int>((tag & ~SPECIAL) >> 8))
            if at & 7 == 7 and monotonic_ms() - self.now_ms > TURN_MS:
                break
        self.flush_dirty()
        self.arm_timer()

    cdef void close_all(self):
        cdef uint32_t at
        cdef int slot
        cdef Conn *conn
        for at in range(self.chunk_count):
            for slot in range(CHUNK_SLOTS):
                conn = &self.chunks[at][slot]
                if conn.handle:
                    conn.reported = 1
                    self.drop(conn, 1006, b"")
        self.report_count = 0

    cdef void sum_queues(self, size_t *size, size_t *blocked) noexcept nogil:
        """Bytes queued, and connections that wait for EPOLLOUT: a walk over the slots."""
        cdef uint32_t at
        cdef int slot
        cdef Conn *conn
        size[0] = blocked[0] = 0
        for at in range(self.chunk_count):
            for slot in range(CHUNK_SLOTS):
                conn = &self.chunks[at][slot]
                if conn.handle:
                    size[0] += conn.out.bytes
                    blocked[0] += conn.writing

    # --- for the protocols ----------------------------------------------------------

    cdef void on_open(self, Conn *conn):
        """A connection was accepted."""

    cdef void on_input(self, Conn *conn, uint8_t *data, size_t size):
        """Bytes came (writable, borrowed), or kept input is to be looked at (NULL)."""

    cdef void on_end(self, Conn *conn):
        """The peer sends no more."""

    cdef void on_timer(self, Conn *conn):
        """The deadline passed."""

    cdef void on_drained(self, Conn *conn):
        """The queue was blocked and is now empty."""

    cdef void on_drop(self, Conn *conn):
        """The connection goes; what a protocol holds of it goes too."""


cdef bytes address_key(const uint8_t *address):
    """Whom a limit per address counts: an IPv4 address, or an IPv6 /64."""
    if address[10] == 0xFF and address[11] == 0xFF:
        return PyBytes_FromStringAndSize(<const char *>address, 16)
    return PyBytes_FromStringAndSize(<const char *>address, 8)
