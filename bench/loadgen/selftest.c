/* Owns the checks of the codec, the histogram and the ids; silent when all hold. */
#define _GNU_SOURCE
#include "loadgen.h"
#include "uuid7.h"

#define CHECK(condition) \
    do { \
        if (!(condition)) \
            fail("selftest, line %d: %s", __LINE__, #condition); \
    } while (0)

static void check_histogram(void)
{
    static struct histogram h;
    for (uint64_t value = 0; value < 1ULL << 40; value = value < 4096 ? value + 1 : value * 9 / 8) {
        uint64_t back = histogram_value(histogram_index(value));
        uint64_t error = back > value ? back - value : value - back;
        CHECK(error * 128 <= value);
    }
    CHECK(histogram_index(UINT64_MAX) < BUCKET_COUNT);
    CHECK(histogram_quantile(&h, 0.99) == 0);
    for (uint64_t i = 1; i <= 1000; i++)
        histogram_add(&h, i * 1000);
    CHECK(h.count == 1000 && h.max == 1000000);
    const double quantiles[] = {0.001, 0.5, 0.9, 0.99, 0.999, 1.0};
    for (unsigned i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        double want = quantiles[i] * 1e6, got = (double)histogram_quantile(&h, quantiles[i]);
        CHECK(got > want * 0.99 - 1 && got < want * 1.01 + 1);
    }
}

static void check_frames(struct net *net)
{
    static uint8_t payload[70000], wire[70000 + FRAME_HEAD_MAX];
    const size_t sizes[] = {0, 1, 7, 125, 126, 127, 256, 65535, 65536, 70000};
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)next_random(net);
    for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t size = sizes[s], head = size < 126 ? 2 : size <= 0xFFFF ? 4 : 10;
        uint32_t key = (uint32_t)next_random(net);
        size_t whole = frame_build(wire, OP_TEXT, payload, size, key);
        struct frame frame;
        CHECK(whole == head + 4 + size && wire[0] == 0x81 && (wire[1] & 0x80));
        CHECK(frame_parse(wire, whole, 1 << 20, &frame) == -1); /* servers do not mask */
        CHECK(!memcmp(wire + head, &key, 4));
        for (size_t i = 0; i < size; i++)
            CHECK((wire[head + 4 + i] ^ wire[head + (i & 3)]) == payload[i]);
        wire[1] &= 0x7F; /* the server's frame of the same size */
        memmove(wire + head, wire + head + 4, size);
        for (size_t cut = 0; cut < head + size; cut += 1 + cut / 3)
            CHECK(frame_parse(wire, cut, 1 << 20, &frame) == 0);
        CHECK(frame_parse(wire, head + size, 1 << 20, &frame) == (int64_t)(head + size));
        CHECK(frame.opcode == OP_TEXT && frame.size == size && frame.payload == wire + head);
        CHECK(size == 0 || frame_parse(wire, head + size, size - 1, &frame) == -1);
        wire[0] = 0x01; /* fragmented */
        CHECK(frame_parse(wire, head + size, 1 << 20, &frame) == -1);
        wire[0] = 0xC1; /* compressed */
        CHECK(frame_parse(wire, head + size, 1 << 20, &frame) == -1);
    }
}

static void check_ids(struct net *net)
{
    char first[37], second[37];
    uuid7(net, first);
    uuid7(net, second);
    CHECK(strlen(first) == 36 && first[14] == '7' && strchr("89ab", first[19]));
    CHECK(first[8] == '-' && first[13] == '-' && first[18] == '-' && first[23] == '-');
    CHECK(strcmp(first, second));
    const uint8_t text[] = "{\"id\":\"x\",\"id\":17,\"seq\":4}";
    CHECK(number_after(text, sizeof text - 1, "\"id\":") == 17);
    CHECK(number_after(text, sizeof text - 1, "\"seq\":") == 4);
    CHECK(number_after(text, sizeof text - 1, "\"none\":") == -1);
    CHECK(hex_number((const uint8_t *)"00000000deadbeef", 16) == 0xdeadbeef);
}

int run_selftest(void)
{
    static struct net net = {.random = 7};
    check_histogram();
    check_frames(&net);
    check_ids(&net);
    return 0;
}
