# Owns the layout of a checked HTTP/1.1 head and of the chunked decoder's state.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t


cdef struct Head:
    int status              # 0: accepted; else the status to refuse with
    const char *why
    uint32_t method_size
    uint32_t target_at
    uint32_t target_size
    uint32_t fields
    int64_t content_length  # -1: absent
    uint8_t minor           # HTTP/1.<minor>
    uint8_t chunked
    uint8_t close           # Connection: close
    uint8_t keep_alive      # Connection: keep-alive
    uint8_t upgrade         # Connection: upgrade and Upgrade: websocket
    uint8_t expect          # Expect: 100-continue


cdef struct Chunks:
    uint8_t state
    uint8_t digits
    uint8_t in_name         # of a trailer field
    uint32_t left           # bytes of the current chunk
    uint32_t extra          # bytes of extensions and trailers so far
    int status              # what to refuse with after BAD


cdef enum Chunk:
    CHUNK_NEED
    CHUNK_DATA
    CHUNK_END
    CHUNK_BAD


cdef int head_end(const uint8_t *data, size_t size, size_t start, size_t *end) noexcept nogil
cdef void check_head(
    const uint8_t *data, size_t size, size_t uri_bytes_max, Head *head
) noexcept nogil
cdef Chunk chunks_next(
    Chunks *chunks, const uint8_t *data, size_t size, size_t *used,
    size_t *span_at, size_t *span_size,
) noexcept nogil
