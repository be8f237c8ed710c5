# Owns the layout of a frame decoder, so that the gateway embeds one in each slot.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t


cdef enum Kind:
    NEED = 0        # all input is used; nothing is complete
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10
    FAILED = 255    # the peer broke a rule: code and why say which


cdef struct Decoder:
    uint8_t *message        # a message not yet whole; NULL between messages
    uint8_t *control        # 125 bytes of a control frame cut by the network; or NULL
    uint32_t message_size
    uint32_t message_capacity
    uint32_t remaining      # payload bytes of the current frame still to come
    uint32_t key            # the masking key, rotated to the next payload byte
    uint8_t utf8            # DFA state, 0 at a code point's boundary
    uint8_t opcode          # of the current frame
    uint8_t fin
    uint8_t message_opcode  # 0, TEXT or BINARY: a fragmented message is open
    uint8_t compressed      # the open message has RSV1
    uint8_t in_payload
    uint8_t spent           # message was handed out and is freed at the next call
    uint8_t deflate         # permessage-deflate was negotiated
    uint8_t control_size
    uint8_t header_size
    uint8_t header[14]


cdef struct Event:
    uint8_t *data           # borrowed until the next decode() with the same decoder
    size_t size
    int code                # CLOSE: 1005 when absent; FAILED: what to close with
    const char *why


cdef class Inflater:
    cdef void *stream


cdef Kind decode(
    Decoder *d, void *inflater, size_t message_bytes_max,
    uint8_t *data, size_t size, size_t *used, Event *event,
) noexcept nogil
cdef void decoder_clear(Decoder *d) noexcept nogil
cdef size_t encode_header(
    uint8_t *out, uint8_t first, size_t size
) noexcept nogil
cdef bint close_code_valid(int code) noexcept nogil
cdef bint utf8_valid(const uint8_t *data, size_t size) noexcept nogil
# Compresses into a malloc'ed block that the caller frees; 0 when there is no gain.
cdef size_t deflate_message(
    const uint8_t *data, size_t size, int window_bits, uint8_t **out
) noexcept nogil
