/* Owns the durable 1:1 workload: P pairs, message.send to reply and to delivery.
 *
 * Closed loop: each sender keeps K commands outstanding. Open loop (--rate): commands
 * leave at fixed times, i/rate after the start, over the pairs in turn; their latency
 * counts from the scheduled time, so a stall is paid by all who had to wait
 * (no coordinated omission).
 *
 * The text of a message is `t=<ns> n=<ordinal>`, both in hex. The receiver's ordinals
 * must rise by one, since a connection's commands are decided in order; a refused
 * command leaves the only lawful hole. What was acknowledged and what was delivered
 * are compared at the end by count, by the sum of the ordinals and by the sum of the
 * seqs; with strictly rising ordinals that is exactly once. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "loadgen.h"
#include "uuid7.h"

enum { RING = 4096, RING_MASK = RING - 1 };

struct pair {
    const char *dialog;
    uint32_t sent, answered;
    int64_t next_ordinal, last_seq; /* at the receiver; -1 before the first */
    uint64_t sent_ns[RING];
};

static struct {
    struct pair *pairs;
    unsigned count, outstanding, size;
    bool open_loop, stopping;
    uint64_t sent, acknowledged, delivered, refused, unlike;
    uint64_t acknowledged_ordinals, delivered_ordinals;
    uint64_t acknowledged_seqs, delivered_seqs, seq_holes, ordinal_holes;
    char refusal[200];
    struct histogram reply, delivery, lag;
    uint8_t command[8192];
} work;

static bool send_next(struct net *net, unsigned index, uint64_t scheduled_ns)
{
    struct pair *pair = &work.pairs[index];
    if (pair->sent - pair->answered >= RING)
        return false;
    char id[37];
    uuid7(net, id);
    char *to = (char *)work.command;
    int head = sprintf(to,
        "{\"op\":\"message.send\",\"id\":%u,\"dialog_id\":\"%s\",\"client_id\":\"%s\","
        "\"type\":\"text\",\"content\":{\"text\":\"", pair->sent, pair->dialog, id);
    int text = sprintf(to + head, "t=%016llx n=%08x ", (unsigned long long)scheduled_ns, pair->sent);
    memset(to + head + text, 'x', work.size - (unsigned)text);
    size_t size = (size_t)head + work.size;
    memcpy(to + size, "\"}}", 3);
    pair->sent_ns[pair->sent & RING_MASK] = scheduled_ns;
    pair->sent++;
    work.sent++;
    net_send_frame(net, &net->connections[2 * index], OP_TEXT, work.command, size + 3);
    return true;
}

static void opened(struct net *net, struct connection *c) { (void)net, (void)c; }

static void on_reply(struct net *net, unsigned index, const uint8_t *payload, size_t size, bool refused)
{
    struct pair *pair = &work.pairs[index];
    int64_t ordinal = number_after(payload, size, "\"id\":");
    if (ordinal < 0 || (uint32_t)ordinal >= pair->sent || pair->sent - (uint32_t)ordinal > RING)
        fail("a reply to nothing: %.*s", (int)(size < 400 ? size : 400), payload);
    pair->answered++;
    if (refused) {
        work.refused++;
        snprintf(work.refusal, sizeof work.refusal, "%.*s", (int)size, payload);
    } else {
        int64_t seq = number_after(payload, size, "\"seq\":");
        if (seq < 0)
            fail("a reply without seq: %.*s", (int)(size < 400 ? size : 400), payload);
        work.acknowledged++;
        work.acknowledged_ordinals += (uint64_t)ordinal;
        work.acknowledged_seqs += (uint64_t)seq;
    }
    histogram_add(&work.reply, now_ns() - pair->sent_ns[ordinal & RING_MASK]);
    if (!work.open_loop && !work.stopping)
        send_next(net, index, now_ns());
}

static void on_delivery(unsigned index, const uint8_t *payload, size_t size)
{
    struct pair *pair = &work.pairs[index];
    const uint8_t *text = memmem(payload, size, "\"t=", 3);
    int64_t seq = number_after(payload, size, "\"seq\":");
    if (!text || text + 3 + 16 + 3 + 8 > payload + size || seq < 0)
        fail("a delivery that was not sent: %.*s", (int)(size < 400 ? size : 400), payload);
    int64_t ordinal = (int64_t)hex_number(text + 3 + 16 + 3, 8);
    if (ordinal < pair->next_ordinal || seq <= pair->last_seq)
        fail("pair %u: message %lld (seq %lld) again or out of order, after %lld (seq %lld)",
             index, (long long)ordinal, (long long)seq, (long long)pair->next_ordinal - 1,
             (long long)pair->last_seq);
    work.ordinal_holes += (uint64_t)(ordinal - pair->next_ordinal);
    if (pair->last_seq >= 0)
        work.seq_holes += (uint64_t)(seq - pair->last_seq - 1);
    pair->next_ordinal = ordinal + 1;
    pair->last_seq = seq;
    work.delivered++;
    work.delivered_ordinals += (uint64_t)ordinal;
    work.delivered_seqs += (uint64_t)seq;
    histogram_add(&work.delivery, now_ns() - hex_number(text + 3, 16));
}

static void message(struct net *net, struct connection *c, const uint8_t *payload, size_t size)
{
    static const char reply[] = "\"op\":\"reply\"", error[] = "\"op\":\"error\"",
                      fresh[] = "\"op\":\"message.new\"";
    if (memmem(payload, size, reply, sizeof reply - 1))
        on_reply(net, c->index / 2, payload, size, false);
    else if (memmem(payload, size, fresh, sizeof fresh - 1))
        on_delivery(c->index / 2, payload, size);
    else if (memmem(payload, size, error, sizeof error - 1))
        on_reply(net, c->index / 2, payload, size, true);
    else
        work.unlike++;
}

