/* Owns latency histograms: log-linear buckets, no allocation, under 0.8 % error.
 *
 * A value (nanoseconds) below 256 has its own bucket. Above, each power of two is
 * cut into 128 equal buckets: the exponent and the 7 bits after the leading one are
 * the index. So recording is a shift and an add, whatever the value, as in
 * HdrHistogram; a quantile is reported as the middle of its bucket. */
#ifndef LOADGEN_HISTOGRAM_H
#define LOADGEN_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { SUB_BITS = 7, SUB_COUNT = 1 << SUB_BITS, BUCKET_COUNT = (64 - SUB_BITS + 1) * SUB_COUNT };

struct histogram {
    uint64_t count, max;
    double sum;
    uint64_t buckets[BUCKET_COUNT];
};

static inline unsigned histogram_index(uint64_t value)
{
    if (value < 2 * SUB_COUNT)
        return (unsigned)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - SUB_BITS;
    return (shift << SUB_BITS) + (unsigned)(value >> shift);
}

/* The middle of bucket `index`: the inverse of histogram_index up to its error. */
static inline uint64_t histogram_value(unsigned index)
{
    if (index < 2 * SUB_COUNT)
        return index;
    unsigned shift = (index >> SUB_BITS) - 1;
    uint64_t low = (uint64_t)(index - (shift << SUB_BITS)) << shift;
    return low + ((1ULL << shift) >> 1);
}

static inline void histogram_reset(struct histogram *h) { memset(h, 0, sizeof *h); }

static inline void histogram_add(struct histogram *h, uint64_t value)
{
    h->count++;
    h->sum += (double)value;
    if (value > h->max)
        h->max = value;
    h->buckets[histogram_index(value)]++;
}

/* quantile: 0 < quantile <= 1, by nearest rank; 0 for an empty histogram. */
static inline uint64_t histogram_quantile(const struct histogram *h, double quantile)
{
    uint64_t rank = (uint64_t)(quantile * (double)h->count + 0.9999999), seen = 0;
    if (rank == 0)
        rank = 1;
    for (unsigned i = 0; i < BUCKET_COUNT; i++) {
        seen += h->buckets[i];
        if (seen >= rank && seen > 0) {
            uint64_t value = histogram_value(i);
            return value < h->max ? value : h->max;
        }
    }
    return h->max;
}

/* Writes {"count":…,"mean":…,"p50":…,…} in microseconds. */
static inline void histogram_print(FILE *out, const char *name, const struct histogram *h)
{
    static const struct { const char *name; double quantile; } rows[] = {
        {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99_9", 0.999}};
    fprintf(out, "\"%s\":{\"count\":%llu,\"mean\":%.1f", name, (unsigned long long)h->count,
            h->count ? h->sum / (double)h->count / 1e3 : 0.0);
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        fprintf(out, ",\"%s\":%.1f", rows[i].name,
                (double)histogram_quantile(h, rows[i].quantile) / 1e3);
    fprintf(out, ",\"max\":%.1f}", (double)h->max / 1e3);
}

#endif
