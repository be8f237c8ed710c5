"""Owns CRC-32C (Castagnoli) of bytes; refuses any other polynomial.

The same as `tchatd_ext.crc32c_py`, its twin in Python. Two ways, chosen once when
the module is loaded: the SSE4.2 instruction, or eight table look-ups a word.

The instruction has a latency of three cycles and a throughput of one, so a single
chain leaves two thirds of it idle. Inputs of at least 3 * LANE are cut into three
lanes that run side by side; a lane's CRC is carried over the bytes of the lane that
follows it by a table look-up ("append LANE zero bytes" is linear over GF(2)).
Source: Mark Adler's crc32c.c; the polynomial is that of RFC 3720, B.4.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <stddef.h>
    #include <string.h>
    #define CRC32C_LANE 1024

    static uint32_t crc32c_words[8][256];   /* slicing by eight */
    static uint32_t crc32c_skips[4][256];   /* append CRC32C_LANE zero bytes */
    static int crc32c_hardware = 0;

    static uint32_t crc32c_byte(uint32_t crc, uint8_t byte) {
        return crc32c_words[0][(crc ^ byte) & 0xff] ^ (crc >> 8);
    }

    static uint32_t crc32c_table(uint32_t crc, const uint8_t *data, size_t size) {
        while (size >= 8) {
            uint32_t low, high;
            memcpy(&low, data, 4);
            memcpy(&high, data + 4, 4);
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
            low = __builtin_bswap32(low);
            high = __builtin_bswap32(high);
    #endif
            low ^= crc;
            crc = crc32c_words[7][low & 0xff] ^ crc32c_words[6][(low >> 8) & 0xff]
                ^ crc32c_words[5][(low >> 16) & 0xff] ^ crc32c_words[4][low >> 24]
                ^ crc32c_words[3][high & 0xff] ^ crc32c_words[2][(high >> 8) & 0xff]
                ^ crc32c_words[1][(high >> 16) & 0xff] ^ crc32c_words[0][high >> 24];
            data += 8;
            size -= 8;
        }
        while (size--) crc = crc32c_byte(crc, *data++);
        return crc;
    }

    #if defined(__x86_64__)
    #include <nmmintrin.h>
    static uint32_t crc32c_skip(uint32_t crc) {
        return crc32c_skips[0][crc & 0xff] ^ crc32c_skips[1][(crc >> 8) & 0xff]
             ^ crc32c_skips[2][(crc >> 16) & 0xff] ^ crc32c_skips[3][crc >> 24];
    }
    __attribute__((target("sse4.2")))
    static uint32_t crc32c_sse42(uint32_t start, const uint8_t *data, size_t size) {
        uint64_t crc = start, word, middle, last;
        while (size >= 3 * CRC32C_LANE) {
            const uint8_t *end = data + CRC32C_LANE;
            middle = last = 0;
            while (data < end) {
                memcpy(&word, data, 8);
                crc = _mm_crc32_u64(crc, word);
                memcpy(&word, data + CRC32C_LANE, 8);
                middle = _mm_crc32_u64(middle, word);
                memcpy(&word, data + 2 * CRC32C_LANE, 8);
                last = _mm_crc32_u64(last, word);
                data += 8;
            }
            crc = crc32c_skip((uint32_t)crc) ^ middle;
            crc = crc32c_skip((uint32_t)crc) ^ last;
            data += 2 * CRC32C_LANE;
            size -= 3 * CRC32C_LANE;
        }
        while (size >= 8) {
            memcpy(&word, data, 8);
            crc = _mm_crc32_u64(crc, word);
            data += 8;
            size -= 8;
        }
        while (size--) crc = _mm_crc32_u8((uint32_t)crc, *data++);
        return (uint32_t)crc;
    }
    static int crc32c_detect(void) { return __builtin_cpu_supports("sse4.2") != 0; }
    #else
    static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *data, size_t size) {
        return crc32c_table(crc, data, size);
    }
    static int crc32c_detect(void) { return 0; }
    #endif

    static void crc32c_prepare(void) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t crc = byte;
            for (int bit = 0; bit < 8; bit++)
                crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
            crc32c_words[0][byte] = crc;
        }
        for (uint32_t byte = 0; byte < 256; byte++)
            for (int slice = 1; slice < 8; slice++)
                crc32c_words[slice][byte] = crc32c_byte(crc32c_words[slice - 1][byte], 0);
        for (int slice = 0; slice < 4; slice++)
            for (uint32_t byte = 0; byte < 256; byte++) {
                uint32_t crc = byte << (8 * slice);
                for (int zero = 0; zero < CRC32C_LANE; zero++)
                    crc = crc32c_byte(crc, 0);
                crc32c_skips[slice][byte] = crc;
            }
        crc32c_hardware = crc32c_detect();
    }
    """
    int crc32c_hardware
    void crc32c_prepare() noexcept nogil
    uint32_t crc32c_table(uint32_t crc, const uint8_t *data, size_t size) noexcept nogil
    uint32_t crc32c_sse42(uint32_t crc, const uint8_t *data, size_t size) noexcept nogil

# Below it, giving the GIL away and taking it back costs more than the sum itself.
cdef Py_ssize_t release_bytes_min = 64 * 1024

crc32c_prepare()
hardware = bool(crc32c_hardware)


cdef uint32_t checksum(
    uint32_t value, const uint8_t *data, size_t size, bint table
) noexcept nogil:
    if table:
        return ~crc32c_table(~value, data, size)
    return ~crc32c_sse42(~value, data, size)


cdef uint32_t checksum_of(object data, uint32_t value, bint table) except? 0:
    cdef Py_buffer view
    cdef uint32_t result
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if view.len >= release_bytes_min:
            with nogil:
                result = checksum(value, <const uint8_t *>view.buf, view.len, table)
        else:
            result = checksum(value, <const uint8_t *>view.buf, view.len, table)
    finally:
        PyBuffer_Release(&view)
    return result


def crc32c(data, uint32_t value=0):
    """data: contiguous bytes, borrowed until return. value: the sum so far."""
    return checksum_of(data, value, not crc32c_hardware)


def crc32c_by_table(data, uint32_t value=0):
    """As `crc32c`, without the instruction; public so that every machine tests it."""
    return checksum_of(data, value, True)
