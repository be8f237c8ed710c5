/* Owns the fan-out workload: one sender, N receivers, K messages outstanding.
 *
 * A message is outstanding until the last receiver has it. The sender is the last
 * connection. Its message is either the bare payload (a server that repeats it to all
 * receivers: the gateway's and the baselines' fan-out) or, with --dialog, a
 * message.send command to tchatd. Every message begins with `n=%08x`, its ordinal;
 * a receiver that sees any other than its next one fails the run. Latency: from the
 * sending to each delivery, to the last one (whole), to the reply; and of each message
 * from its first delivery to its last (spread). */
#define _GNU_SOURCE
#include <stdlib.h>

#include "loadgen.h"
#include "uuid7.h"

enum { RING = 1024, RING_MASK = RING - 1 };

static struct {
    const char *dialog;
    unsigned receivers, outstanding, size;
    uint32_t sent, completed;
    uint64_t sent_ns[RING], first_ns[RING];
    unsigned arrived[RING];
    uint64_t deliveries, refused, frame_size;
    size_t ordinal_at;        /* where `n=` was in the last delivery */
    bool stopping;
    struct histogram first_to_each, whole, spread, reply;
    uint8_t *command;
} fan;

static void send_next(struct net *net)
{
    struct connection *sender = &net->connections[fan.receivers];
    char *to = (char *)fan.command;
    size_t used = 0;
    if (fan.dialog) {
        char id[37];
        uuid7(net, id);
        used = (size_t)sprintf(to,
            "{\"op\":\"message.send\",\"id\":%u,\"dialog_id\":\"%s\",\"client_id\":\"%s\","
            "\"type\":\"text\",\"content\":{\"text\":\"", fan.sent, fan.dialog, id);
    }
    sprintf(to + used, "n=%08x ", fan.sent);
    memset(to + used + 11, 'x', fan.size - 11);
    used += fan.size;
    if (fan.dialog) {
        memcpy(to + used, "\"}}", 3);
        used += 3;
    }
    fan.sent_ns[fan.sent & RING_MASK] = now_ns();
    fan.arrived[fan.sent & RING_MASK] = 0;
    fan.sent++;
    net_send_frame(net, sender, OP_TEXT, fan.command, used);
}

static void fill(struct net *net)
{
    while (!fan.stopping && fan.sent - fan.completed < fan.outstanding)
        send_next(net);
}

static void opened(struct net *net, struct connection *c) { (void)net, (void)c; }

static void message(struct net *net, struct connection *c, const uint8_t *payload, size_t size)
{
    if (fan.dialog) {
        if (memmem(payload, size, "\"op\":\"error\"", 12))
            fail("refused: %.*s", (int)(size < 400 ? size : 400), payload);
        if (memmem(payload, size, "\"op\":\"gap\"", 10))
            fail("receiver %u was too slow: gap", c->index);
        if (c->index == fan.receivers && memmem(payload, size, "\"op\":\"reply\"", 12)) {
            int64_t id = number_after(payload, size, "\"id\":");
            if (id >= 0)
                histogram_add(&fan.reply, net->now - fan.sent_ns[id & RING_MASK]);
        }
        if (!memmem(payload, size, "\"op\":\"message.new\"", 18))
            return;
    }
    if (c->index == fan.receivers)
        return;
    size_t at = fan.ordinal_at;
    if (at + 10 > size || payload[at] != 'n' || payload[at + 1] != '=') {
        const uint8_t *found = memmem(payload, size, "n=", 2);
        if (!found || found + 10 > payload + size)
            fail("a message without an ordinal: %.*s", (int)(size < 400 ? size : 400), payload);
        at = fan.ordinal_at = (size_t)(found - payload);
    }
    uint32_t ordinal = (uint32_t)hex_number(payload + at + 2, 8);
    if (ordinal != (uint32_t)c->messages)
        fail("receiver %u got message %u, not %llu", c->index, ordinal,
             (unsigned long long)c->messages);
    c->messages++;
    fan.deliveries++;
    fan.frame_size = size;
    histogram_add(&fan.first_to_each, net->now - fan.sent_ns[ordinal & RING_MASK]);
    if (fan.arrived[ordinal & RING_MASK] == 0)
        fan.first_ns[ordinal & RING_MASK] = net->now;
    if (++fan.arrived[ordinal & RING_MASK] == fan.receivers) {
        fan.completed++;
        histogram_add(&fan.spread, net->now - fan.first_ns[ordinal & RING_MASK]);
        histogram_add(&fan.whole, net->now - fan.sent_ns[ordinal & RING_MASK]);
        fill(net);
    }
}

