/* Owns client ids: version 7 UUIDs (RFC 9562) from the wall clock and the seed. */
#ifndef LOADGEN_UUID7_H
#define LOADGEN_UUID7_H

#include <time.h>

#include "net.h"

static inline void uuid7(struct net *net, char to[37])
{
    static const char hex[] = "0123456789abcdef";
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    uint64_t high = ms << 16 | 0x7000 | (next_random(net) >> 52);
    uint64_t low = 1ULL << 63 | next_random(net) >> 2;
    for (int i = 0, at = 0; i < 32; i++) {
        uint64_t word = i < 16 ? high : low;
        if (i == 8 || i == 12 || i == 16 || i == 20)
            to[at++] = '-';
        to[at++] = hex[word >> (60 - 4 * (i & 15)) & 15];
    }
    to[36] = 0;
}

#endif
