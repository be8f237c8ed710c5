/* Owns the generator's sockets: one epoll, one thread, one shared receive buffer.
 *
 * Theory of operation. Bytes are received into one buffer shared by all connections;
 * only an incomplete tail is copied aside, into a buffer of the connection that is
 * allocated once. What a workload sends is appended to the connection's outgoing
 * buffer and leaves at the end of the poll, one send(2) a connection, so commands
 * that were caused by one batch of replies travel together. */
#ifndef LOADGEN_NET_H
#define LOADGEN_NET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"

enum { MESSAGE_BYTES_MAX = 1 << 20, OUT_BYTES_MAX = 4 << 20 };
enum state { FREE, CONNECTING, HANDSHAKE, OPEN, CLOSED };
enum mode { RAW, HTTP, WEBSOCKET };   /* RAW: frames without a handshake */

struct bytes {
    uint8_t *data;
    uint32_t size, capacity;
};

struct connection {
    int fd;
    uint8_t state, dirty, writing;
    uint32_t index;           /* into net.connections */
    uint64_t began_ns;        /* when connect(2) was called */
    uint64_t messages;        /* data messages received that the workload counted */
    const char *path, *token; /* token may be NULL */
    struct bytes in, out;
};

struct net;

struct workload {
    void (*opened)(struct net *, struct connection *);
    /* One whole data message; payload is valid until return. */
    void (*message)(struct net *, struct connection *, const uint8_t *payload, size_t size);
    /* One whole HTTP response (mode HTTP). */
    void (*response)(struct net *, struct connection *, int status, size_t body_size);
    /* The peer closed, refused or broke the protocol: why is a short word. */
    void (*lost)(struct net *, struct connection *, const char *why, int status);
};

struct net {
    int epoll;
    enum mode mode;
    const struct workload *workload;
    struct sockaddr_in peer;
    const char *host, *subprotocol;
    unsigned sources;         /* source addresses 127.1.0.1 …, 0 for the default */
    struct connection *connections;
    unsigned count, open;
    struct connection **dirty;
    unsigned dirty_count;
    uint8_t *buffer;
    size_t buffer_size;
    uint64_t now;             /* of the last receive */
    uint64_t random;
    uint64_t pings, pongs, bytes_in, receives;
    bool control;             /* stdin is readable (watched by net_watch_stdin) */
};

uint64_t now_ns(void);
uint64_t next_random(struct net *net);
_Noreturn void fail(const char *format, ...);

void net_init(struct net *net, unsigned connections, const struct workload *workload);
void net_connect(struct net *net, struct connection *connection);
void net_poll(struct net *net, int64_t timeout_ns);
void net_close(struct net *net, struct connection *connection, bool abort);
void net_watch_stdin(struct net *net);

/* Room for `size` more bytes to be sent; net_sent says how many were written. */
uint8_t *net_reserve(struct net *net, struct connection *connection, size_t size);
void net_commit(struct net *net, struct connection *connection, size_t size);
void net_send_frame(struct net *net, struct connection *connection, int opcode,
                    const uint8_t *payload, size_t size);

#endif
