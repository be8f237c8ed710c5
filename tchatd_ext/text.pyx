"""Owns the texts of ids and times that every message has; refuses to parse.

A message's id and its sender's take 4 us of a message's 30 when Python's integers and
formats make them, its time 2 us when it is not in the second of the last one; a
twentieth of that here.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t

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

cdef inline void put(uint8_t *at, int64_t value, int digits) noexcept nogil:
    cdef int index
    for index in range(digits - 1, -1, -1):
        at[index] = 48 + value % 10
        value //= 10

def rfc3339(int64_t at_ms):
    """`2026-01-31T08:00:00.123Z` of milliseconds since 1970.

    at_ms: of the years 0 to 9999. Raises: ValueError.
    Days to a date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    """
    if at_ms < -62_167_219_200_000 or at_ms >= 253_402_300_800_000:
        raise ValueError(f"{at_ms} is not in the years 0 to 9999")
    cdef int64_t shifted = at_ms + 62_167_219_200_000  # since the 1st of January of 0
    cdef int64_t of_day = shifted % 86_400_000
    cdef int64_t days = shifted // 86_400_000 - 60 + 146_097  # since March of -400
    cdef int64_t era = days // 146_097
    cdef int64_t of_era = days % 146_097
    cdef int64_t year_of_era = (
        of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096
    ) // 365
    cdef int64_t of_year = (
        of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    )
    cdef int64_t month = (5 * of_year + 2) // 153  # from March
    cdef int64_t day = of_year - (153 * month + 2) // 5 + 1
    cdef int64_t year = year_of_era + era * 400 - 400
    if month >= 10:
        month -= 9
        year += 1
    else:
        month += 3
    cdef object text = PyUnicode_New(24, 127)
    cdef uint8_t *at = <uint8_t *>PyUnicode_DATA(text)
    put(at, year, 4)
    at[4] = at[7] = 45  # -
    put(at + 5, month, 2)
    put(at + 8, day, 2)
    at[10] = 84  # T
    put(at + 11, of_day // 3_600_000, 2)
    at[13] = at[16] = 58  # :
    put(at + 14, of_day // 60_000 % 60, 2)
    put(at + 17, of_day // 1_000 % 60, 2)
    at[19] = 46  # .
    put(at + 20, of_day % 1_000, 3)
    at[23] = 90  # Z
    return text
