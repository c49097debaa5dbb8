/* The HTTP server: libmicrohttpd's epoll inside our loop, connections and their deadlines. See http_server.h. */
#include "common/net/http_server.h"

#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/net/http_private.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#define SWEEP_INTERVAL 500
#define ROUNDS_LIMIT   100 /* without a new request or anything from the network */
#define PATH_LIMIT     2048
#define HEADER_MEMORY  (16 * 1024)
#define LISTEN_BACKLOG 1024

static void run(struct http_server *server);

void http_run_soon(struct http_server *server)
{
        server->run_wanted = true;
}

static void on_prepare(uv_prepare_t *prepare)
{
        struct http_server *server = prepare->data;

        if (server->run_wanted)
                run(server);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
        struct http_server *server = poll->data;

        (void)status;
        (void)events;
        server->rounds = 0;
        run(server);
}

static void on_idle(uv_idle_t *idle)
{
        run(idle->data);
}

static void on_timer(uv_timer_t *timer)
{
        run(timer->data);
}

/* libmicrohttpd works in rounds and says when it wants the next one. "At once" is the loop's next turn: a timer of 0
 * would start again inside this turn, and one connection with a chunk's size line that fits no buffer, for which
 * libmicrohttpd wants rounds without end, would keep everybody else out. It gets a round a millisecond until it is cut.
 */
static void run(struct http_server *server)
{
        MHD_UNSIGNED_LONG_LONG wait_ms;

        CHECK_MAGIC(server, HTTP_SERVER_MAGIC);
        server->run_wanted = false;
        MHD_run(server->daemon);
        uv_timer_stop(&server->timer);
        uv_idle_stop(&server->idle);
        if (MHD_get_timeout(server->daemon, &wait_ms) != MHD_YES)
                return;
        if (wait_ms == 0 && server->rounds++ < ROUNDS_LIMIT)
                uv_idle_start(&server->idle, on_idle);
        else
                uv_timer_start(&server->timer, on_timer, MAX(wait_ms, 1), 0);
}

static void on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
        struct http_server *server = context;
        struct http_connection *peer = *socket_context;

        if (code == MHD_CONNECTION_NOTIFY_STARTED) {
                peer = NEW(struct http_connection);
                peer->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
                peer->since = clock_boot_ms();
                DL_APPEND(server->connections, peer);
                *socket_context = peer;
        } else if (peer != NULL) {
                DL_DELETE(server->connections, peer);
                free(peer);
                *socket_context = NULL;
        }
}

/* A NUL would end the text for us and not for whoever stands before us: it becomes a character that fits nowhere. */
static size_t unescape(void *context, struct MHD_Connection *connection, char *text)
{
        (void)context;
        (void)connection;
        for (char *nul = text; (nul = strstr(nul, "%00")) != NULL; nul += 3)
                nul[2] = '1';
        return MHD_http_unescape(text);
}

static bool match_path(const char *pattern, const char *path, char **ret_segment)
{
        const char *hole = strstr(pattern, "{id}");
        size_t before, length;

        if (hole == NULL)
                return strcmp(pattern, path) == 0;
        before = (size_t)(hole - pattern);
        if (strncmp(pattern, path, before) != 0)
                return false;
        length = strcspn(path + before, "/");
        if (length == 0 || strcmp(path + before + length, hole + 4) != 0)
                return false;
        free(*ret_segment);
        *ret_segment = mem_copy_bytes(path + before, length);
        return true;
}

/* Finds the route, or leaves 404 or 405 to be answered. */
static void find_route(struct http_request *request)
{
        const char *method = strcmp(request->method, "HEAD") == 0 ? "GET" : request->method;
        bool path_known = false;
        auto_buf allowed = { 0 };

        for (const struct http_route *r = request->server->routes; r->method != NULL; r++) {
                if (!match_path(r->path, request->path, &request->segment))
                        continue;
                path_known = true;
                buf_printf(&allowed, "%s%s", allowed.length ? ", " : "", r->method);
                if (strcmp(r->method, method) == 0) {
                        request->route = r;
                        return;
                }
        }
        request->refused = path_known ? 405 : 404;
        if (path_known)
                http_answer_header(request, "Allow", allowed.data);
}

/* RFC 9110 5.6.2: what a header's name is made of. */
static bool is_token(const char *name)
{
        const char *p = name;

        while (isalnum((unsigned char)*p) || (*p != '\0' && strchr("!#$%&'*+-.^_`|~", *p) != NULL))
                p++;
        return p > name && *p == '\0';
}

