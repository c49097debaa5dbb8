/* One asynchronous PostgreSQL connection on the loop. One statement at a time; results live during the callback. */
#pragma once

#include "common/base/err.h"

#include <uv.h>

struct pg_conn;
struct pg_rows;

/* Where to connect: a URL, or the single parts, or a URL whose parts are overridden. All borrowed during pg_open. */
struct pg_target {
        const char *url;
        const char *host, *port, *dbname, *user, *password;
        const char *application_name;
        const char *sslmode;        /* as libpq's; NULL = the URL's, or libpq's own default */
        const char *setup;          /* SQL that a pool runs first on each of its connections */
        int64_t connect_timeout_ms; /* 0 = 10 s */
        /* For our own database, the catalog: a statement that it cannot run (a function or a right is missing) is
         * ERR_OURS, not the failure of the caller's work. Only pools use this. */
        bool is_ours;
};

/* The target as an environment for PostgreSQL's own programs ("PGHOST=..."), since everybody can read a command line;
 * with the rest of our own environment added. Ends with NULL; pg_free_environment wipes and frees it. */
char **pg_environment(const struct pg_target *target);
void pg_free_environment(char **environment); /* NULL is fine */

/* Whether libpq can read the URL (or its own "name=value ..."). */
bool pg_is_url(const char *url);

typedef void (*pg_opened_fn)(void *context, const struct err *err);
typedef void (*pg_done_fn)(void *context, const struct pg_rows *rows, const struct err *err);

/* Starts to connect; host names are resolved off the loop. opened is called once, later: with NULL, or with the error
 * (ERR_AUTH wrong credentials, ERR_GONE no such database, ERR_BUSY anything transient). The caller owns the result and
 * ends it with pg_close, even after a failure. */
struct pg_conn *pg_open(uv_loop_t *loop, const struct pg_target *target, pg_opened_fn opened, void *context);
/* Ends the connection at once; no callback comes after it. NULL is fine. */
void pg_close(struct pg_conn *conn);
bool pg_is_usable(const struct pg_conn *conn);
/* Called when an idle connection is lost. */
void pg_on_lost(struct pg_conn *conn, pg_opened_fn lost, void *context);

/* One statement with text parameters ($1...; NULL = null), copied. done is called once, later. If the connection is
 * lost meanwhile, the outcome is unknown: ERR_BUSY with code "connection_lost". */
void pg_exec(struct pg_conn *conn, int64_t timeout_ms, const char *sql, size_t count, const char *const *params,
             pg_done_fn done, void *context);
/* Call right after pg_exec: when the time is up, more_time is asked (with done's context) how many more milliseconds
 * the statement may take; 0 or less = it is given up. */
typedef int64_t (*pg_more_time_fn)(void *context);
void pg_may_take_longer(struct pg_conn *conn, pg_more_time_fn more_time);
/* Several statements in one round trip (simple protocol), in one transaction unless they say otherwise. rows is the
 * last result. */
void pg_script(struct pg_conn *conn, int64_t timeout_ms, const char *sql, pg_done_fn done, void *context);
/* What PostgreSQL says about the failed statement, beyond the sentence in err; all 0 if it could not be asked. */
struct pg_failure {
        int statements;            /* of the script, that had succeeded before it */
        int64_t position;          /* of a character in the whole SQL, counted from 1; 0 if it points at none */
        const char *detail, *hint; /* NULL where there are none */
        bool in_transaction;       /* in a transaction begun earlier: only rollback ends it */
};
/* Only in the callback that was given the error; the texts are borrowed until it returns. */
struct pg_failure pg_failure(const struct pg_conn *conn);
/* Removes hosts, ports, users and databases from a message of libpq or its tools, in place: readers of errors (events,
 * a tenant's history) need not be allowed to connect. */
void pg_hide_names(char *message);
/* True if PostgreSQL could not run the statement at all, whatever its values: something it names is missing or
 * forbidden (SQLSTATE class 42), or not supported (0A). */
bool pg_cannot_run(const struct err *err);
/* As SQL literal; the caller frees. */
char *pg_quote_literal(struct pg_conn *conn, const char *text);

int pg_rows_count(const struct pg_rows *rows);
/* Values by column name; the texts are borrowed during the callback. A missing column is a bug. */
const char *pg_text(const struct pg_rows *rows, int row, const char *column); /* NULL for null */
int64_t pg_int(const struct pg_rows *rows, int row, const char *column);      /* 0 for null */
bool pg_bool(const struct pg_rows *rows, int row, const char *column);        /* false for null */
