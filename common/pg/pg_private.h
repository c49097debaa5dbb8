/* What pg.c (a connection's life), pg_resolve.c (its hosts), pg_statement.c (statements on it) and pg_error.c (what
 * went wrong) share. */
#pragma once

#include "common/pg/pg.h"

#include <libpq-fe.h>

#define PG_MAGIC         0x70677631
#define PG_OPTIONS_LIMIT 24

enum pg_state {
        PG_RESOLVING,  /* looks for the host's address */
        PG_CONNECTING, /* libpq is at it */
        PG_IDLE,
        PG_BUSY,   /* a statement is under way, or its failure not told yet */
        PG_BROKEN, /* of no further use: statements fail, and what is left is pg_close */
};

/* uv handles outlive us by one loop turn, so each is an allocation of its own that points back while we live. */
struct pg_watch {
        uv_poll_t poll;
        struct pg_conn *conn;
};

struct pg_timer {
        uv_timer_t timer;
        struct pg_conn *conn;
};

struct pg_resolve; /* the look-up of the hosts' addresses, while it is under way */

struct pg_conn {
        unsigned magic;
        uv_loop_t *loop;
        enum pg_state state; /* pg_enter alone changes it */
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
        pg_more_time_fn more_time;
        PGresult *last;
        const PGresult *failed; /* during the callback that is told of it */
        int results;            /* good ones of the statements under way */
        int64_t open_until;     /* on the loop's clock: for all hosts together */
        bool in_callback, closed;
};

/* The next state; only the ways in pg.c's table are open. */
void pg_enter(struct pg_conn *conn, enum pg_state next);
/* The socket, whichever it is by now, is watched for these events. */
void pg_watch_socket(struct pg_conn *conn, int events);
void pg_stop_timer(struct pg_conn *conn);
/* The statement or the connecting took too long. */
void pg_on_timeout(uv_timer_t *timer);
/* No further use: what is left is pg_close. */
void pg_break_off(struct pg_conn *conn);
/* After a callback, which may have called pg_close. */
bool pg_still_there(struct pg_conn *conn);
/* The connection has gone: tells whoever waits. */
void pg_lose(struct pg_conn *conn);

/* A parameter of the connection, in the place of the one that it has; "" = libpq's own choice. */
void pg_replace_option(struct pg_conn *conn, const char *keyword, const char *value);
const char *pg_option(const struct pg_conn *conn, const char *keyword);
/* libpq's turn, with all addresses known. */
void pg_start_connect(struct pg_conn *conn);
/* It comes to nothing: tells whoever opened it. */
void pg_fail_to_open(struct pg_conn *conn, const struct err *err);

/* pg_resolve.c: looks up the addresses, then pg_start_connect or pg_fail_to_open follows; when the connection is closed
 * before, neither. */
void pg_resolve(struct pg_conn *conn);
void pg_forget_resolve(struct pg_conn *conn);
/* How many hosts are left to be tried, 1 at least. */
int pg_hosts(const struct pg_conn *conn);
/* Takes the one at which libpq is out of the list; false where it is the only one. */
bool pg_leave_host(struct pg_conn *conn);

/* pg_statement.c: takes in what the server sent; tells the outcome of the statement (result borrowed). */
void pg_drive_statement(struct pg_conn *conn);
bool pg_report_done(struct pg_conn *conn, const PGresult *result, const struct err *err);

void pg_error_of_result(const struct pg_conn *conn, const PGresult *result, struct err *err);
void pg_error_of_connect(const struct pg_conn *conn, struct err *err);
