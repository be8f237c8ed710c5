/* Owns the parts of a run that all workloads share; see loadgen.h. */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "loadgen.h"

enum { CONNECT_WAIT_S = 60 };

struct lines read_lines(const char *path, unsigned least)
{
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file)
        fail("cannot read %s", path ? path : "(no file was named)");
    struct lines lines = {0};
    unsigned capacity = 0;
    char *line = NULL;
    size_t size = 0;
    ssize_t n;
    while ((n = getline(&line, &size, file)) > 0) {
        if (line[n - 1] == '\n')
            line[--n] = 0;
        if (n == 0)
            continue;
        if (lines.count == capacity) {
            capacity = capacity ? 2 * capacity : 256;
            if (!(lines.items = realloc(lines.items, capacity * sizeof *lines.items)))
                fail("out of memory");
        }
        lines.items[lines.count++] = strdup(line);
    }
    free(line);
    fclose(file);
    if (lines.count < least)
        fail("%s has %u lines, %u are needed", path, lines.count, least);
    return lines;
}

struct cpu cpu_used(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (struct cpu){
        (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6,
        (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6,
    };
}

void say(const char *event)
{
    printf("{\"event\":\"%s\"}\n", event);
    fflush(stdout);
}

void say_begin(const char *event, double seconds, struct cpu since)
{
    struct cpu now = cpu_used();
    double user = now.user - since.user, system = now.system - since.system;
    printf("{\"event\":\"%s\",\"seconds\":%.6f,\"cpu_s\":%.6f,\"cpu_user_s\":%.6f", event,
           seconds, user + system, user);
}

void say_end(void)
{
    puts("}");
    fflush(stdout);
}

void common_init(struct net *net, const struct options *options, enum mode mode,
                 unsigned connections, const struct workload *workload)
{
    memset(net, 0, sizeof *net);
    net->mode = mode;
    net->peer = options->peer;
    net->host = options->host;
    net->subprotocol = options->subprotocol;
    net->sources = options->sources;
    net->random = options->seed * 0x9E3779B97F4A7C15ULL | 1;
    net_init(net, connections, workload);
    for (unsigned i = 0; i < connections; i++)
        net->connections[i].path = options->path;
}

int64_t until(uint64_t deadline_ns)
{
    uint64_t now = now_ns();
    return deadline_ns > now ? (int64_t)(deadline_ns - now) : 0;
}

void lost_is_fatal(struct net *net, struct connection *connection, const char *why, int status)
{
    (void)net;
    fail("connection %u was lost: %s %d", connection->index, why, status);
}

void connect_all(struct net *net, unsigned from, unsigned to, unsigned concurrency)
{
    unsigned started = from, first = net->open;
    uint64_t deadline = now_ns() + CONNECT_WAIT_S * 1000000000ULL;
    while (net->open - first < to - from) {
        while (started < to &&
               (!concurrency || (started - from) - (net->open - first) < concurrency))
            net_connect(net, &net->connections[started++]);
        net_poll(net, 100000000);
        if (now_ns() > deadline)
            fail("%u of %u connections opened in %d s", net->open - first, to - from,
                 CONNECT_WAIT_S);
    }
}

int64_t number_after(const uint8_t *payload, size_t size, const char *key)
{
    size_t length = strlen(key);
    const uint8_t *end = payload + size;
    const uint8_t *at = payload;
    while ((at = memmem(at, (size_t)(end - at), key, length))) {
        at += length;
        if (at < end && isdigit(*at)) {
            int64_t value = 0;
            while (at < end && isdigit(*at))
                value = value * 10 + (*at++ - '0');
            return value;
        }
    }
    return -1;
}

uint64_t hex_number(const uint8_t *at, int digits)
{
    uint64_t value = 0;
    for (int i = 0; i < digits; i++)
        value = value << 4 | (unsigned)(at[i] <= '9' ? at[i] - '0' : at[i] - 'a' + 10);
    return value;
}