static enum MHD_Result count_framing(void *context, enum MHD_ValueKind kind, const char *name, size_t name_length,
                                     const char *value, size_t length)
{
        unsigned *count = context;

        (void)kind;
        (void)value;
        (void)length;
        *count += strcasecmp(name, "Content-Length") == 0 || strcasecmp(name, "Transfer-Encoding") == 0;
        /* "Content-Length :" is one for some and none for others. A NUL in a value is not shown to us: libmicrohttpd
         * ends the value there (docs/security.md tells what must stand before us). */
        if (!is_token(name) || strlen(name) != name_length)
                *count += 2;
        return MHD_YES;
}

/* A body whose length is told twice may end elsewhere for a proxy before us: nothing behind it is read as a request. */
static void refuse_ambiguous_length(struct http_request *request)
{
        unsigned count = 0;

        MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, count_framing, &count);
        if (count <= 1)
                return;
        request->refused = 400;
        http_answer_header(request, "Connection", "close");
}

/* Who keeps a connection open learns at its next request that we go. */
static void refuse_when_stopping(struct http_request *request)
{
        if (request->server->listening)
                return;
        request->refused = 503;
        http_answer_header(request, "Retry-After", "2");
        http_answer_header(request, "Connection", "close");
}

static size_t body_limit(const struct http_request *request)
{
        const struct http_route *route = request->route;

        return route != NULL && route->body_bytes != 0 ? route->body_bytes : request->server->limits.body_bytes;
}

static bool is_json(const char *type)
{
        return type != NULL && strncasecmp(type, "application/json", 16) == 0 && strchr("; \t", type[16]) != NULL;
}

static void refuse_by_headers(struct http_request *request)
{
        const char *length = http_header(request, "Content-Length"), *type = http_header(request, "Content-Type");
        bool has_body = (length != NULL && strcmp(length, "0") != 0) || http_header(request, "Transfer-Encoding");

        if (length != NULL && strtoull(length, NULL, 10) > body_limit(request))
                request->refused = 413;
        else if (has_body && !is_json(type) && !request->route->any_body && strcmp(request->route->method, "POST") == 0)
                request->refused = 415;
}

static void read_address(struct http_request *request)
{
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        const struct sockaddr *address = info ? info->client_addr : NULL;

        if (address != NULL && address->sa_family == AF_INET)
                uv_ip4_name((const struct sockaddr_in *)(const void *)address, request->address,
                            sizeof(request->address));
        else if (address != NULL && address->sa_family == AF_INET6)
                uv_ip6_name((const struct sockaddr_in6 *)(const void *)address, request->address,
                            sizeof(request->address));
}

static struct http_request *new_request(struct http_server *server, struct MHD_Connection *connection, const char *path,
                                        const char *method)
{
        struct http_request *request = NEW(struct http_request);
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

        request->magic = HTTP_REQUEST_MAGIC;
        request->server = server;
        request->connection = connection;
        request->peer = info ? info->socket_context : NULL;
        request->method = mem_copy_text(method);
        request->path = mem_copy_text(path);
        read_address(request);
        DL_APPEND(server->requests, request);
        server->waiting++;
        server->rounds = 0;
        find_route(request);
        if (strlen(path) > PATH_LIMIT)
                request->refused = 414;
        if (!request->refused)
                refuse_by_headers(request);
        refuse_ambiguous_length(request);
        if (!request->refused)
                refuse_when_stopping(request);
        if (request->peer != NULL)
                request->peer->since = clock_boot_ms(); /* the time for its body; idle time before it does not count */
        return request;
}

