/* Sends requests over HTTP as fast as the answers come, or at a given rate, and tells how long each answer took:
 * signups, or webhooks with --webhook, or GETs with --paths. Only ever at a loopback address, for so many seconds and
 * requests and no more. */
#include "bench/histogram.h"
#include "bench/reads.h"
#include "bench/signup_body.h"
#include "bench/webhook.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTION_LIMIT 1000
#define SECONDS_LIMIT    3600
#define REQUEST_LIMIT    100000000
#define HEAD_LIMIT       512
#define ANSWER_LIMIT     8192
#define LATE_NS          20000000000LL /* an answer that takes longer is not waited for at the end */

struct connection {
        int fd;
        bool waiting;          /* for an answer */
        size_t received, path; /* path: which of several is read */
        int64_t began;
        char request[HEAD_LIMIT + WEBHOOK_BODY_LIMIT];
        char answer[ANSWER_LIMIT];
};

static struct {
        struct sockaddr_in address;
        int connections, warmup, seconds;
        int64_t rate, requests;
        const char *token, *webhook, *paths;
} given = { .connections = 64, .warmup = 2, .seconds = 10, .requests = REQUEST_LIMIT };

static struct histogram histogram;
static struct signup_body body;
static struct webhook webhook;
static struct reads reads;
static struct connection *connections;
static struct connection *idle[CONNECTION_LIMIT];
static size_t idle_count;
static uint64_t statuses[600], broken, next_number;
static int64_t started, measure_from, measure_until, sent_total, outstanding;
static int poll_fd;

static int64_t now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void give_up(const char *what)
{
        fprintf(stderr, "load: %s\n", what);
        exit(2);
}

static void connect_it(struct connection *c)
{
        int one = 1;
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };

        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&given.address, sizeof(given.address)) < 0)
                give_up("cannot connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event) < 0)
                give_up("epoll_ctl");
}

static void reconnect(struct connection *c)
{
        broken++;
        if (c->waiting)
                outstanding--;
        c->waiting = false;
        close(c->fd);
        connect_it(c);
        idle[idle_count++] = c;
}

/* Returns its length. */
static size_t next_request(struct connection *c)
{
        size_t length;

        if (given.paths != NULL)
                return reads_request(&reads, c->request, HEAD_LIMIT, given.token, &c->path);
        if (given.webhook == NULL)
                return body_request(&body, c->request, HEAD_LIMIT, given.token, next_number++);
        length = webhook_request(&webhook, c->request, next_number++, time(NULL));
        if (length == 0)
                give_up("a webhook cannot be signed");
        return length;
}

/* The request fits into the socket's buffer, so that one blocking send is all. */
static void send_next(struct connection *c)
{
        size_t length = next_request(c);

        c->received = 0;
        c->waiting = true;
        outstanding++;
        sent_total++;
        c->began = now_ns();
        if (send(c->fd, c->request, length, MSG_NOSIGNAL) != (ssize_t)length)
                reconnect(c);
}

static bool may_send(int64_t now)
{
        if (now >= measure_until || sent_total >= given.requests)
                return false;
        return given.rate == 0 || sent_total < (now - started) * given.rate / 1000000000LL;
}

static void send_what_may_be_sent(void)
{
        while (idle_count > 0 && may_send(now_ns()))
                send_next(idle[--idle_count]);
}

/* Length of a whole answer, 0 while it is not all there. */
static size_t answer_length(struct connection *c, int *ret_status)
{
        const char *end, *length;

        c->answer[c->received] = '\0';
        end = strstr(c->answer, "\r\n\r\n");
        if (end == NULL)
                return 0;
        length = strcasestr(c->answer, "\r\nContent-Length:");
        if (sscanf(c->answer, "HTTP/1.1 %d", ret_status) != 1)
                give_up("an answer that is not understood");
        if (*ret_status == 304) /* which never has a body */
                return (size_t)(end + 4 - c->answer);
        if (length == NULL || length > end)
                give_up("an answer whose length is not told");
        return (size_t)(end + 4 - c->answer) + strtoul(length + 17, NULL, 10);
}

static void answered(struct connection *c, int status)
{
        int64_t now = now_ns();

        c->waiting = false;
        outstanding--;
        if (c->began >= measure_from && now < measure_until) {
                histogram_add(&histogram, (uint64_t)(now - c->began) / 1000);
                statuses[status > 0 && status < 600 ? status : 0]++;
        }
        if (given.paths != NULL)
                reads_remember(&reads, c->path, c->answer);
        if (given.rate == 0 && may_send(now))
                send_next(c);
        else
                idle[idle_count++] = c;
}

