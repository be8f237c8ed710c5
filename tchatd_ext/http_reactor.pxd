# Owns the layout of requests and of the HTTP/1.1 half of the gateway.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from tchatd_ext.http1 cimport Head
from tchatd_ext.outbound cimport Sent
from tchatd_ext.reactor cimport Conn, Reactor


cdef class HeadReader:
    cdef bytes target
    cdef list headers
    cdef bint complete
    cdef void start(self)


cdef class Request:
    cdef readonly uint64_t connection
    cdef readonly str method
    cdef readonly bytes target
    cdef readonly list headers
    cdef readonly bytes body
    cdef readonly bint keep_alive
    cdef readonly bint upgrade
    cdef readonly tuple subprotocols
    cdef bytes raw_address
    cdef list values(self, bytes name)


cdef class HttpReactor(Reactor):
    cdef list events                # what the next poll() returns
    cdef HeadReader reader
    cdef object parser              # of httptools; None after it must not be reused
    cdef size_t head_bytes_max
    cdef size_t uri_bytes_max
    cdef size_t body_bytes_max
    cdef int64_t request_ms
    cdef int64_t idle_ms
    cdef bytes server
    cdef dict prefixes              # status -> first bytes of an answer, this second
    cdef int64_t prefixes_ms
    cdef size_t requests, answers, refusals, timeouts

    cdef int enter(self) except -1
    cdef size_t read_head(self, Conn *conn, uint8_t *data, size_t size)
    cdef void check_partial(self, Conn *conn, const uint8_t *data, size_t size)
    cdef bint begin_request(self, Conn *conn, const uint8_t *data, size_t end, Head *head)
    cdef bint check_upgrade(self, Conn *conn, Request request, Head *head)
    cdef void begin_body(self, Conn *conn, Head *head, bint begun)
    cdef size_t read_body(self, Conn *conn, const uint8_t *data, size_t size)
    cdef bint grow_body(self, Conn *conn, const uint8_t *data, size_t size)
    cdef void deliver_body(self, Conn *conn)
    cdef void deliver(self, Conn *conn, bytes body)
    cdef bytes prefix(self, int status)
    cdef Sent send_now(self, Conn *conn, bytes data)
    cdef void answer(self, Conn *conn, int status, bytes headers, bytes body, bint close)
    cdef void next_request(self, Conn *conn)
    cdef void refuse(self, Conn *conn, int status, const char *why)