static void answer_refused(struct http_request *request)
{
        static const struct {
                unsigned status;
                const char *code, *detail;
        } refusals[] = {
                { 400, "ambiguous_length", "the length of the body is told more than once, or a header is malformed" },
                { 404, "not_found", "there is nothing at this path" },
                { 405, "method_not_allowed", "this path takes other methods; see the Allow header" },
                { 413, "body_too_large", "the body is larger than this path takes" },
                { 414, "path_too_long", "the path is too long" },
                { 415, "not_json", "the body must be application/json" },
                { 503, "stopping", "the service is stopping; try again" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(refusals); i++)
                if (refusals[i].status == request->refused)
                        http_answer_problem(request, request->refused, refusals[i].code, NULL, refusals[i].detail);
}

static void dispatch(struct http_request *request)
{
        request->dispatched = true;
        request->inside = true;
        request->answer_by = clock_boot_ms() + request->server->limits.answer_ms;
        if (request->peer != NULL)
                request->peer->busy = true;
        if (request->server->ending && !request->refused) /* its body came too late */
                request->refused = 503;
        if (request->refused)
                answer_refused(request);
        else
                request->route->handle(request, request->server->context);
        request->inside = false;
}

static enum MHD_Result queue_response(struct http_request *request)
{
        enum MHD_Result result;

        for (const char *p = request->headers.data; p && p < request->headers.data + request->headers.length;) {
                const char *value = p + strlen(p) + 1;

                MHD_add_response_header(request->response, p, value);
                p = value + strlen(value) + 1;
        }
        result = MHD_queue_response(request->connection, request->status, request->response);
        MHD_destroy_response(TAKE_PTR(request->response));
        return result;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **request_context)
{
        struct http_request *request = *request_context;

        (void)version;
        if (request == NULL) {
                *request_context = request = new_request(context, connection, url, method);
                if (!request->refused || http_header(request, "Expect") == NULL)
                        return MHD_YES;
                dispatch(request); /* the peer asks before it sends: it need not */
                return queue_response(request);
        }
        CHECK_MAGIC(request, HTTP_REQUEST_MAGIC);
        if (*upload_size > 0) {
                if (request->body.length + *upload_size > body_limit(request) && !request->refused)
                        request->refused = 413;
                if (!request->refused)
                        buf_add(&request->body, upload, *upload_size);
                *upload_size = 0;
                return MHD_YES;
        }
        if (!request->dispatched)
                dispatch(request);
        if (request->response != NULL)
                return queue_response(request);
        if (request->answered)
                return MHD_NO;
        request->suspended = true;
        MHD_suspend_connection(connection);
        return MHD_YES;
}

static void free_request(struct http_request *request)
{
        struct http_server *server = request->server;

        DL_DELETE(server->requests, request);
        if (!request->answered)
                server->waiting--;
        if (request->stream != NULL)
                http_stream_release(request->stream);
        if (request->release != NULL)
                request->release(request->kept);
        if (request->response != NULL)
                MHD_destroy_response(request->response);
        if (request->peer != NULL) {
                request->peer->busy = false;
                request->peer->since = clock_boot_ms();
        }
        free(request->method);
        free(request->path);
        free(request->segment);
        if (request->body.data != NULL)
                explicit_bzero(request->body.data, request->body.length);
        buf_free(&request->body);
        buf_free(&request->headers);
        request->magic = 0;
        free(request);
}

static void on_completed(void *context, struct MHD_Connection *connection, void **request_context,
                         enum MHD_RequestTerminationCode code)
{
        (void)context;
        (void)connection;
        (void)code;
        if (*request_context != NULL)
                free_request(*request_context);
        *request_context = NULL;
}

void http_send(struct http_request *request, unsigned status, struct MHD_Response *response)
{
        CHECK_MAGIC(request, HTTP_REQUEST_MAGIC);
        assert(!request->answered);
        request->answered = true;
        request->server->waiting--;
        request->status = status;
        request->response = response;
        if (!request->suspended)
                return;
        request->suspended = false;
        MHD_resume_connection(request->connection);
        http_run_soon(request->server);
}

/* 503 with Retry-After. */
static void answer_busy(struct http_request *request, const char *code, const char *detail)
{
        struct err err;

        err_set(&err, ERR_BUSY, code, "%s", detail);
        http_answer_error(request, &err);
}

/* Slow senders, slow readers, idle connections and forgotten requests all end here. */
static void on_sweep(uv_timer_t *timer)
{
        struct http_server *server = timer->data;
        int64_t now = clock_boot_ms();
        struct http_connection *peer;
        struct http_request *request, *next;

        DL_FOREACH (server->connections, peer)
                if (!peer->busy && now - peer->since > server->limits.read_ms)
                        shutdown(peer->fd, SHUT_RDWR);
        DL_FOREACH_SAFE (server->requests, request, next) {
                if (request->suspended && !request->answered && now > request->answer_by)
                        answer_busy(request, "timeout", "no answer in time; try again");
                else if (request->answered && (request->stream == NULL || request->stream->ending) &&
                         request->peer != NULL && now > request->answer_by + server->limits.read_ms)
                        shutdown(request->peer->fd, SHUT_RDWR);
        }
}

static int open_listener(const char *address, int port, struct err *err)
{
        struct sockaddr_storage where;
        int fd, one = 1;

        if (uv_ip4_addr(address, port, (struct sockaddr_in *)(void *)&where) < 0 &&
            uv_ip6_addr(address, port, (struct sockaddr_in6 *)(void *)&where) < 0)
                return err_set(err, ERR_INPUT, "listen", "%s is not an address to listen on", address);
        fd = socket(where.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0)
                setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (fd < 0 ||
            bind(fd, (struct sockaddr *)&where,
                 where.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)) < 0 ||
            listen(fd, LISTEN_BACKLOG) < 0) {
                err_set(err, ERR_INPUT, "listen", "cannot listen on %s port %d: %s", address, port, strerror(errno));
                if (fd >= 0)
                        close(fd);
                return -ERR_INPUT;
        }
        return fd;
}

