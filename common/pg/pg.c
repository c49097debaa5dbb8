/* One asynchronous PostgreSQL connection on the loop: see pg.h. */
#include "common/pg/pg.h"

#include "common/base/memory.h"

#include <libpq-fe.h>
#include <string.h>

#define PG_MAGIC                   0x70677631
#define PG_DEFAULT_CONNECT_TIMEOUT SECONDS(10)
#define PG_OPTIONS_LIMIT           24

enum pg_state { PG_RESOLVING, PG_CONNECTING, PG_IDLE, PG_BUSY, PG_BROKEN };

/* uv handles outlive us by one loop turn, so each is an allocation of its own that points back while we live. */
struct pg_watch {
        uv_poll_t poll;
        struct pg_conn *conn;
};

struct pg_timer {
        uv_timer_t timer;
        struct pg_conn *conn;
};

struct pg_resolve {
        uv_getaddrinfo_t request;
        struct pg_conn *conn;
};

struct pg_conn {
        unsigned magic;
        uv_loop_t *loop;
        enum pg_state state;
        PGconn *pq;
        struct pg_watch *watch;
        int watched_fd, watched_events;
        struct pg_timer *timer;
        struct pg_resolve *resolve;
        char *keywords[PG_OPTIONS_LIMIT], *values[PG_OPTIONS_LIMIT];
        int options;
        pg_opened_fn opened, lost;
        void *opened_context, *lost_context;
        pg_done_fn done;
        void *done_context;
        PGresult *last;
        bool in_callback, closed;
};

struct pg_rows {
        const PGresult *result;
};

static void on_poll(uv_poll_t *poll, int status, int events);

static void free_watch(uv_handle_t *handle)
{
        free(CONTAINER_OF(handle, struct pg_watch, poll));
}

static void free_timer(uv_handle_t *handle)
{
        free(CONTAINER_OF(handle, struct pg_timer, timer));
}

static void unwatch(struct pg_conn *conn)
{
        if (conn->watch == NULL)
                return;
        uv_poll_stop(&conn->watch->poll);
        conn->watch->conn = NULL;
        uv_close((uv_handle_t *)&conn->watch->poll, free_watch);
        conn->watch = NULL;
}

/* libpq may open another socket while connecting (next address, SSL refused): then the handle is made anew. */
static void watch(struct pg_conn *conn, int events)
{
        int fd = PQsocket(conn->pq);

        if (conn->watch != NULL && conn->watched_fd == fd && conn->watched_events == events)
                return;
        if (conn->watch != NULL && conn->watched_fd != fd)
                unwatch(conn);
        if (conn->watch == NULL) {
                conn->watch = NEW(struct pg_watch);
                conn->watch->conn = conn;
                uv_poll_init(conn->loop, &conn->watch->poll, fd);
                conn->watched_fd = fd;
        }
        conn->watched_events = events;
        uv_poll_start(&conn->watch->poll, events, on_poll);
}

static void stop_timer(struct pg_conn *conn)
{
        uv_timer_stop(&conn->timer->timer);
}

static void free_conn(struct pg_conn *conn)
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
        unwatch(conn);
        conn->timer->conn = NULL;
        uv_close((uv_handle_t *)&conn->timer->timer, free_timer);
        if (conn->resolve != NULL) {
                uv_cancel((uv_req_t *)&conn->resolve->request);
                conn->resolve->conn = NULL;
        }
        PQfinish(conn->pq);
        conn->pq = NULL;
        if (!conn->in_callback)
                free_conn(conn);
}

/* Runs a callback that may call pg_close; says whether the connection is still there afterwards. */
static bool still_there(struct pg_conn *conn)
{
        conn->in_callback = false;
        if (!conn->closed)
                return true;
        free_conn(conn);
        return false;
}

static void break_off(struct pg_conn *conn)
{
        conn->state = PG_BROKEN;
        unwatch(conn);
        stop_timer(conn);
}

static bool report_opened(struct pg_conn *conn, const struct err *err)
{
        pg_opened_fn opened = conn->opened;

        conn->opened = NULL;
        conn->in_callback = true;
        opened(conn->opened_context, err);
        return still_there(conn);
}

