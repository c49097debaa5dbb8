/* One asynchronous PostgreSQL connection on the loop: see pg.h. */
#include "common/pg/pg.h"

#include "common/base/memory.h"
#include "common/pg/pg_private.h"

#include <string.h>

#define PG_DEFAULT_CONNECT_TIMEOUT SECONDS(10)

static void pg_on_poll(uv_poll_t *poll, int status, int events);

static const unsigned WAYS[] = {
        [PG_RESOLVING] = 1U << PG_CONNECTING | 1U << PG_BROKEN,
        [PG_CONNECTING] = 1U << PG_CONNECTING | 1U << PG_IDLE | 1U << PG_BROKEN, /* connecting: the next host */
        [PG_IDLE] = 1U << PG_BUSY | 1U << PG_BROKEN,
        [PG_BUSY] = 1U << PG_IDLE | 1U << PG_BROKEN,
        [PG_BROKEN] = 1U << PG_BUSY | 1U << PG_BROKEN, /* busy: until the statement's failure is reported */
};

void pg_enter(struct pg_conn *conn, enum pg_state next)
{
        assert((WAYS[conn->state] & 1U << next) != 0);
        conn->state = next;
}

static void pg_free_watch(uv_handle_t *handle)
{
        free(CONTAINER_OF(handle, struct pg_watch, poll));
}

static void pg_free_timer(uv_handle_t *handle)
{
        free(CONTAINER_OF(handle, struct pg_timer, timer));
}

static void pg_unwatch(struct pg_conn *conn)
{
        if (conn->watch == NULL)
                return;
        uv_poll_stop(&conn->watch->poll);
        conn->watch->conn = NULL;
        uv_close((uv_handle_t *)&conn->watch->poll, pg_free_watch);
        conn->watch = NULL;
}

/* libpq may open another socket while connecting (next address, SSL refused): then the handle is recreated. */
void pg_watch_socket(struct pg_conn *conn, int events)
{
        int fd = PQsocket(conn->pq);

        /* The next address's socket may get the same descriptor number as the last one: the number alone says
         * nothing. */
        if (conn->state == PG_CONNECTING || (conn->watch != NULL && conn->watched_fd != fd))
                pg_unwatch(conn);
        if (conn->watch != NULL && conn->watched_events == events)
                return;
        if (conn->watch == NULL) {
                conn->watch = NEW(struct pg_watch);
                conn->watch->conn = conn;
                uv_poll_init(conn->loop, &conn->watch->poll, fd);
                conn->watched_fd = fd;
        }
        conn->watched_events = events;
        uv_poll_start(&conn->watch->poll, events, pg_on_poll);
}

void pg_stop_timer(struct pg_conn *conn)
{
        uv_timer_stop(&conn->timer->timer);
}

static void pg_free_conn(struct pg_conn *conn)
{
        for (int i = 0; i < conn->options; i++) {
                free(conn->keywords[i]);
                mem_free_secret(conn->values[i]);
        }
        PQclear(conn->last);
        conn->magic = 0;
        free(conn);
}

void pg_close(struct pg_conn *conn)
{
        if (conn == NULL)
                return;
        CHECK_MAGIC(conn, PG_MAGIC);
        if (conn->closed)
                return;
        conn->closed = true;
        pg_unwatch(conn);
        conn->timer->conn = NULL;
        uv_close((uv_handle_t *)&conn->timer->timer, pg_free_timer);
        pg_forget_resolve(conn);
        PQfinish(conn->pq);
        conn->pq = NULL;
        if (!conn->in_callback)
                pg_free_conn(conn);
}

/* Runs a callback that may call pg_close; says whether the connection still exists afterwards. */
bool pg_still_there(struct pg_conn *conn)
{
        conn->in_callback = false;
        if (!conn->closed)
                return true;
        pg_free_conn(conn);
        return false;
}

void pg_break_off(struct pg_conn *conn)
{
        pg_enter(conn, PG_BROKEN);
        pg_forget_resolve(conn);
        pg_unwatch(conn);
        pg_stop_timer(conn);
}

static bool pg_report_opened(struct pg_conn *conn, const struct err *err)
{
        pg_opened_fn opened = conn->opened;

        conn->opened = NULL;
        conn->in_callback = true;
        opened(conn->opened_context, err);
        return pg_still_there(conn);
}

/* Notices ("already exists, skipping") are of no use, and libpq would print them among our log lines. */
static void pg_ignore_notice(void *context, const char *text)
{
        (void)context;
        (void)text;
}