static void start_handles(struct http_server *server)
{
        uv_loop_t *loop = server->loop;
        const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);

        uv_poll_init(loop, &server->poll, info->epoll_fd);
        uv_timer_init(loop, &server->timer);
        uv_timer_init(loop, &server->sweep);
        uv_prepare_init(loop, &server->prepare);
        uv_idle_init(loop, &server->idle);
        server->poll.data = server->timer.data = server->sweep.data = server->prepare.data = server->idle.data = server;
        server->handles = 5;
        uv_poll_start(&server->poll, UV_READABLE, on_poll);
        uv_timer_start(&server->sweep, on_sweep, SWEEP_INTERVAL, SWEEP_INTERVAL);
        uv_prepare_start(&server->prepare, on_prepare);
        uv_unref((uv_handle_t *)&server->poll);
        uv_unref((uv_handle_t *)&server->sweep);
        uv_unref((uv_handle_t *)&server->timer);
        uv_unref((uv_handle_t *)&server->prepare);
        uv_unref((uv_handle_t *)&server->idle);
}

int http_server_new(uv_loop_t *loop, const char *address, int port, const struct http_route *routes,
                    const struct http_limits *limits, void *context, struct http_server **ret, struct err *err)
{
        struct http_server *server;
        int fd = open_listener(address, port, err);

        if (fd < 0)
                return fd;
        server = NEW(struct http_server);
        server->magic = HTTP_SERVER_MAGIC;
        server->loop = loop;
        server->routes = routes;
        server->limits = *limits;
        server->context = context;
        server->listening = true;
        server->daemon = MHD_start_daemon(
                MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, server, MHD_OPTION_LISTEN_SOCKET,
                fd, MHD_OPTION_CONNECTION_LIMIT, limits->connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
                limits->per_address, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_MEMORY,
                MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
                MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
        if (server->daemon == NULL) {
                close(fd);
                free(server);
                return err_set(err, ERR_INPUT, "listen", "libmicrohttpd does not start on %s port %d", address, port);
        }
        start_handles(server);
        *ret = server;
        return 0;
}

void http_server_stop_listening(struct http_server *server)
{
        if (!server->listening)
                return;
        server->listening = false;
        close(MHD_quiesce_daemon(server->daemon));
}

size_t http_server_waiting(const struct http_server *server)
{
        return server->waiting;
}

static void on_closed(uv_handle_t *handle)
{
        struct http_server *server = handle->data;

        if (--server->handles == 0)
                free(server);
}

void http_server_free(struct http_server *server)
{
        struct http_request *request, *next;

        if (server == NULL)
                return;
        CHECK_MAGIC(server, HTTP_SERVER_MAGIC);
        http_server_stop_listening(server);
        server->ending = true;
        DL_FOREACH_SAFE (server->requests, request, next) {
                if (request->suspended && !request->answered)
                        answer_busy(request, "stopping", "the service is stopping; try again");
                else if (request->stream != NULL)
                        http_stream_end(request->stream);
        }
        for (int i = 0; i < 10; i++)
                MHD_run(server->daemon);
        uv_poll_stop(&server->poll);
        MHD_stop_daemon(server->daemon);
        server->daemon = NULL;
        uv_close((uv_handle_t *)&server->poll, on_closed);
        uv_close((uv_handle_t *)&server->timer, on_closed);
        uv_close((uv_handle_t *)&server->sweep, on_closed);
        uv_close((uv_handle_t *)&server->prepare, on_closed);
        uv_close((uv_handle_t *)&server->idle, on_closed);
}
