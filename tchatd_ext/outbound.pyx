"""Owns encoded messages shared by many connections, and the queue of each.

A `Shared` block is on the wire as it lies in memory and carries its own reference
count, so that a queue of 5,000 receivers is 5,000 pointers and needs no GIL. A queue
is a ring of such pointers; it leaves in one sendmsg. Refuses to know connections.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from tchatd_ext.frame cimport deflate_message, encode_header


cdef extern from *:
    """
    #define shared_add(p) __atomic_add_fetch((p), 1, __ATOMIC_RELAXED)
    #define shared_sub(p) __atomic_sub_fetch((p), 1, __ATOMIC_ACQ_REL)
    """
    int shared_add(int *) nogil
    int shared_sub(int *) nogil


cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len


cdef extern from "sys/socket.h" nogil:
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t send(int, const void *, size_t, int)
    ssize_t sendmsg(int, const msghdr *, int)
    int MSG_NOSIGNAL


cdef enum:
    VECTOR_MAX = 128        # blocks in one sendmsg
    CAPACITY_MIN = 4


cdef Shared *shared_new(size_t size) noexcept nogil:
    """A block with one reference; NULL without memory."""
    cdef Shared *shared = <Shared *>malloc(sizeof(Shared) + size)
    if shared != NULL:
        shared.refs = 1
        shared.size = <uint32_t>size
        shared.keep = 0
    return shared


cdef void shared_retain(Shared *shared) noexcept nogil:
    shared_add(&shared.refs)


cdef void shared_release(Shared *shared) noexcept nogil:
    if shared_sub(&shared.refs) == 0:
        free(shared)


cdef bint queue_push(Queue *queue, Shared *shared) noexcept nogil:
    """Retain and append; False without memory (nothing changed)."""
    cdef uint32_t capacity
    cdef uint32_t at
    cdef Shared **items
    if queue.count == queue.capacity:
        capacity = queue.capacity * 2 if queue.capacity else CAPACITY_MIN
        items = <Shared **>malloc(capacity * sizeof(Shared *))
        if items == NULL:
            return False
        for at in range(queue.count):
            items[at] = queue.items[(queue.head + at) & (queue.capacity - 1)]
        free(queue.items)
        queue.items = items
        queue.capacity = capacity
        queue.head = 0
    shared_retain(shared)
    queue.items[(queue.head + queue.count) & (queue.capacity - 1)] = shared
    queue.count += 1
    queue.bytes += shared.size
    return True


cdef void queue_drop(Queue *queue) noexcept nogil:
    """Drop everything but what is partly sent and what must be kept."""
    cdef uint32_t count = queue.count
    cdef uint32_t kept = 0
    cdef uint32_t at
    cdef Shared *shared
    for at in range(count):
        shared = queue.items[(queue.head + at) & (queue.capacity - 1)]
        if shared.keep or (at == 0 and queue.offset):
            queue.items[(queue.head + kept) & (queue.capacity - 1)] = shared
            kept += 1
        else:
            queue.bytes -= shared.size
            shared_release(shared)
    queue.count = kept


cdef void queue_clear(Queue *queue) noexcept nogil:
    cdef uint32_t at
    for at in range(queue.count):
        shared_release(queue.items[(queue.head + at) & (queue.capacity - 1)])
    free(queue.items)
    memset(queue, 0, sizeof(Queue))


cdef void queue_take(Queue *queue, size_t sent) noexcept nogil:
    """Release what `sent` bytes cover."""
    cdef size_t rest
    cdef Shared *shared
    queue.bytes -= <uint32_t>sent
    while sent:
        shared = queue.items[queue.head]
        rest = shared.size - queue.offset
        if sent < rest:
            queue.offset += <uint32_t>sent
            return
        sent -= rest
        queue.offset = 0
        queue.head = (queue.head + 1) & (queue.capacity - 1)
        queue.count -= 1
        shared_release(shared)
    if queue.count == 0:
        free(queue.items)
        memset(queue, 0, sizeof(Queue))


cdef Sent queue_send(Queue *queue, int fd, size_t *sent, size_t *calls) noexcept nogil:
    """Send until it is empty or the socket is full; adds to sent and calls."""
    cdef iovec[VECTOR_MAX] vector
    cdef msghdr message
    cdef size_t at
    cdef size_t count
    cdef size_t total
    cdef ssize_t done
    cdef Shared *shared
    while queue.count:
        shared = queue.items[queue.head]
        total = shared.size - queue.offset
        if queue.count == 1:
            done = send(fd, shared.data + queue.offset, total, MSG_NOSIGNAL)
        else:
            vector[0].iov_base = shared.data + queue.offset
            vector[0].iov_len = total
            count = queue.count if queue.count < VECTOR_MAX else VECTOR_MAX
            for at in range(1, count):
                shared = queue.items[(queue.head + at) & (queue.capacity - 1)]
                vector[at].iov_base = shared.data
                vector[at].iov_len = shared.size
                total += shared.size
            memset(&message, 0, sizeof(message))
            message.msg_iov = vector
            message.msg_iovlen = count
            done = sendmsg(fd, &message, MSG_NOSIGNAL)
        calls[0] += 1
        if done < 0:
            if errno == EINTR:
                continue
            return BLOCKED if errno == EAGAIN else BROKEN
        sent[0] += done
        queue_take(queue, done)
        if <size_t>done < total:
            return BLOCKED
    return DRAINED


cdef class Frame:
    """One WebSocket data message, encoded once, shared by all receivers."""

    def __cinit__(self, bytes payload not None, *, bint binary=False):
        cdef size_t size = PyBytes_GET_SIZE(payload)
        cdef uint8_t[10] header
        cdef size_t head = encode_header(header, 0x82 if binary else 0x81, size)
        if size >= 1 << 31:
            raise ValueError("a frame's payload must be under 2 GiB")
        self.plain = shared_new(head + size)
        if self.plain == NULL:
            raise MemoryError
        memcpy(self.plain.data, header, head)
        memcpy(self.plain.data + head, PyBytes_AS_STRING(payload), size)
        self.payload_at = <uint32_t>head
        self.size = <uint32_t>size

    def __dealloc__(self):
        cdef int at
        if self.plain != NULL:
            shared_release(self.plain)
        for at in range(16):
            if self.deflated[at] != NULL:
                shared_release(self.deflated[at])

    cdef Shared *for_window(self, int window_bits, uint32_t bytes_min):
        """The block for a receiver; window_bits 0: no compression negotiated.

        Borrowed. Needs the GIL, which guards the shared deflaters and this cache.
        """
        cdef uint8_t *out
        cdef size_t size
        cdef size_t head
        cdef uint8_t[10] header
        cdef Shared *shared
        if window_bits == 0 or self.size < bytes_min:
            return self.plain
        if not self.attempted & (1 << window_bits):
            self.attempted |= 1 << window_bits
            size = deflate_message(
                self.plain.data + self.payload_at, self.size, window_bits, &out
            )
            if size:
                head = encode_header(header, self.plain.data[0] | 0x40, size)
                shared = shared_new(head + size)
                if shared != NULL:
                    memcpy(shared.data, header, head)
                    memcpy(shared.data + head, out, size)
                    self.deflated[window_bits] = shared
                free(out)
        if self.deflated[window_bits] != NULL:
            return self.deflated[window_bits]
        return self.plain