static void pg_drive_connect(struct pg_conn *conn)
{
        struct err err;

        switch (PQconnectPoll(conn->pq)) {
        case PGRES_POLLING_READING:
                pg_watch_socket(conn, UV_READABLE);
                return;
        case PGRES_POLLING_WRITING:
                pg_watch_socket(conn, UV_WRITABLE);
                return;
        case PGRES_POLLING_OK:
                pg_stop_timer(conn);
                PQsetnonblocking(conn->pq, 1);
                PQsetNoticeProcessor(conn->pq, pg_ignore_notice, NULL);
                pg_enter(conn, PG_IDLE);
                pg_watch_socket(conn, UV_READABLE);
                pg_report_opened(conn, NULL);
                return;
        default:
                pg_error_of_connect(conn, &err);
                pg_break_off(conn);
                pg_report_opened(conn, &err);
        }
}

void pg_lose(struct pg_conn *conn)
{
        bool was_busy = conn->state == PG_BUSY;
        struct err err;

        err_set(&err, ERR_BUSY, "connection_lost", "the connection to PostgreSQL was lost");
        pg_break_off(conn);
        PQclear(TAKE_PTR(conn->last));
        if (was_busy) {
                pg_report_done(conn, NULL, &err);
        } else if (conn->lost != NULL) {
                conn->in_callback = true;
                conn->lost(conn->lost_context, &err);
                pg_still_there(conn);
        }
}

static void pg_on_poll(uv_poll_t *poll, int status, int events)
{
        struct pg_conn *conn = CONTAINER_OF(poll, struct pg_watch, poll)->conn;

        (void)events;
        if (conn == NULL)
                return;
        CHECK_MAGIC(conn, PG_MAGIC);
        /* libpq finds out what is wrong with the socket, and reports it better. But it may first read a last message
         * and need to be called again, and libuv stops watching a socket once it has seen an error on it. */
        if (status < 0)
                conn->watched_events = 0;
        if (conn->state == PG_CONNECTING) {
                pg_drive_connect(conn);
        } else if (conn->state == PG_BUSY) {
                pg_drive_statement(conn);
        } else if (conn->state == PG_IDLE) {
                pg_watch_socket(conn, UV_READABLE);
                if (PQconsumeInput(conn->pq) == 0 || PQstatus(conn->pq) == CONNECTION_BAD)
                        pg_lose(conn);
        }
}

void pg_on_timeout(uv_timer_t *timer)
{
        struct pg_conn *conn = CONTAINER_OF(timer, struct pg_timer, timer)->conn;
        int64_t more;
        struct err err;

        if (conn == NULL)
                return;
        if (conn->state == PG_BUSY) {
                more = conn->more_time ? conn->more_time(conn->done_context) : 0;
                if (more > 0) {
                        uv_timer_start(timer, pg_on_timeout, (uint64_t)more, 0);
                        return;
                }
                err_set(&err, ERR_BUSY, "statement_timeout", "PostgreSQL did not answer in time");
                pg_break_off(conn);
                pg_report_done(conn, NULL, &err);
        } else if (conn->state == PG_CONNECTING && pg_leave_host(conn)) {
                pg_unwatch(conn);
                PQfinish(TAKE_PTR(conn->pq));
                pg_start_connect(conn);
        } else if (conn->state == PG_CONNECTING && (int64_t)uv_now(conn->loop) < conn->open_until) {
                /* The last of them: it has all the time that the others left. */
                uv_timer_start(timer, pg_on_timeout, (uint64_t)(conn->open_until - (int64_t)uv_now(conn->loop)), 0);
        } else if (conn->opened != NULL) {
                err_set(&err, ERR_BUSY, "connect_timeout", "PostgreSQL did not accept the connection in time");
                pg_break_off(conn);
                pg_report_opened(conn, &err);
        }
}

void pg_replace_option(struct pg_conn *conn, const char *keyword, const char *value)
{
        for (int i = 0; i < conn->options; i++)
                if (strcmp(conn->keywords[i], keyword) == 0) {
                        mem_free_secret(conn->values[i]);
                        conn->values[i] = mem_copy_text(value);
                        return;
                }
        assert(conn->options < PG_OPTIONS_LIMIT - 1);
        conn->keywords[conn->options] = mem_copy_text(keyword);
        conn->values[conn->options++] = mem_copy_text(value);
}

static void pg_add_option(struct pg_conn *conn, const char *keyword, const char *value)
{
        if (value != NULL && *value != '\0')
                pg_replace_option(conn, keyword, value);
}

