/* Owns sockets, handshakes and buffers; see net.h for the theory of operation. */
#define _GNU_SOURCE
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 512 };

/* One key for all, whose answer is known (RFC 6455, section 1.3): no SHA-1 here. */
static const char KEY[] = "dGhlIHNhbXBsZSBub25jZQ==";
static const char ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

uint64_t next_random(struct net *net) /* xorshift64* */
{
    uint64_t x = net->random;
    x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
    net->random = x;
    return x * 0x2545F4914F6CDD1DULL;
}

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void grow(struct bytes *b, size_t size)
{
    if (size <= b->capacity)
        return;
    size_t capacity = b->capacity ? b->capacity : 512;
    while (capacity < size)
        capacity *= 2;
    if (!(b->data = realloc(b->data, capacity)))
        fail("out of memory");
    b->capacity = (uint32_t)capacity;
}

void net_init(struct net *net, unsigned connections, const struct workload *workload)
{
    net->epoll = epoll_create1(EPOLL_CLOEXEC);
    net->workload = workload;
    net->count = connections;
    net->connections = calloc(connections, sizeof *net->connections);
    net->dirty = calloc(connections, sizeof *net->dirty);
    net->buffer_size = MESSAGE_BYTES_MAX + (256 << 10);
    net->buffer = malloc(net->buffer_size);
    if (net->epoll < 0 || !net->connections || !net->dirty || !net->buffer)
        fail("cannot set up %u connections", connections);
    for (unsigned i = 0; i < connections; i++) {
        net->connections[i].index = i;
        net->connections[i].fd = -1;
    }
}

void net_watch_stdin(struct net *net)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(net->epoll, EPOLL_CTL_ADD, 0, &event))
        fail("stdin cannot be watched: it has to be a pipe");
}

static void watch(struct net *net, struct connection *c, int operation)
{
    struct epoll_event event = {.events = c->writing ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    if (epoll_ctl(net->epoll, operation, c->fd, &event))
        fail("epoll_ctl: %s", strerror(errno));
}

void net_connect(struct net *net, struct connection *c)
{
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        fail("socket: %s (connection %u)", strerror(errno), c->index);
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (net->sources) {
        struct sockaddr_in source = {.sin_family = AF_INET};
        source.sin_addr.s_addr = htonl(0x7F010001u + c->index % net->sources);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(c->fd, (struct sockaddr *)&source, sizeof source))
            fail("bind: %s", strerror(errno));
    }
    c->began_ns = now_ns();
    c->state = CONNECTING;
    c->writing = 1;
    if (connect(c->fd, (struct sockaddr *)&net->peer, sizeof net->peer) && errno != EINPROGRESS)
        fail("connect: %s (connection %u)", strerror(errno), c->index);
    watch(net, c, EPOLL_CTL_ADD);
}

void net_close(struct net *net, struct connection *c, bool abort)
{
    if (c->fd < 0)
        return;
    if (abort) { /* a reset leaves no TIME_WAIT behind */
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    close(c->fd);
    c->fd = -1;
    if (c->state == OPEN)
        net->open--;
    c->state = CLOSED;
    c->in.size = c->out.size = 0;
}

static void lose(struct net *net, struct connection *c, const char *why, int status)
{
    net_close(net, c, true);
    net->workload->lost(net, c, why, status);
}

uint8_t *net_reserve(struct net *net, struct connection *c, size_t size)
{
    (void)net;
    if (c->out.size + size > OUT_BYTES_MAX)
        fail("the server stopped reading connection %u", c->index);
    grow(&c->out, c->out.size + size);
    return c->out.data + c->out.size;
}

void net_commit(struct net *net, struct connection *c, size_t size)
{
    c->out.size += (uint32_t)size;
    if (!c->dirty) {
        c->dirty = 1;
        net->dirty[net->dirty_count++] = c;
    }
}

void net_send_frame(struct net *net, struct connection *c, int opcode, const uint8_t *payload, size_t size)
{
    uint8_t *to = net_reserve(net, c, size + FRAME_HEAD_MAX);
    net_commit(net, c, frame_build(to, opcode, payload, size, (uint32_t)next_random(net)));
}

static void flush(struct net *net, struct connection *c)
{
    if (c->fd < 0 || c->state < HANDSHAKE)
        return;
    ssize_t n = 0;
    if (c->out.size) {
        n = send(c->fd, c->out.data, c->out.size, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            lose(net, c, "send", errno);
            return;
        }
        if (n > 0) {
            c->out.size -= (uint32_t)n;
            memmove(c->out.data, c->out.data + n, c->out.size);
        }
    }
    uint8_t writing = c->out.size > 0;
    if (writing != c->writing) {
        c->writing = writing;
        watch(net, c, EPOLL_CTL_MOD);
    }
}

static void opened(struct net *net, struct connection *c)
{
    c->state = OPEN;
    net->open++;
    net->workload->opened(net, c);
}

static void connected(struct net *net, struct connection *c)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        lose(net, c, "connect", error);
        return;
    }
    c->state = HANDSHAKE;
    if (net->mode != WEBSOCKET) {
        opened(net, c);
    } else {
        char *to = (char *)net_reserve(net, c, 4096);
        int n = snprintf(to, 4096,
            "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s%s%s%s%s%s\r\n",
            c->path, net->host, KEY,
            net->subprotocol ? "Sec-WebSocket-Protocol: " : "", net->subprotocol ? net->subprotocol : "",
            net->subprotocol ? "\r\n" : "",
            c->token ? "Authorization: Bearer " : "", c->token ? c->token : "", c->token ? "\r\n" : "");
        if (n >= 4096)
            fail("a token is too long");
        net_commit(net, c, (size_t)n);
    }
    flush(net, c);
}