static bool report_done(struct pg_conn *conn, const PGresult *result, const struct err *err)
{
        pg_done_fn done = conn->done;
        struct pg_rows rows = { result };

        conn->done = NULL;
        conn->in_callback = true;
        done(conn->done_context, err ? NULL : &rows, err);
        return still_there(conn);
}

static void copy_message(char *out, size_t size, const char *message)
{
        size_t length;

        snprintf(out, size, "%s", message ? message : "no message");
        length = strlen(out);
        while (length > 0 && (out[length - 1] == '\n' || out[length - 1] == ' '))
                out[--length] = '\0';
        for (char *p = out; *p; p++)
                if (*p == '\n')
                        *p = ' ';
}

void pg_hide_names(char *message)
{
        static const char *const words[] = { "user \"", "role \"", "database \"", "host name \"", "host \"" };
        char *from, *to;

        while ((from = strstr(message, "connection to server ")) != NULL && (to = strstr(from, " failed: ")) != NULL)
                memmove(from, to + strlen(" failed: "), strlen(to + strlen(" failed: ")) + 1);
        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                for (from = message;
                     (from = strstr(from, words[i])) != NULL && (to = strchr(from + strlen(words[i]), '"'));
                     from = to) {
                        from += strlen(words[i]);
                        memmove(from, to, strlen(to) + 1);
                        to = from;
                }
}

static enum err_class class_of_sqlstate(const char *state)
{
        static const struct {
                const char *prefix;
                enum err_class class;
        } classes[] = {
                { "08", ERR_BUSY },        { "40", ERR_BUSY },    { "53", ERR_BUSY },        { "55P03", ERR_BUSY },
                { "55006", ERR_BUSY },     { "57014", ERR_BUSY }, { "57P", ERR_BUSY },       { "25006", ERR_BUSY },
                { "28", ERR_AUTH },        { "3D000", ERR_GONE }, { "23505", ERR_CONFLICT }, { "42P04", ERR_CONFLICT },
                { "42710", ERR_CONFLICT }, { "TN409", ERR_BUSY }, { "TN404", ERR_GONE },     { "TN400", ERR_INPUT },
                { "22", ERR_INPUT },       { "23", ERR_INPUT },   { "42501", ERR_AUTH },
        };

        for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
                if (strncmp(state, classes[i].prefix, strlen(classes[i].prefix)) == 0)
                        return classes[i].class;
        return ERR_PERMANENT;
}

static void error_of_result(const struct pg_conn *conn, const PGresult *result, struct err *err)
{
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
        char message[320];

        if (state == NULL || PQstatus(conn->pq) == CONNECTION_BAD) {
                err_set(err, ERR_BUSY, "connection_lost", "the connection to PostgreSQL was lost%s%s",
                        state ? ": " : "", state ? state : "");
                return;
        }
        copy_message(message, sizeof(message), text);
        err_set(err, class_of_sqlstate(state), state, "PostgreSQL: %s (SQLSTATE %s)", message, state);
}

/* While connecting libpq offers only text. Credentials are never part of it. */
static void error_of_connect(const struct pg_conn *conn, struct err *err)
{
        const char *text = PQerrorMessage(conn->pq);
        char message[300];
        enum err_class class = ERR_BUSY;

        copy_message(message, sizeof(message), text);
        pg_hide_names(message);
        if (strstr(text, "password authentication failed") || strstr(text, "no pg_hba.conf entry") ||
            strstr(text, "is not permitted to log in") || strstr(text, "permission denied for database"))
                class = ERR_AUTH;
        else if (strstr(text, "does not exist") != NULL)
                class = ERR_GONE;
        err_set(err, class, "connect_failed", "cannot connect to PostgreSQL: %s", message);
}

/* Notices ("already exists, skipping") are no news to anybody, and libpq would print them among our log lines. */
static void ignore_notice(void *context, const char *text)
{
        (void)context;
        (void)text;
}

