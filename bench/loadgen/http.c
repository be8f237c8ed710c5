/* Owns the HTTP workload: GETs over kept-alive connections, one outstanding each.
 *
 * With more tokens than connections, connection i takes tokens i, i + N, … in turn.
 * With --targets, a line has a token and a request target, and they are taken likewise. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "loadgen.h"

static struct {
    struct bytes *requests; /* one a token, made once */
    unsigned request_count, connection_count;
    uint32_t *next;         /* of each connection */
    uint64_t *sent_ns;
    uint64_t answered, refused;
    int refused_status;
    size_t body_size;
    bool stopping;
    struct histogram latency;
} http;

static void ask(struct net *net, struct connection *c)
{
    struct bytes *request = &http.requests[http.next[c->index]];
    http.next[c->index] = (http.next[c->index] + http.connection_count) % http.request_count;
    memcpy(net_reserve(net, c, request->size), request->data, request->size);
    net_commit(net, c, request->size);
    http.sent_ns[c->index] = now_ns();
}

static void opened(struct net *net, struct connection *c) { ask(net, c); }

static void response(struct net *net, struct connection *c, int status, size_t body_size)
{
    uint64_t now = now_ns();
    if (status == 200) {
        http.answered++;
        http.body_size = body_size;
    } else {
        http.refused++;
        http.refused_status = status;
    }
    histogram_add(&http.latency, now - http.sent_ns[c->index]);
    if (!http.stopping)
        ask(net, c);
}

static const struct workload workload = {
    .opened = opened, .response = response, .lost = lost_is_fatal};

int run_http(const struct options *options)
{
    static struct net net;
    unsigned count = options->connections;
    struct lines tokens = {0};
    if (options->targets)
        tokens = read_lines(options->targets, count);
    else if (options->tokens)
        tokens = read_lines(options->tokens, 1);
    common_init(&net, options, HTTP, count, &workload);
    http.connection_count = count;
    http.request_count = tokens.count > count ? tokens.count / count * count : count;
    http.requests = calloc(http.request_count, sizeof *http.requests);
    http.next = calloc(count, sizeof *http.next);
    http.sent_ns = calloc(count, sizeof *http.sent_ns);
    for (unsigned i = 0; i < count; i++)
        http.next[i] = i;
    for (unsigned i = 0; i < http.request_count; i++) {
        char *token = tokens.count ? tokens.items[i % tokens.count] : NULL;
        const char *target = options->path;
        if (options->targets) {
            char *space = strchr(token, ' ');
            if (!space)
                fail("--targets: TOKEN TARGET a line");
            *space = 0;
            target = space + 1;
        }
        int n = asprintf((char **)&http.requests[i].data,
                         "GET %s HTTP/1.1\r\nHost: %s\r\n%s%s%sAccept: application/json\r\n\r\n",
                         target, options->host, token ? "Authorization: Bearer " : "",
                         token ? token : "", token ? "\r\n" : "");
        http.requests[i].size = (uint32_t)n;
    }
    connect_all(&net, 0, count, 0);
    for (uint64_t end = now_ns() + (uint64_t)(options->warmup_s * 1e9); until(end);)
        net_poll(&net, until(end));
    http.answered = http.refused = 0;
    histogram_reset(&http.latency);
    say("start");
    struct cpu cpu = cpu_used();
    uint64_t start = now_ns();
    for (uint64_t end = start + (uint64_t)(options->seconds * 1e9); until(end);)
        net_poll(&net, until(end));
    double seconds = (double)(now_ns() - start) / 1e9;
    say("end");
    say_begin("result", seconds, cpu);
    printf(",\"answered\":%llu,\"refused\":%llu,\"refused_status\":%d,\"body_bytes\":%zu,",
           (unsigned long long)http.answered, (unsigned long long)http.refused,
           http.refused_status, http.body_size);
    histogram_print(stdout, "latency_us", &http.latency);
    say_end();
    for (unsigned i = 0; i < count; i++)
        net_close(&net, &net.connections[i], true);
    return 0;
}