static const struct workload workload = {
    .opened = opened, .message = message, .lost = lost_is_fatal};

static bool settled(void)
{
    return work.acknowledged + work.refused == work.sent && work.delivered == work.acknowledged;
}

/* Sends until `end`: by replies alone, or on the schedule `start + i / rate`. */
static void run_until(struct net *net, double rate, uint64_t start, uint64_t end, uint64_t *scheduled)
{
    while (until(end)) {
        if (rate <= 0) {
            net_poll(net, until(end));
            continue;
        }
        uint64_t due, now = now_ns();
        while ((due = start + (uint64_t)((double)*scheduled * 1e9 / rate)) <= now) {
            if (!send_next(net, (unsigned)(*scheduled % work.count), due))
                break;
            histogram_add(&work.lag, now - due);
            ++*scheduled;
        }
        net_poll(net, due <= now ? 1000000 : until(due < end ? due : end));
    }
}

static void set_up(struct net *net, const struct options *options)
{
    struct lines pairs = read_lines(options->pairs, 1);
    work.count = options->connections ? options->connections : pairs.count;
    if (work.count > pairs.count)
        fail("%s has %u pairs, %u are needed", options->pairs, pairs.count, work.count);
    work.outstanding = options->outstanding;
    work.open_loop = options->rate > 0;
    work.size = options->size;
    if (work.size < 32 || work.size > 4096 || work.outstanding > RING)
        fail("size 32 to 4096, at most %d outstanding", RING);
    work.pairs = calloc(work.count, sizeof *work.pairs);
    common_init(net, options, WEBSOCKET, 2 * work.count, &workload);
    for (unsigned i = 0; i < work.count; i++) { /* sender token, receiver token, dialog */
        char *at = pairs.items[i];
        net->connections[2 * i].token = strsep(&at, " ");
        net->connections[2 * i + 1].token = strsep(&at, " ");
        if (!(work.pairs[i].dialog = strsep(&at, " ")))
            fail("%s:%u: sender token, receiver token, dialog id", options->pairs, i + 1);
        work.pairs[i].last_seq = -1;
    }
    connect_all(net, 0, 2 * work.count, options->concurrency);
}

static void print_result(double seconds, double whole_s, struct cpu cpu, struct cpu end_cpu,
                         uint64_t acknowledged, uint64_t delivered)
{
    bool same = settled() && work.acknowledged_ordinals == work.delivered_ordinals &&
                work.acknowledged_seqs == work.delivered_seqs;
    say_begin("result", seconds, cpu);
    printf(",\"whole_s\":%.6f,\"cpu_window_s\":%.6f,\"pairs\":%u,\"outstanding\":%u,\"acknowledged\":%llu,"
           "\"delivered\":%llu,",
           whole_s, end_cpu.user + end_cpu.system - cpu.user - cpu.system, work.count, work.outstanding,
           (unsigned long long)acknowledged, (unsigned long long)delivered);
    printf("\"total\":{\"sent\":%llu,\"acknowledged\":%llu,\"refused\":%llu,\"delivered\":%llu,"
           "\"other_events\":%llu,\"seq_holes\":%llu,\"ordinal_holes\":%llu},\"exactly_once\":%s,",
           (unsigned long long)work.sent, (unsigned long long)work.acknowledged,
           (unsigned long long)work.refused, (unsigned long long)work.delivered,
           (unsigned long long)work.unlike, (unsigned long long)work.seq_holes,
           (unsigned long long)work.ordinal_holes, same ? "true" : "false");
    histogram_print(stdout, "reply_us", &work.reply);
    putchar(',');
    histogram_print(stdout, "delivery_us", &work.delivery);
    putchar(',');
    histogram_print(stdout, "schedule_lag_us", &work.lag);
    say_end();
    if (work.refused)
        fprintf(stderr, "loadgen: %llu refused, last: %s\n", (unsigned long long)work.refused,
                work.refusal);
    if (!same)
        fprintf(stderr, "loadgen: what was acknowledged is not what was delivered\n");
}

int run_messages(const struct options *options)
{
    static struct net net;
    set_up(&net, options);
    uint64_t scheduled = 0, begin = now_ns();
    for (unsigned i = 0; !work.open_loop && i < work.count; i++)
        for (unsigned k = 0; k < work.outstanding; k++)
            send_next(&net, i, now_ns());
    run_until(&net, options->rate, begin, begin + (uint64_t)(options->warmup_s * 1e9), &scheduled);
    uint64_t acknowledged = work.acknowledged, delivered = work.delivered;
    histogram_reset(&work.reply);
    histogram_reset(&work.delivery);
    histogram_reset(&work.lag);
    say("start");
    struct cpu cpu = cpu_used();
    uint64_t start = now_ns();
    run_until(&net, options->rate, begin, start + (uint64_t)(options->seconds * 1e9), &scheduled);
    double seconds = (double)(now_ns() - start) / 1e9;
    acknowledged = work.acknowledged - acknowledged;
    delivered = work.delivered - delivered;
    say("end");
    struct cpu end_cpu = cpu_used();
    work.stopping = true;
    for (uint64_t end = now_ns() + (uint64_t)(options->drain_s * 1e9); until(end) && !settled();)
        net_poll(&net, until(end) < 50000000 ? until(end) : 50000000);
    print_result(seconds, (double)(now_ns() - begin) / 1e9, cpu, end_cpu, acknowledged, delivered);
    for (unsigned i = 0; i < net.count; i++)
        net_close(&net, &net.connections[i], true);
    return settled() ? 0 : 2;
}
