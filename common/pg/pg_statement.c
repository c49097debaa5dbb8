/* Statements on a connection, and their rows: see pg.h. */
#include "common/base/memory.h"
#include "common/pg/pg_private.h"

#include <string.h>

struct pg_rows {
        const PGresult *result;
};

bool pg_report_done(struct pg_conn *conn, const PGresult *result, const struct err *err)
{
        pg_done_fn done = conn->done;
        struct pg_rows rows = { .result = result };

        conn->done = NULL;
        conn->in_callback = true;
        done(conn->done_context, err ? NULL : &rows, err);
        return pg_still_there(conn);
}

static void pg_finish_statement(struct pg_conn *conn)
{
        PGresult *result = TAKE_PTR(conn->last);
        ExecStatusType status = PQresultStatus(result);
        struct err err;

        pg_stop_timer(conn);
        if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY) {
                pg_enter(conn, PG_IDLE);
                pg_report_done(conn, result, NULL);
        } else {
                pg_error_of_result(conn, result, &err);
                if (PQstatus(conn->pq) == CONNECTION_BAD)
                        pg_break_off(conn);
                else
                        pg_enter(conn, PG_IDLE);
                conn->failed = result;
                if (pg_report_done(conn, NULL, &err))
                        conn->failed = NULL;
        }
        PQclear(result);
}

/* Of several results (a script) the first error counts, otherwise the last result. */
static void pg_keep_result(struct pg_conn *conn, PGresult *result)
{
        if (conn->last != NULL && PQresultStatus(conn->last) == PGRES_FATAL_ERROR) {
                PQclear(result);
                return;
        }
        conn->results += PQresultStatus(result) != PGRES_FATAL_ERROR;
        PQclear(conn->last);
        conn->last = result;
}

static bool pg_is_copy(const PGresult *result)
{
        ExecStatusType status = PQresultStatus(result);

        return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

/* COPY ... from stdin waits for data that nobody has, and libpq would return the same result for ever. */
static void pg_refuse_copy(struct pg_conn *conn, PGresult *result)
{
        struct err err;

        err_set(&err, ERR_PERMANENT, "copy_refused", "copy from stdin and copy to stdout are not possible here");
        PQclear(result);
        PQclear(TAKE_PTR(conn->last));
        pg_break_off(conn);
        pg_report_done(conn, NULL, &err);
}

void pg_drive_statement(struct pg_conn *conn)
{
        PGresult *result;

        if (PQflush(conn->pq) == 1)
                pg_watch_socket(conn, UV_READABLE | UV_WRITABLE);
        else
                pg_watch_socket(conn, UV_READABLE);
        if (PQconsumeInput(conn->pq) == 0) {
                pg_lose(conn);
                return;
        }
        while (!PQisBusy(conn->pq)) {
                result = PQgetResult(conn->pq);
                if (result == NULL) {
                        if (conn->last == NULL)
                                pg_lose(conn);
                        else
                                pg_finish_statement(conn);
                        return;
                }
                if (pg_is_copy(result)) {
                        pg_refuse_copy(conn, result);
                        return;
                }
                pg_keep_result(conn, result);
        }
}

static void pg_on_not_sent(uv_timer_t *timer)
{
        struct pg_conn *conn = CONTAINER_OF(timer, struct pg_timer, timer)->conn;

        if (conn != NULL)
                pg_lose(conn);
}

static void pg_after_send(struct pg_conn *conn, int sent, int64_t timeout_ms, pg_done_fn done, void *context)
{
        pg_enter(conn, PG_BUSY);
        conn->done = done;
        conn->done_context = context;
        conn->more_time = NULL;
        conn->results = 0;
        if (!sent) {
                uv_timer_start(&conn->timer->timer, pg_on_not_sent, 0, 0);
                return;
        }
        uv_timer_start(&conn->timer->timer, pg_on_timeout, (uint64_t)timeout_ms, 0);
        pg_watch_socket(conn, PQflush(conn->pq) == 1 ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

void pg_exec(struct pg_conn *conn, int64_t timeout_ms, const char *sql, size_t count, const char *const *params,
             pg_done_fn done, void *context)
{
        int sent = 0;

        CHECK_MAGIC(conn, PG_MAGIC);
        assert(conn->state == PG_IDLE || conn->state == PG_BROKEN);
        if (conn->state == PG_IDLE)
                sent = PQsendQueryParams(conn->pq, sql, (int)count, NULL, params, NULL, NULL, 0);
        pg_after_send(conn, sent, timeout_ms, done, context);
}

void pg_may_take_longer(struct pg_conn *conn, pg_more_time_fn more_time)
{
        CHECK_MAGIC(conn, PG_MAGIC);
        assert(conn->state == PG_BUSY);
        conn->more_time = more_time;
}

void pg_script(struct pg_conn *conn, int64_t timeout_ms, const char *sql, pg_done_fn done, void *context)
{
        int sent = 0;

        CHECK_MAGIC(conn, PG_MAGIC);
        assert(conn->state == PG_IDLE || conn->state == PG_BROKEN);
        if (conn->state == PG_IDLE)
                sent = PQsendQuery(conn->pq, sql);
        pg_after_send(conn, sent, timeout_ms, done, context);
}

struct pg_failure pg_failure(const struct pg_conn *conn)
{
        const char *position = PQresultErrorField(conn->failed, PG_DIAG_STATEMENT_POSITION);

        CHECK_MAGIC(conn, PG_MAGIC);
        return (struct pg_failure){
                .statements = conn->failed ? conn->results : 0,
                .position = position ? strtoll(position, NULL, 10) : 0,
                .detail = PQresultErrorField(conn->failed, PG_DIAG_MESSAGE_DETAIL),
                .hint = PQresultErrorField(conn->failed, PG_DIAG_MESSAGE_HINT),
                .in_transaction = conn->failed && PQtransactionStatus(conn->pq) == PQTRANS_INERROR,
        };
}

static char *pg_copy_and_free(char *text)
{
        char *copy = mem_copy_text(text);

        PQfreemem(text);
        return copy;
}

char *pg_quote_literal(struct pg_conn *conn, const char *text)
{
        return pg_copy_and_free(PQescapeLiteral(conn->pq, text, strlen(text)));
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
