/* Owns the baseline of fan-out: a bare loop of send(2) over N sockets, and no more.
 *
 * usage: send_loop RECEIVERS SIZE. Prints its port; accepts RECEIVERS sockets, then the
 * sender. Each masked frame of SIZE payload bytes that the sender writes is unmasked
 * and sent to every receiver as one unmasked frame: one send a receiver and message,
 * as a server without queues would. No handshakes: the generator's --raw. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../loadgen/frame.h"

enum { WAIT_MS = 10000 };

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Waits until the receiver has room; a receiver that is stuck ends the run. */
static void send_all(int fd, const uint8_t *data, size_t size)
{
    while (size) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            data += n;
            size -= (size_t)n;
            continue;
        }
        struct pollfd writable = {.fd = fd, .events = POLLOUT};
        if (errno != EAGAIN || poll(&writable, 1, WAIT_MS) <= 0)
            die("send");
    }
}

static int listen_anywhere(int backlog)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, backlog) ||
        getsockname(fd, (struct sockaddr *)&address, &size))
        die("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    int receivers = argc > 2 ? atoi(argv[1]) : 0, size = argc > 2 ? atoi(argv[2]) : 0;
    if (receivers < 1 || size < 126 || size > 4096)
        return 2;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int listener = listen_anywhere(4096), one = 1;
    int *sockets = calloc((size_t)receivers + 1, sizeof *sockets);
    for (int i = 0; i <= receivers; i++) {
        if ((sockets[i] = accept(listener, NULL, NULL)) < 0)
            die("accept");
        setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    size_t in_size = 8 + (size_t)size, out_size = 4 + (size_t)size;
    uint8_t in[8 + 4096], out[4 + 4096];
    for (size_t have = 0;;) {
        ssize_t n = recv(sockets[receivers], in + have, in_size - have, 0);
        if (n <= 0)
            return 0;
        if ((have += (size_t)n) < in_size)
            continue;
        have = 0;
        uint32_t key;
        memcpy(&key, in + 4, 4);
        out[0] = 0x81, out[1] = 126, out[2] = (uint8_t)(size >> 8), out[3] = (uint8_t)size;
        frame_mask(out + 4, in + 8, (size_t)size, key);
        for (int i = 0; i < receivers; i++)
            send_all(sockets[i], out, out_size);
    }
}