const char *pg_option(const struct pg_conn *conn, const char *keyword)
{
        for (int i = 0; i < conn->options; i++)
                if (strcmp(conn->keywords[i], keyword) == 0)
                        return conn->values[i];
        return NULL;
}

bool pg_is_url(const char *url)
{
        PQconninfoOption *parsed = PQconninfoParse(url, NULL);

        PQconninfoFree(parsed);
        return parsed != NULL;
}

static bool pg_add_url(struct pg_conn *conn, const char *url)
{
        PQconninfoOption *parsed = PQconninfoParse(url, NULL);

        if (parsed == NULL)
                return false;
        for (PQconninfoOption *o = parsed; o->keyword != NULL; o++)
                pg_add_option(conn, o->keyword, o->val);
        PQconninfoFree(parsed);
        return true;
}

void pg_start_connect(struct pg_conn *conn)
{
        int64_t left = MAX(conn->open_until - (int64_t)uv_now(conn->loop), 0);
        struct err err;

        pg_enter(conn, PG_CONNECTING);
        uv_timer_start(&conn->timer->timer, pg_on_timeout, (uint64_t)(left / pg_hosts(conn)), 0);
        conn->pq = PQconnectStartParams((const char *const *)conn->keywords, (const char *const *)conn->values, 0);
        if (conn->pq != NULL && PQstatus(conn->pq) != CONNECTION_BAD) {
                pg_watch_socket(conn, UV_WRITABLE);
                return;
        }
        if (conn->pq != NULL)
                pg_error_of_connect(conn, &err);
        else
                err_set(&err, ERR_INTERNAL, "out_of_memory", "libpq has no memory");
        pg_break_off(conn);
        pg_report_opened(conn, &err);
}

void pg_fail_to_open(struct pg_conn *conn, const struct err *err)
{
        pg_break_off(conn);
        pg_report_opened(conn, err);
}

static void pg_on_start(uv_timer_t *timer)
{
        struct pg_conn *conn = CONTAINER_OF(timer, struct pg_timer, timer)->conn;

        int64_t timeout;

        if (conn == NULL)
                return;
        timeout = strtoll(pg_option(conn, "connect_timeout_ms"), NULL, 10);
        conn->open_until = (int64_t)uv_now(conn->loop) + timeout;
        uv_timer_start(timer, pg_on_timeout, (uint64_t)timeout, 0);
        free(conn->keywords[conn->options - 1]); /* ours, not libpq's; always the last one */
        free(conn->values[conn->options - 1]);
        conn->keywords[--conn->options] = NULL;
        conn->values[conn->options] = NULL;
        pg_resolve(conn);
}

struct pg_conn *pg_open(uv_loop_t *loop, const struct pg_target *target, pg_opened_fn opened, void *context)
{
        struct pg_conn *conn = NEW(struct pg_conn);
        char timeout[24];

        conn->magic = PG_MAGIC;
        conn->loop = loop;
        conn->opened = opened;
        conn->opened_context = context;
        conn->timer = NEW(struct pg_timer);
        conn->timer->conn = conn;
        uv_timer_init(loop, &conn->timer->timer);
        pg_add_option(conn, "client_encoding", "UTF8");
        if (target->url != NULL && !pg_add_url(conn, target->url))
                pg_add_option(conn, "host", "invalid database URL"); /* fails with this name, not the secret */
        pg_add_option(conn, "host", target->host);
        pg_add_option(conn, "port", target->port);
        pg_add_option(conn, "dbname", target->dbname);
        pg_add_option(conn, "user", target->user);
        pg_add_option(conn, "password", target->password);
        pg_add_option(conn, "application_name", target->application_name);
        pg_add_option(conn, "sslmode", target->sslmode);
        snprintf(timeout, sizeof(timeout), "%lld",
                 (long long)(target->connect_timeout_ms ? target->connect_timeout_ms : PG_DEFAULT_CONNECT_TIMEOUT));
        pg_add_option(conn, "connect_timeout_ms", timeout);
        uv_timer_start(&conn->timer->timer, pg_on_start, 0, 0); /* never call back before pg_open has returned */
        return conn;
}

bool pg_is_usable(const struct pg_conn *conn)
{
        return conn != NULL && (conn->state == PG_IDLE || conn->state == PG_BUSY);
}

void pg_on_lost(struct pg_conn *conn, pg_opened_fn lost, void *context)
{
        conn->lost = lost;
        conn->lost_context = context;
}
