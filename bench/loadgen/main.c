/* Owns the command line of the load generator: one workload a process. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "loadgen.h"

static const char USAGE[] =
    "usage: loadgen http|connect|fanout|messages|selftest --connect HOST:PORT [options]\n"
    "  --path P            request target (default /websocket)\n"
    "  --sender-path P     fanout: the sender's request target\n"
    "  --tokens FILE       one bearer token a line\n"
    "  --targets FILE      http: a token and a request target a line\n"
    "  --pairs FILE        messages: sender token, receiver token, dialog id a line\n"
    "  --dialog ID         fanout: send message.send commands to this dialog\n"
    "  --subprotocol NAME  WebSocket subprotocol\n"
    "  --connections N     connections, receivers or pairs\n"
    "  --concurrency N     connects at once (default 0: all)\n"
    "  --sources N         source addresses from 127.1.0.1 (default 0: the system's)\n"
    "  --outstanding K     commands or messages outstanding (default 1)\n"
    "  --rate R            messages: open loop, R a second in all\n"
    "  --size BYTES        text of a message (default 256)\n"
    "  --warmup-s, --seconds, --drain-s\n"
    "  --confirm TEXT      connect: send this frame, count its reply\n"
    "  --hold              connect: stay; a line on stdin asks for a report\n"
    "  --raw               frames without a handshake\n"
    "  --seed N\n"
    "One JSON object a line: start, end (of the measured time), result, report.\n";

static const struct option LONG[] = {
    {"connect", 1, 0, 'c'},     {"path", 1, 0, 'p'},        {"sender-path", 1, 0, 'P'},
    {"tokens", 1, 0, 't'},      {"pairs", 1, 0, 'a'},       {"dialog", 1, 0, 'd'},
    {"subprotocol", 1, 0, 'b'}, {"connections", 1, 0, 'n'}, {"concurrency", 1, 0, 'C'},
    {"sources", 1, 0, 'S'},     {"outstanding", 1, 0, 'k'}, {"rate", 1, 0, 'r'},
    {"size", 1, 0, 'z'},        {"warmup-s", 1, 0, 'w'},    {"seconds", 1, 0, 's'},
    {"drain-s", 1, 0, 'D'},     {"confirm", 1, 0, 'f'},     {"hold", 0, 0, 'H'},
    {"raw", 0, 0, 'R'},         {"seed", 1, 0, 'e'},        {"targets", 1, 0, 'T'},
    {0, 0, 0, 0},
};

static void set_peer(struct options *options, const char *text)
{
    char address[64];
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof address)
        fail("--connect HOST:PORT");
    snprintf(address, sizeof address, "%.*s", (int)(colon - text), text);
    snprintf(options->host, sizeof options->host, "%.63s", text);
    options->peer.sin_family = AF_INET;
    options->peer.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, address, &options->peer.sin_addr) != 1)
        fail("--connect takes an IPv4 address");
}

static void set_option(struct options *o, int name, const char *value)
{
    switch (name) {
    case 'c': set_peer(o, value); break;
    case 'p': o->path = value; break;
    case 'P': o->sender_path = value; break;
    case 't': o->tokens = value; break;
    case 'T': o->targets = value; break;
    case 'a': o->pairs = value; break;
    case 'd': o->dialog = value; break;
    case 'b': o->subprotocol = value; break;
    case 'n': o->connections = (unsigned)atoi(value); break;
    case 'C': o->concurrency = (unsigned)atoi(value); break;
    case 'S': o->sources = (unsigned)atoi(value); break;
    case 'k': o->outstanding = (unsigned)atoi(value); break;
    case 'r': o->rate = atof(value); break;
    case 'z': o->size = (unsigned)atoi(value); break;
    case 'w': o->warmup_s = atof(value); break;
    case 's': o->seconds = atof(value); break;
    case 'D': o->drain_s = atof(value); break;
    case 'f': o->confirm = value; break;
    case 'H': o->hold = true; break;
    case 'R': o->raw = true; break;
    case 'e': o->seed = strtoull(value, NULL, 10); break;
    default: fputs(USAGE, stderr); exit(2);
    }
}

int main(int argc, char **argv)
{
    struct options options = {
        .path = "/websocket", .outstanding = 1, .size = 256,
        .warmup_s = 1, .seconds = 5, .drain_s = 20, .seed = 1,
    };
    const char *command = argc > 1 ? argv[1] : "";
    if (!strcmp(command, "selftest"))
        return run_selftest();
    for (int name; (name = getopt_long(argc - 1, argv + 1, "", LONG, NULL)) != -1;)
        set_option(&options, name, optarg);
    if (!options.peer.sin_port || (!options.connections && !options.pairs)) {
        fputs(USAGE, stderr);
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlives the runner */
    prctl(PR_SET_TIMERSLACK, 1000UL);
    if (!strcmp(command, "http"))
        return run_http(&options);
    if (!strcmp(command, "connect"))
        return run_connect(&options);
    if (!strcmp(command, "fanout"))
        return run_fanout(&options);
    if (!strcmp(command, "messages"))
        return run_messages(&options);
    fputs(USAGE, stderr);
    return 2;
}
