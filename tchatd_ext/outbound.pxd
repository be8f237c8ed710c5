# Owns the layout of shared outbound blocks and of a connection's queue of them.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t


cdef struct Shared:
    int refs                # atomic: a Frame may die in another thread than it is sent
    uint32_t size
    uint8_t keep            # never dropped for a slow consumer (answers, closes)
    uint8_t data[1]         # `size` bytes, on the wire as they are


cdef struct Queue:
    Shared **items          # a ring; NULL when empty, so that an idle queue costs 24 B
    uint32_t capacity       # a power of two
    uint32_t head
    uint32_t count
    uint32_t offset         # bytes of the first item that are already sent
    uint32_t bytes          # still to send


cdef enum Sent:
    DRAINED
    BLOCKED
    BROKEN


cdef class Frame:
    cdef Shared *plain
    cdef Shared *deflated[16]       # by window bits; owned
    cdef unsigned int attempted     # bit n: compression with window n was tried
    cdef uint32_t payload_at
    cdef readonly uint32_t size
    cdef Shared *for_window(self, int window_bits, uint32_t bytes_min)


cdef Shared *shared_new(size_t size) noexcept nogil
cdef void shared_retain(Shared *shared) noexcept nogil
cdef void shared_release(Shared *shared) noexcept nogil
cdef bint queue_push(Queue *queue, Shared *shared) noexcept nogil
cdef void queue_drop(Queue *queue) noexcept nogil
cdef void queue_clear(Queue *queue) noexcept nogil
cdef Sent queue_send(Queue *queue, int fd, size_t *sent, size_t *calls) noexcept nogil