static void drive_connect(struct pg_conn *conn)
{
        struct err err;

        switch (PQconnectPoll(conn->pq)) {
        case PGRES_POLLING_READING:
                watch(conn, UV_READABLE);
                return;
        case PGRES_POLLING_WRITING:
                watch(conn, UV_WRITABLE);
                return;
        case PGRES_POLLING_OK:
                stop_timer(conn);
                PQsetnonblocking(conn->pq, 1);
                PQsetNoticeProcessor(conn->pq, ignore_notice, NULL);
                conn->state = PG_IDLE;
                watch(conn, UV_READABLE);
                report_opened(conn, NULL);
                return;
        default:
                error_of_connect(conn, &err);
                break_off(conn);
                report_opened(conn, &err);
        }
}

static void finish_statement(struct pg_conn *conn)
{
        PGresult *result = TAKE_PTR(conn->last);
        ExecStatusType status = PQresultStatus(result);
        struct err err;

        stop_timer(conn);
        if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY) {
                conn->state = PG_IDLE;
                report_done(conn, result, NULL);
        } else {
                error_of_result(conn, result, &err);
                if (PQstatus(conn->pq) == CONNECTION_BAD)
                        break_off(conn);
                else
                        conn->state = PG_IDLE;
                report_done(conn, NULL, &err);
        }
        PQclear(result);
}

static void lose(struct pg_conn *conn)
{
        bool was_busy = conn->state == PG_BUSY;
        struct err err;

        err_set(&err, ERR_BUSY, "connection_lost", "the connection to PostgreSQL was lost");
        break_off(conn);
        PQclear(TAKE_PTR(conn->last));
        if (was_busy) {
                report_done(conn, NULL, &err);
        } else if (conn->lost != NULL) {
                conn->in_callback = true;
                conn->lost(conn->lost_context, &err);
                still_there(conn);
        }
}

/* Of several results (a script) the first error counts, else the last one. */
static void keep_result(struct pg_conn *conn, PGresult *result)
{
        if (conn->last != NULL && PQresultStatus(conn->last) == PGRES_FATAL_ERROR) {
                PQclear(result);
                return;
        }
        PQclear(conn->last);
        conn->last = result;
}

