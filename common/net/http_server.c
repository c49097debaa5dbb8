/* The HTTP server: libmicrohttpd's epoll inside our loop, connections and their deadlines. See http_server.h. */
#include "common/net/http_server.h"

#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/net/http_private.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#define SWEEP_INTERVAL 500
#define ROUNDS_LIMIT   100 /* without a new request or anything from the network */
#define HEADER_MEMORY  (16 * 1024)

static void server_run(struct http_server *server);

void http_run_soon(struct http_server *server)
{
        server->run_wanted = true;
}

static void server_on_prepare(uv_prepare_t *prepare)
{
        struct http_server *server = prepare->data;

        if (server->run_wanted)
                server_run(server);
}

static void server_on_poll(uv_poll_t *poll, int status, int events)
{
        struct http_server *server = poll->data;

        (void)status;
        (void)events;
        server->rounds = 0;
        server_run(server);
}

static void server_on_idle(uv_idle_t *idle)
{
        server_run(idle->data);
}

static void server_on_timer(uv_timer_t *timer)
{
        server_run(timer->data);
}

/* libmicrohttpd works in rounds and says when it wants the next one. "At once" means the loop's next iteration: a timer
 * of 0 would fire again in this one, and a connection whose chunk size line fits no buffer, for which libmicrohttpd
 * wants rounds endlessly, would starve all others. It gets one round per millisecond until it is closed. */
static void server_run(struct http_server *server)
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
                uv_idle_start(&server->idle, server_on_idle);
        else
                uv_timer_start(&server->timer, server_on_timer, MAX(wait_ms, 1), 0);
}

static void server_on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                                 enum MHD_ConnectionNotificationCode code)
{
        struct http_server *server = context;
        struct http_connection *peer = *socket_context;

        if (code == MHD_CONNECTION_NOTIFY_STARTED) {
                peer = NEW(struct http_connection);
                peer->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
                peer->address = address_of(
                        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr);
                peer->since = clock_boot_ms();
                http_connection_began(server, peer);
                *socket_context = peer;
        } else if (peer != NULL) {
                http_connection_ended(server, peer);
                free(peer);
                *socket_context = NULL;
        }
}

/* A NUL would end the text for us but not for a proxy in front of us: it is replaced by a character that matches
 * nothing. */
static size_t server_unescape(void *context, struct MHD_Connection *connection, char *text)
{
        (void)context;
        (void)connection;
        for (char *nul = text; (nul = strstr(nul, "%00")) != NULL; nul += 3)
                nul[2] = '1';
        return MHD_http_unescape(text);
}

static struct http_request *server_new_request(struct http_server *server, struct MHD_Connection *connection,
                                               const char *path, const char *method)
{
        struct http_request *request = NEW(struct http_request);
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

        request->magic = HTTP_REQUEST_MAGIC;
        request->server = server;
        request->connection = connection;
        request->peer = info ? info->socket_context : NULL;
        request->method = mem_copy_text(method);
        request->path = mem_copy_text(path);
        http_find_caller(request);
        DL_APPEND(server->requests, request);
        server->waiting++;
        server->rounds = 0;
        http_find_route(request);
        http_refuse(request);
        if (request->peer != NULL)
                request->peer->since = clock_boot_ms(); /* the time for its body; idle time before it does not count */
        return request;
}

static void server_dispatch(struct http_request *request)
{
        request->dispatched = true;
        request->inside = true;
        request->answer_by = clock_boot_ms() + request->server->limits.answer_ms;
        if (request->peer != NULL)
                request->peer->busy = true;
        if (request->server->ending && !request->refused) /* its body arrived too late */
                request->refused = 503;
        if (request->refused)
                http_answer_refused(request);
        else
                request->route->handle(request, request->server->context);
        request->inside = false;
}

static enum MHD_Result server_queue_response(struct http_request *request)
{
        enum MHD_Result result;

        for (const char *p = request->headers.data; p && p < request->headers.data + request->headers.length;) {
                const char *value = p + strlen(p) + 1;

                MHD_add_response_header(request->response, p, value);
                p = value + strlen(value) + 1;
        }
        if (request->server->draining)
                MHD_add_response_header(request->response, "Connection", "close");
        result = MHD_queue_response(request->connection, request->status, request->response);
        MHD_destroy_response(TAKE_PTR(request->response));
        return result;
}

/* How much of so many bytes of a body stands against large_bytes. */
static size_t server_large_part(const struct http_request *request, size_t length)
{
        return length - MIN(length, request->server->limits.body_bytes);
}

static void server_drop_body(struct http_request *request)
{
        request->server->large_bytes -= server_large_part(request, request->body.length);
        if (request->body.data != NULL)
                explicit_bzero(request->body.data, request->body.length);
        buf_free(&request->body);
}

/* Anybody may send a body before he is known: large ones share what there is for them, and small ones always get in. */
static void server_take_body(struct http_request *request, const char *upload, size_t size)
{
        struct http_server *server = request->server;
        size_t length = request->body.length + size;
        size_t more = server_large_part(request, length) - server_large_part(request, request->body.length);

        if (length > http_body_limit(request)) {
                request->refused = 413;
        } else if (server->large_bytes + more > server->limits.large_bytes) {
                request->refused = 503;
                request->crowded_out = true;
        } else {
                server->large_bytes += more;
                buf_add(&request->body, upload, size);
        }
        if (request->refused)
                server_drop_body(request);
}

