/* Owns the connecting workload: a storm of WebSocket connects, then holding them idle.
 *
 * A connect counts when its 101 arrived, and with --confirm, when the server then
 * answered that first frame: an edge that checks tokens late cannot look fast. While
 * holding, pings are answered and a line on stdin asks for a report; end of file ends. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>

#include "loadgen.h"

enum { STORM_WAIT_S = 120 };

static struct {
    const char *confirm;
    unsigned done, lost, started, refused_status;
    uint64_t messages;
    char why[32];
    struct histogram latency;
} storm;

static void settle(struct connection *c)
{
    storm.done++;
    c->messages = 1;
    histogram_add(&storm.latency, now_ns() - c->began_ns);
}

static void opened(struct net *net, struct connection *c)
{
    if (storm.confirm)
        net_send_frame(net, c, OP_TEXT, (const uint8_t *)storm.confirm, strlen(storm.confirm));
    else
        settle(c);
}

static void message(struct net *net, struct connection *c, const uint8_t *payload, size_t size)
{
    (void)net;
    storm.messages++;
    if (c->messages || !storm.confirm)
        return;
    if (memmem(payload, size, "\"op\":\"reply\"", 12))
        settle(c);
    else if (memmem(payload, size, "\"op\":\"error\"", 12))
        fail("the confirming frame was refused: %.*s", (int)(size < 300 ? size : 300), payload);
}

static void lost(struct net *net, struct connection *c, const char *why, int status)
{
    (void)net, (void)c;
    storm.lost++;
    storm.refused_status = (unsigned)status;
    snprintf(storm.why, sizeof storm.why, "%s", why);
}

static const struct workload workload = {.opened = opened, .message = message, .lost = lost};

static void report(struct net *net, const char *event, double seconds, struct cpu since)
{
    say_begin(event, seconds, since);
    printf(",\"connected\":%u,\"open\":%u,\"lost\":%u,\"lost_why\":\"%s\",\"lost_status\":%u,"
           "\"pings\":%llu,\"messages\":%llu,",
           storm.done, net->open, storm.lost, storm.why, storm.refused_status,
           (unsigned long long)net->pings, (unsigned long long)storm.messages);
    histogram_print(stdout, "latency_us", &storm.latency);
    say_end();
}

static void hold(struct net *net, uint64_t start, struct cpu cpu)
{
    char line[256];
    net_watch_stdin(net);
    for (;;) {
        net_poll(net, 1000000000);
        if (!net->control)
            continue;
        net->control = false;
        if (read(0, line, sizeof line) <= 0)
            return;
        report(net, "report", (double)(now_ns() - start) / 1e9, cpu);
    }
}

int run_connect(const struct options *options)
{
    static struct net net;
    unsigned count = options->connections;
    struct lines tokens = {0};
    if (options->tokens)
        tokens = read_lines(options->tokens, count);
    common_init(&net, options, options->raw ? RAW : WEBSOCKET, count, &workload);
    for (unsigned i = 0; i < count; i++)
        net.connections[i].token = tokens.count ? tokens.items[i] : NULL;
    storm.confirm = options->confirm;

    say("start");
    struct cpu cpu = cpu_used();
    uint64_t start = now_ns(), deadline = start + STORM_WAIT_S * 1000000000ULL;
    while (storm.done + storm.lost < count && until(deadline)) {
        while (storm.started < count &&
               (!options->concurrency ||
                storm.started - storm.done - storm.lost < options->concurrency)) {
            net_connect(&net, &net.connections[storm.started++]);
            /* A real crowd does not wait for its last member to dial. */
            if (storm.started % 64 == 0)
                net_poll(&net, 0);
        }
        net_poll(&net, 100000000);
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    say("end");
    report(&net, "result", seconds, cpu);
    if (options->hold)
        hold(&net, start, cpu);
    for (unsigned i = 0; i < count; i++)
        net_close(&net, &net.connections[i], true);
    return storm.done == count ? 0 : 2;
}