static bool is_copy(const PGresult *result)
{
        ExecStatusType status = PQresultStatus(result);

        return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

/* COPY ... from stdin waits for data that nobody has, and libpq would show the same result for ever. */
static void refuse_copy(struct pg_conn *conn, PGresult *result)
{
        struct err err;

        err_set(&err, ERR_PERMANENT, "copy_refused", "copy from stdin and copy to stdout are not possible here");
        PQclear(result);
        PQclear(TAKE_PTR(conn->last));
        break_off(conn);
        report_done(conn, NULL, &err);
}

static void drive_statement(struct pg_conn *conn)
{
        PGresult *result;

        if (PQflush(conn->pq) == 1)
                watch(conn, UV_READABLE | UV_WRITABLE);
        else
                watch(conn, UV_READABLE);
        if (PQconsumeInput(conn->pq) == 0) {
                lose(conn);
                return;
        }
        while (!PQisBusy(conn->pq)) {
                result = PQgetResult(conn->pq);
                if (result == NULL) {
                        if (conn->last == NULL)
                                lose(conn);
                        else
                                finish_statement(conn);
                        return;
                }
                if (is_copy(result)) {
                        refuse_copy(conn, result);
                        return;
                }
                keep_result(conn, result);
        }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
        struct pg_conn *conn = CONTAINER_OF(poll, struct pg_watch, poll)->conn;

        (void)events;
        (void)status; /* libpq finds out what is wrong with the socket, and says it better */
        if (conn == NULL)
                return;
        CHECK_MAGIC(conn, PG_MAGIC);
        if (conn->state == PG_CONNECTING)
                drive_connect(conn);
        else if (conn->state == PG_BUSY)
                drive_statement(conn);
        else if (conn->state == PG_IDLE && (PQconsumeInput(conn->pq) == 0 || PQstatus(conn->pq) == CONNECTION_BAD))
                lose(conn);
}

static void on_timeout(uv_timer_t *timer)
{
        struct pg_conn *conn = CONTAINER_OF(timer, struct pg_timer, timer)->conn;
        struct err err;

        if (conn == NULL)
                return;
        if (conn->state == PG_BUSY) {
                err_set(&err, ERR_BUSY, "statement_timeout", "PostgreSQL did not answer in time");
                break_off(conn);
                report_done(conn, NULL, &err);
        } else if (conn->opened != NULL) {
                err_set(&err, ERR_BUSY, "connect_timeout", "PostgreSQL did not accept the connection in time");
                break_off(conn);
                report_opened(conn, &err);
        }
}

static void add_option(struct pg_conn *conn, const char *keyword, const char *value)
{
        if (value == NULL || *value == '\0')
                return;
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

static const char *option(const struct pg_conn *conn, const char *keyword)
{
        for (int i = 0; i < conn->options; i++)
                if (strcmp(conn->keywords[i], keyword) == 0)
                        return conn->values[i];
        return NULL;
}

static bool add_url(struct pg_conn *conn, const char *url)
{
        PQconninfoOption *parsed = PQconninfoParse(url, NULL);

        if (parsed == NULL)
                return false;
        for (PQconninfoOption *o = parsed; o->keyword != NULL; o++)
                add_option(conn, o->keyword, o->val);
        PQconninfoFree(parsed);
        return true;
}

static void start_connect(struct pg_conn *conn)
{
        struct err err;

        conn->state = PG_CONNECTING;
        conn->pq = PQconnectStartParams((const char *const *)conn->keywords, (const char *const *)conn->values, 0);
        if (conn->pq != NULL && PQstatus(conn->pq) != CONNECTION_BAD) {
                watch(conn, UV_WRITABLE);
                return;
        }
        if (conn->pq != NULL)
                error_of_connect(conn, &err);
        else
                err_set(&err, ERR_INTERNAL, "out_of_memory", "libpq has no memory");
        break_off(conn);
        report_opened(conn, &err);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
        struct pg_resolve *resolve = CONTAINER_OF(request, struct pg_resolve, request);
        struct pg_conn *conn = resolve->conn;
        char address[INET6_ADDRSTRLEN] = "";
        struct err err;

        free(resolve);
        if (conn != NULL) {
                conn->resolve = NULL;
                if (status == 0 && found->ai_family == AF_INET)
                        uv_ip4_name((struct sockaddr_in *)(void *)found->ai_addr, address, sizeof(address));
                else if (status == 0)
                        uv_ip6_name((struct sockaddr_in6 *)(void *)found->ai_addr, address, sizeof(address));
        }
        uv_freeaddrinfo(found);
        if (conn == NULL)
                return;
        if (status == 0) {
                add_option(conn, "hostaddr", address);
                start_connect(conn);
                return;
        }
        err_set(&err, ERR_BUSY, "resolve_failed", "the database host %s has no address: %s", option(conn, "host"),
                uv_strerror(status));
        break_off(conn);
        report_opened(conn, &err);
}

static void on_start(uv_timer_t *timer)
{
        struct pg_conn *conn = CONTAINER_OF(timer, struct pg_timer, timer)->conn;
        const char *host;
        struct in6_addr ignored;

        if (conn == NULL)
                return;
        uv_timer_start(timer, on_timeout, (uint64_t)strtoll(option(conn, "connect_timeout_ms"), NULL, 10), 0);
        free(conn->keywords[conn->options - 1]); /* ours, not libpq's; always the last one */
        free(conn->values[conn->options - 1]);
        conn->keywords[--conn->options] = NULL;
        conn->values[conn->options] = NULL;
        host = option(conn, "host");
        if (host == NULL || *host == '/' || option(conn, "hostaddr") || strchr(host, ',') ||
            uv_inet_pton(AF_INET, host, &ignored) == 0 || uv_inet_pton(AF_INET6, host, &ignored) == 0) {
                start_connect(conn);
                return;
        }
        conn->resolve = NEW(struct pg_resolve);
        conn->resolve->conn = conn;
        if (uv_getaddrinfo(conn->loop, &conn->resolve->request, on_resolved, host, NULL,
                           &(struct addrinfo){ .ai_socktype = SOCK_STREAM }) == 0)
                return;
        free(TAKE_PTR(conn->resolve));
        start_connect(conn);
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
        add_option(conn, "client_encoding", "UTF8");
        if (target->url != NULL && !add_url(conn, target->url))
                add_option(conn, "host", "invalid database URL"); /* fails with that name, not with the URL's secret */
        add_option(conn, "host", target->host);
        add_option(conn, "port", target->port);
        add_option(conn, "dbname", target->dbname);
        add_option(conn, "user", target->user);
        add_option(conn, "password", target->password);
        add_option(conn, "application_name", target->application_name);
        add_option(conn, "options", target->options);
        add_option(conn, "sslmode", target->sslmode);
        snprintf(timeout, sizeof(timeout), "%lld",
                 (long long)(target->connect_timeout_ms ? target->connect_timeout_ms : PG_DEFAULT_CONNECT_TIMEOUT));
        add_option(conn, "connect_timeout_ms", timeout);
        conn->state = PG_RESOLVING;
        uv_timer_start(&conn->timer->timer, on_start, 0, 0); /* never call back before pg_open has returned */
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

static void on_not_sent(uv_timer_t *timer)
{
        struct pg_conn *conn = CONTAINER_OF(timer, struct pg_timer, timer)->conn;

        if (conn != NULL)
                lose(conn);
}

static void after_send(struct pg_conn *conn, int sent, int64_t timeout_ms, pg_done_fn done, void *context)
{
        conn->state = PG_BUSY;
        conn->done = done;
        conn->done_context = context;
        if (!sent) {
                uv_timer_start(&conn->timer->timer, on_not_sent, 0, 0);
                return;
        }
        uv_timer_start(&conn->timer->timer, on_timeout, (uint64_t)timeout_ms, 0);
        watch(conn, PQflush(conn->pq) == 1 ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

void pg_exec(struct pg_conn *conn, int64_t timeout_ms, const char *sql, size_t count, const char *const *params,
             pg_done_fn done, void *context)
{
        int sent = 0;

        CHECK_MAGIC(conn, PG_MAGIC);
        assert(conn->state == PG_IDLE || conn->state == PG_BROKEN);
        if (conn->state == PG_IDLE)
                sent = PQsendQueryParams(conn->pq, sql, (int)count, NULL, params, NULL, NULL, 0);
        after_send(conn, sent, timeout_ms, done, context);
}

void pg_script(struct pg_conn *conn, int64_t timeout_ms, const char *sql, pg_done_fn done, void *context)
{
        int sent = 0;

        CHECK_MAGIC(conn, PG_MAGIC);
        assert(conn->state == PG_IDLE || conn->state == PG_BROKEN);
        if (conn->state == PG_IDLE)
                sent = PQsendQuery(conn->pq, sql);
        after_send(conn, sent, timeout_ms, done, context);
}

static char *copy_and_free(char *text)
{
        char *copy = mem_copy_text(text);

        PQfreemem(text);
        return copy;
}

char *pg_quote_literal(struct pg_conn *conn, const char *text)
{
        return copy_and_free(PQescapeLiteral(conn->pq, text, strlen(text)));
}

int pg_rows_count(const struct pg_rows *rows)
{
        return PQntuples(rows->result);
}

const char *pg_text(const struct pg_rows *rows, int row, const char *column)
{
        int field = PQfnumber(rows->result, column);

        assert(field >= 0);
        return PQgetisnull(rows->result, row, field) ? NULL : PQgetvalue(rows->result, row, field);
}

int64_t pg_int(const struct pg_rows *rows, int row, const char *column)
{
        const char *text = pg_text(rows, row, column);

        return text ? strtoll(text, NULL, 10) : 0;
}

bool pg_bool(const struct pg_rows *rows, int row, const char *column)
{
        const char *text = pg_text(rows, row, column);

        return text != NULL && *text == 't';
}