static const struct workload workload = {
    .opened = opened, .message = message, .lost = lost_is_fatal};

static void drain(struct net *net, double drain_s)
{
    fan.stopping = true;
    for (uint64_t end = now_ns() + (uint64_t)(drain_s * 1e9); until(end);) {
        if (fan.completed == fan.sent)
            return;
        net_poll(net, until(end));
    }
    fail("%u of %u messages reached everybody", fan.completed, fan.sent);
}

int run_fanout(const struct options *options)
{
    static struct net net;
    unsigned receivers = options->connections;
    if (options->outstanding > RING || options->size < 16 || options->size > 4096)
        fail("at most %d outstanding, size 16 to 4096", RING);
    struct lines tokens = {0};
    if (options->tokens)
        tokens = read_lines(options->tokens, receivers + 1);
    fan.dialog = options->dialog;
    fan.receivers = receivers;
    fan.outstanding = options->outstanding;
    fan.size = options->size;
    fan.command = malloc(options->size + 512);
    common_init(&net, options, options->raw ? RAW : WEBSOCKET, receivers + 1, &workload);
    for (unsigned i = 0; i <= receivers; i++)
        net.connections[i].token = tokens.count ? tokens.items[i] : NULL;
    if (options->sender_path)
        net.connections[receivers].path = options->sender_path;
    connect_all(&net, 0, receivers, options->concurrency);
    connect_all(&net, receivers, receivers + 1, 1);

    fill(&net);
    for (uint64_t end = now_ns() + (uint64_t)(options->warmup_s * 1e9); until(end);)
        net_poll(&net, until(end));
    fan.deliveries = 0;
    net.receives = 0;
    histogram_reset(&fan.first_to_each);
    histogram_reset(&fan.whole);
    histogram_reset(&fan.spread);
    histogram_reset(&fan.reply);
    uint32_t completed = fan.completed;
    say("start");
    struct cpu cpu = cpu_used();
    uint64_t start = now_ns();
    for (uint64_t end = start + (uint64_t)(options->seconds * 1e9); until(end);)
        net_poll(&net, until(end));
    double seconds = (double)(now_ns() - start) / 1e9;
    uint64_t deliveries = fan.deliveries, receives = net.receives;
    say("end");
    completed = fan.completed - completed;
    struct cpu end_cpu = cpu_used();
    drain(&net, options->drain_s);
    say_begin("result", seconds, cpu);
    printf(",\"cpu_window_s\":%.6f,\"receivers\":%u,\"outstanding\":%u,\"deliveries\":%llu,"
           "\"messages\":%u,\"receives\":%llu,\"payload_bytes\":%llu,\"in_order\":true,",
           end_cpu.user + end_cpu.system - cpu.user - cpu.system, receivers, fan.outstanding,
           (unsigned long long)deliveries, completed, (unsigned long long)receives,
           (unsigned long long)fan.frame_size);
    histogram_print(stdout, "delivery_us", &fan.first_to_each);
    putchar(',');
    histogram_print(stdout, "whole_us", &fan.whole);
    putchar(',');
    histogram_print(stdout, "spread_us", &fan.spread);
    putchar(',');
    histogram_print(stdout, "reply_us", &fan.reply);
    say_end();
    for (unsigned i = 0; i <= receivers; i++)
        net_close(&net, &net.connections[i], true);
    return 0;
}
