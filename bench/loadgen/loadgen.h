/* Owns what the workloads share: options, input lines, events on stdout. */
#ifndef LOADGEN_H
#define LOADGEN_H

#include <stdio.h>

#include "histogram.h"
#include "net.h"

struct options {
    struct sockaddr_in peer;
    char host[64];
    const char *path, *sender_path, *tokens, *targets, *pairs, *dialog, *subprotocol, *confirm;
    unsigned connections, concurrency, outstanding, size, sources;
    double rate, warmup_s, seconds, drain_s;
    uint64_t seed;
    bool raw, hold;
};

struct lines { /* the lines of one input file, in order */
    char **items;
    unsigned count;
};

struct cpu { double user, system; };

struct lines read_lines(const char *path, unsigned least);
struct cpu cpu_used(void);

/* One JSON line each, flushed: the runner samples the servers when it reads them. */
void say(const char *event);
/* Opens {"event":…,"seconds":…,"cpu_s":…}; the caller adds fields and calls say_end. */
void say_begin(const char *event, double seconds, struct cpu since);
void say_end(void);

void common_init(struct net *net, const struct options *options, enum mode mode,
                 unsigned connections, const struct workload *workload);
/* Connects connections[from, to), at most `concurrency` at once (0: all), and waits
 * until they are open. Any refusal is fatal. */
void connect_all(struct net *net, unsigned from, unsigned to, unsigned concurrency);
void lost_is_fatal(struct net *net, struct connection *connection, const char *why, int status);

int64_t until(uint64_t deadline_ns);

/* The digits after the first `key` in payload; -1 when there is none. */
int64_t number_after(const uint8_t *payload, size_t size, const char *key);
/* `digits` lower-case hex digits at `at`. */
uint64_t hex_number(const uint8_t *at, int digits);

int run_http(const struct options *options);
int run_connect(const struct options *options);
int run_fanout(const struct options *options);
int run_messages(const struct options *options);
int run_selftest(void);

#endif
