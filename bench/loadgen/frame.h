/* Owns the client's half of RFC 6455 framing: masked out, unmasked and whole in.
 *
 * Refuses fragmented messages and extensions: no server measured here sends them. */
#ifndef LOADGEN_FRAME_H
#define LOADGEN_FRAME_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };
enum { FRAME_HEAD_MAX = 14 };

struct frame {
    int opcode;
    size_t size;              /* payload */
    const uint8_t *payload;   /* inside the buffer that was parsed */
};

/* Parses one frame at `data`. Returns its whole size, 0 when more bytes are needed,
 * -1 when it is masked, fragmented, compressed or larger than `limit`. */
static inline int64_t frame_parse(const uint8_t *data, size_t size, size_t limit, struct frame *frame)
{
    if (size < 2)
        return 0;
    if ((data[0] & 0xF0) != 0x80 || (data[1] & 0x80))
        return -1;
    size_t head = 2, length = data[1];
    if (length == 126) {
        if (size < (head = 4))
            return 0;
        length = (size_t)data[2] << 8 | data[3];
    } else if (length == 127) {
        if (size < (head = 10))
            return 0;
        length = 0;
        for (int i = 2; i < 10; i++)
            length = length << 8 | data[i];
    }
    if (length > limit)
        return -1;
    if (size < head + length)
        return 0;
    frame->opcode = data[0] & 0x0F;
    frame->size = length;
    frame->payload = data + head;
    return (int64_t)(head + length);
}

/* Copies `size` bytes and masks them with `key`, eight at a time. */
static inline void frame_mask(uint8_t *to, const uint8_t *from, size_t size, uint32_t key)
{
    uint64_t wide = (uint64_t)key << 32 | key, word;
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        memcpy(&word, from + i, 8);
        word ^= wide;
        memcpy(to + i, &word, 8);
    }
    for (; i < size; i++)
        to[i] = from[i] ^ (uint8_t)(key >> (8 * (i & 3)));
}

/* Writes a masked frame to `to`, which has room for FRAME_HEAD_MAX + size bytes.
 * Returns the whole size. */
static inline size_t frame_build(uint8_t *to, int opcode, const uint8_t *payload, size_t size, uint32_t key)
{
    size_t head = 2;
    to[0] = (uint8_t)(0x80 | opcode);
    if (size < 126) {
        to[1] = (uint8_t)(0x80 | size);
    } else if (size <= 0xFFFF) {
        to[1] = 0x80 | 126;
        to[2] = (uint8_t)(size >> 8);
        to[3] = (uint8_t)size;
        head = 4;
    } else {
        to[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++)
            to[2 + i] = (uint8_t)((uint64_t)size >> (56 - 8 * i));
        head = 10;
    }
    memcpy(to + head, &key, 4);
    frame_mask(to + head + 4, payload, size, key);
    return head + 4 + size;
}

#endif