/* Returns the size of a whole head at `data`, 0 when incomplete; sets status. */
static size_t parse_head(const uint8_t *data, size_t size, int *status)
{
    const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end)
        return 0;
    *status = size > 12 && !memcmp(data, "HTTP/1.1 ", 9) ? atoi((const char *)data + 9) : 0;
    return (size_t)(end - data) + 4;
}

static size_t content_length(const uint8_t *head, size_t size)
{
    static const char name[] = "\ncontent-length:";
    for (size_t i = 0; i + sizeof name < size; i++) {
        if (head[i] != '\n' || strncasecmp((const char *)head + i, name, sizeof name - 1))
            continue;
        return strtoul((const char *)head + i + sizeof name - 1, NULL, 10);
    }
    return 0;
}

/* Handles what is whole in data. Returns how much was used, -1 when c was lost. */
static int64_t consume(struct net *net, struct connection *c, const uint8_t *data, size_t size)
{
    size_t at = 0;
    int status;
    while (net->mode == HTTP && at < size) {
        size_t head = parse_head(data + at, size - at, &status);
        if (!head)
            return (int64_t)at;
        size_t body = content_length(data + at, head);
        if (size - at < head + body)
            return (int64_t)at;
        at += head + body;
        net->workload->response(net, c, status, body);
    }
    if (c->state == HANDSHAKE) {
        size_t head = parse_head(data, size, &status);
        if (!head)
            return 0;
        if (status != 101 || !memmem(data, head, ACCEPT, sizeof ACCEPT - 1)) {
            lose(net, c, "handshake", status);
            return -1;
        }
        at = head;
        opened(net, c);
    }
    while (at < size && c->state == OPEN) {
        struct frame frame;
        int64_t used = frame_parse(data + at, size - at, MESSAGE_BYTES_MAX, &frame);
        if (used == 0)
            break;
        if (used < 0) {
            lose(net, c, "frame", 0);
            return -1;
        }
        at += (size_t)used;
        if (frame.opcode == OP_PING) {
            net->pings++;
            net_send_frame(net, c, OP_PONG, frame.payload, frame.size);
        } else if (frame.opcode == OP_PONG) {
            net->pongs++;
        } else if (frame.opcode == OP_CLOSE) {
            int code = frame.size >= 2 ? frame.payload[0] << 8 | frame.payload[1] : 1005;
            lose(net, c, "closed", code);
            return -1;
        } else {
            net->workload->message(net, c, frame.payload, frame.size);
        }
    }
    return c->fd < 0 ? -1 : (int64_t)at;
}

static void receive(struct net *net, struct connection *c)
{
    size_t kept = c->in.size;
    if (kept)
        memcpy(net->buffer, c->in.data, kept);
    ssize_t n = recv(c->fd, net->buffer + kept, net->buffer_size - kept, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        lose(net, c, n ? "reset" : "end", n ? errno : 0);
        return;
    }
    net->now = now_ns();
    net->receives++;
    net->bytes_in += (uint64_t)n;
    size_t size = kept + (size_t)n;
    int64_t used = consume(net, c, net->buffer, size);
    if (used < 0)
        return;
    c->in.size = (uint32_t)(size - (size_t)used);
    if (c->in.size) {
        grow(&c->in, c->in.size);
        memcpy(c->in.data, net->buffer + used, c->in.size);
    }
}

static void flush_dirty(struct net *net)
{
    for (unsigned i = 0; i < net->dirty_count; i++) {
        net->dirty[i]->dirty = 0;
        flush(net, net->dirty[i]);
    }
    net->dirty_count = 0;
}

void net_poll(struct net *net, int64_t timeout_ns)
{
    flush_dirty(net); /* what was sent outside of a callback */
    static struct epoll_event events[EVENTS_MAX];
    if (timeout_ns < 0)
        timeout_ns = 0;
    struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    int n = epoll_pwait2(net->epoll, events, EVENTS_MAX, &timeout, NULL);
    if (n < 0 && errno != EINTR)
        fail("epoll_pwait2: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        struct connection *c = events[i].data.ptr;
        if (!c) {
            net->control = true;
            continue;
        }
        if (c->fd < 0)
            continue;
        if (c->state == CONNECTING) {
            connected(net, c);
            continue;
        }
        if (events[i].events & EPOLLOUT)
            flush(net, c);
        if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            receive(net, c);
    }
    flush_dirty(net);
}