static void readable(struct connection *c)
{
        ssize_t got = recv(c->fd, c->answer + c->received, ANSWER_LIMIT - 1 - c->received, MSG_DONTWAIT);
        size_t length;
        int status = 0;

        if (got < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (got <= 0 || !c->waiting) {
                for (size_t i = 0; i < idle_count; i++)
                        if (idle[i] == c)
                                idle[i--] = idle[--idle_count];
                reconnect(c);
                return;
        }
        c->received += (size_t)got;
        length = answer_length(c, &status);
        if (length > 0 && c->received >= length)
                answered(c, status);
        else if (c->received == ANSWER_LIMIT - 1)
                give_up("an answer that is too long");
}

/* A line when the warm-up is over lets the caller look at the server's clocks in the same moment. */
static void run(void)
{
        struct epoll_event events[256];
        bool told = false;

        started = now_ns();
        measure_from = started + given.warmup * 1000000000LL;
        measure_until = measure_from + given.seconds * 1000000000LL;
        send_what_may_be_sent();
        while (now_ns() < measure_until || (outstanding > 0 && now_ns() < measure_until + LATE_NS)) {
                int count = epoll_wait(poll_fd, events, 256, given.rate ? 1 : 100);

                for (int i = 0; i < count; i++)
                        readable(events[i].data.ptr);
                send_what_may_be_sent();
                if (!told && now_ns() >= measure_from) {
                        puts("measuring");
                        told = true;
                }
                if (sent_total >= given.requests && outstanding == 0)
                        break;
        }
}

static void print_result(void)
{
        double seconds =
                (double)(now_ns() < measure_until ? now_ns() - measure_from : measure_until - measure_from) / 1e9;
        const char *comma = "";

        printf("{\"requests\": %llu, \"seconds\": %.3f, \"per_second\": %.1f, \"sent\": %lld, \"broken\": %llu, "
               "\"unanswered\": %lld, ",
               (unsigned long long)histogram.count, seconds, (double)histogram.count / seconds, (long long)sent_total,
               (unsigned long long)broken, (long long)outstanding);
        histogram_print(&histogram);
        printf(", \"statuses\": {");
        for (int i = 0; i < 600; i++) {
                if (statuses[i] == 0)
                        continue;
                printf("%s\"%d\": %llu", comma, i, (unsigned long long)statuses[i]);
                comma = ", ";
        }
        printf("}}\n");
}

static int64_t number(const char *text, int64_t least, int64_t most)
{
        char *end;
        long long value = strtoll(text, &end, 10);

        if (*end != '\0' || value < least || value > most)
                give_up("a number is out of its range; see load.c");
        return value;
}

static void read_options(int argc, char **argv)
{
        static const struct option options[] = {
                { "port", required_argument, NULL, 'p' },
                { "address", required_argument, NULL, 'a' },
                { "connections", required_argument, NULL, 'c' },
                { "warmup", required_argument, NULL, 'w' },
                { "seconds", required_argument, NULL, 's' },
                { "rate", required_argument, NULL, 'r' },
                { "requests", required_argument, NULL, 'n' },
                { "webhook", required_argument, NULL, 'b' },
                { "paths", required_argument, NULL, 'g' },
                { "etags", no_argument, NULL, 'e' },
                { NULL, 0, NULL, 0 },
        };
        const char *address = "127.0.0.1";
        int option, port = 0;

        while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
                switch (option) {
                case 'p':
                        port = (int)number(optarg, 1, 65535);
                        break;
                case 'a':
                        address = optarg;
                        break;
                case 'c':
                        given.connections = (int)number(optarg, 1, CONNECTION_LIMIT);
                        break;
                case 'w':
                        given.warmup = (int)number(optarg, 0, SECONDS_LIMIT);
                        break;
                case 's':
                        given.seconds = (int)number(optarg, 1, SECONDS_LIMIT);
                        break;
                case 'r':
                        given.rate = number(optarg, 1, 1000000);
                        break;
                case 'n':
                        given.requests = number(optarg, 1, REQUEST_LIMIT);
                        break;
                case 'b':
                        given.webhook = optarg;
                        break;
                case 'g':
                        given.paths = optarg;
                        break;
                case 'e':
                        reads.with_tags = true;
                        break;
                default:
                        give_up("--port [--address --connections --warmup --seconds --rate --requests] "
                                "[--webhook FILE | --paths FILE [--etags]]; TENANTRY_TOKEN, or "
                                "TENANTRY_WEBHOOK_SECRET");
                }
        }
        given.address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
        if (port == 0)
                give_up("--port is needed");
        if (inet_pton(AF_INET, address, &given.address.sin_addr) != 1 ||
            ntohl(given.address.sin_addr.s_addr) >> 24 != 127)
                give_up("only loopback addresses (127.x.x.x) are loaded");
}

/* What is sent, and the secret that it needs. */
static void prepare(void)
{
        const char *secret = getenv("TENANTRY_WEBHOOK_SECRET");

        given.token = getenv("TENANTRY_TOKEN");
        if (given.webhook != NULL && (secret == NULL || !webhook_load(&webhook, given.webhook, secret)))
                give_up("--webhook needs TENANTRY_WEBHOOK_SECRET, and a file that bench/webhook.h can use");
        if (given.webhook == NULL && (given.token == NULL || strlen(given.token) > 128))
                give_up("TENANTRY_TOKEN is needed");
        if (given.paths != NULL && !reads_load(&reads, given.paths))
                give_up("--paths needs a file with a path in each line");
        body_make(&body);
}

int main(int argc, char **argv)
{
        read_options(argc, argv);
        setvbuf(stdout, NULL, _IOLBF, 0);
        prepare();
        poll_fd = epoll_create1(EPOLL_CLOEXEC);
        connections = calloc((size_t)given.connections, sizeof(*connections));
        if (poll_fd < 0 || connections == NULL)
                give_up("no resources");
        next_number = (uint64_t)time(NULL) << 32 | (uint64_t)(getpid() & 0xff) << 24;
        for (int i = 0; i < given.connections; i++) {
                connect_it(&connections[i]);
                idle[idle_count++] = &connections[i];
        }
        run();
        print_result();
        return 0;
}
