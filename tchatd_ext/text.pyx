"""Owns the texts of ids that every message has; refuses to parse.

A message's id and its sender's take 4 us of a message's 30 when Python's integers and
formats make them, and a twentieth of that here.
"""

from libc.stdint cimport uint8_t, uint64_t

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void *PyUnicode_DATA(object text)

cdef const char *DIGITS = b"0123456789abcdef"

cdef object text_of(uint64_t high, uint64_t low):
    """The 36 characters of a UUID (RFC 9562, 4) from its two halves."""
    cdef object text = PyUnicode_New(36, 127)
    cdef uint8_t *at = <uint8_t *>PyUnicode_DATA(text)
    cdef int index
    for index in range(16):
        if index == 8 or index == 12:
            at[0] = b"-"
            at += 1
        at[0] = DIGITS[(high >> (60 - 4 * index)) & 15]
        at += 1
    at[0] = b"-"
    at += 1
    for index in range(16):
        if index == 4:
            at[0] = b"-"
            at += 1
        at[0] = DIGITS[(low >> (60 - 4 * index)) & 15]
        at += 1
    return text

def uuid_text(bytes id not None):
    """id: 16 bytes. Raises: ValueError."""
    cdef const uint8_t *data = id
    cdef uint64_t high = 0
    cdef uint64_t low = 0
    cdef int index
    if len(id) != 16:
        raise ValueError(f"16 bytes, not {len(id)}")
    for index in range(8):
        high = high << 8 | data[index]
        low = low << 8 | data[index + 8]
    return text_of(high, low)

def packed_v7_text(uint64_t at_ms, uint64_t high, uint64_t low):
    """A version 7 UUID (RFC 9562, 5.7) whose 74 free bits are high, then low.

    at_ms: 48 bits. high: 43 bits. low: 31 bits. Raises: ValueError.
    """
    if at_ms >> 48 or high >> 43 or low >> 31:
        raise ValueError("a part does not fit its bits")
    # rand_a: the upper 12 bits of high; rand_b: its lower 31, then low.
    return text_of(
        at_ms << 16 | <uint64_t>0x7000 | high >> 31,
        <uint64_t>0b10 << 62 | (high & 0x7FFFFFFF) << 31 | low,
    )