static enum MHD_Result server_on_request(void *context, struct MHD_Connection *connection, const char *url,
                                         const char *method, const char *version, const char *upload,
                                         size_t *upload_size, void **request_context)
{
        struct http_request *request = *request_context;

        (void)version;
        if (request == NULL) {
                *request_context = request = server_new_request(context, connection, url, method);
                if (!request->refused || http_header(request, "Expect") == NULL)
                        return MHD_YES;
                server_dispatch(request); /* the peer asked before sending: it need not send */
                return server_queue_response(request);
        }
        CHECK_MAGIC(request, HTTP_REQUEST_MAGIC);
        if (*upload_size > 0) {
                if (!request->refused)
                        server_take_body(request, upload, *upload_size);
                *upload_size = 0;
                return MHD_YES;
        }
        if (!request->dispatched)
                server_dispatch(request);
        if (request->response != NULL)
                return server_queue_response(request);
        if (request->answered)
                return MHD_NO;
        request->suspended = true;
        MHD_suspend_connection(connection);
        return MHD_YES;
}

static void server_free_request(struct http_request *request)
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
        server_drop_body(request);
        buf_free(&request->headers);
        request->magic = 0;
        free(request);
}

static void server_on_completed(void *context, struct MHD_Connection *connection, void **request_context,
                                enum MHD_RequestTerminationCode code)
{
        (void)context;
        (void)connection;
        (void)code;
        if (*request_context != NULL)
                server_free_request(*request_context);
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
static void server_answer_busy(struct http_request *request, const char *code, const char *detail)
{
        struct err err;

        err_set(&err, ERR_BUSY, code, "%s", detail);
        http_answer_error(request, &err);
}

/* Slow senders, slow readers, idle connections and unanswered requests are all ended here. */
static void server_on_sweep(uv_timer_t *timer)
{
        struct http_server *server = timer->data;
        int64_t now = clock_boot_ms();
        struct http_connection *peer;
        struct http_request *request, *next;

        http_sweep_guests(server, now);
        DL_FOREACH (server->connections, peer)
                if (!peer->busy && now - peer->since > server->limits.read_ms)
                        shutdown(peer->fd, SHUT_RDWR);
        DL_FOREACH_SAFE (server->requests, request, next) {
                if (request->suspended && !request->answered && now > request->answer_by)
                        server_answer_busy(request, "timeout", "no answer in time; try again");
                else if (request->answered && (request->stream == NULL || request->stream->ending) &&
                         request->peer != NULL && now > request->answer_by + server->limits.read_ms)
                        shutdown(request->peer->fd, SHUT_RDWR);
        }
}

static void server_start_handles(struct http_server *server)
{
        uv_loop_t *loop = server->loop;
        const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);

        uv_poll_init(loop, &server->poll, info->epoll_fd);
        uv_timer_init(loop, &server->timer);
        uv_timer_init(loop, &server->sweep);
        uv_prepare_init(loop, &server->prepare);
        uv_idle_init(loop, &server->idle);
        server->poll.data = server->timer.data = server->sweep.data = server->prepare.data = server->idle.data = server;
        server->handles += 5;
        uv_poll_start(&server->poll, UV_READABLE, server_on_poll);
        uv_timer_start(&server->sweep, server_on_sweep, SWEEP_INTERVAL, SWEEP_INTERVAL);
        uv_prepare_start(&server->prepare, server_on_prepare);
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
        int fd = http_listen(address, port, err);

        if (fd < 0)
                return fd;
        server = NEW(struct http_server);
        server->listener = fd;
        server->magic = HTTP_SERVER_MAGIC;
        server->loop = loop;
        server->routes = routes;
        server->limits = *limits;
        server->context = context;
        server->listening = true;
        server->daemon = MHD_start_daemon(
                MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, server_on_request,
                server, MHD_OPTION_CONNECTION_LIMIT, limits->connections, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                (size_t)HEADER_MEMORY, MHD_OPTION_NOTIFY_CONNECTION, server_on_connection, server,
                MHD_OPTION_NOTIFY_COMPLETED, server_on_completed, server, MHD_OPTION_UNESCAPE_CALLBACK, server_unescape,
                NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
        if (server->daemon == NULL) {
                close(fd);
                free(server);
                return err_set(err, ERR_BUSY, "listen", "libmicrohttpd does not start on %s port %d", address, port);
        }
        server_start_handles(server);
        http_start_accepting(server);
        *ret = server;
        return 0;
}

void http_server_stop_listening(struct http_server *server)
{
        if (!server->listening)
                return;
        http_stop_accepting(server);
        server->listening = false;
}

void http_server_drain(struct http_server *server)
{
        server->draining = true;
}

size_t http_server_waiting(const struct http_server *server)
{
        return server->waiting;
}

void http_handle_closed(struct http_server *server)
{
        if (--server->handles == 0)
                free(server);
}

static void server_on_closed(uv_handle_t *handle)
{
        http_handle_closed(handle->data);
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
                        server_answer_busy(request, "stopping", "the service is stopping; try again");
                else if (request->stream != NULL)
                        http_stream_end(request->stream);
        }
        for (int i = 0; i < 10; i++)
                MHD_run(server->daemon);
        uv_poll_stop(&server->poll);
        MHD_stop_daemon(server->daemon);
        server->daemon = NULL;
        uv_close((uv_handle_t *)&server->poll, server_on_closed);
        uv_close((uv_handle_t *)&server->timer, server_on_closed);
        uv_close((uv_handle_t *)&server->sweep, server_on_closed);
        uv_close((uv_handle_t *)&server->prepare, server_on_closed);
        uv_close((uv_handle_t *)&server->idle, server_on_closed);
}
